"""Residual networks against loops."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import neuron_loops as loops
from polysem.features import ExclusiveFeatures, SparseGaussian, SparseSign
from polysem.zoo import HiddenLayerModel, ResidualMLP, TopK, expected_loss

NAMES = ["identity", "relu", "gelu", "solu", "topk", "bilinear"]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_model(
    activation: str, target: str = "identity", n_inst: int = 1, n_layers: int = 2, output: str = "identity"
) -> ResidualMLP:
    act = TopK(2) if activation == "topk" else activation
    model = ResidualMLP(3, 2, n_layers=n_layers, d_mlp=4, n_inst=n_inst, activation=act, target=target, output=output)
    loops.randomise(model, 0)
    return model


def loop_streams(model: ResidualMLP, activation: str, x: list[float], inst: int) -> list[list[float]]:
    states = [loops.times(x, model.W_E[inst].tolist())]
    for layer in range(model.n_layers):
        gate = None if model.W_gate is None else model.W_gate[inst, layer]
        h = loops.neurons(states[-1], model.W_in[inst, layer], model.b_in[inst, layer], gate, activation)
        states.append(loops.plus(states[-1], loops.times(h, model.W_out[inst, layer].tolist())))
    return states


def loop_outputs(model: ResidualMLP, activation: str, x: list[float], inst: int) -> list[float]:
    z = loops.times(loop_streams(model, activation, x, inst)[-1], model.W_U[inst].tolist())
    if model.b_out is None:
        return z
    assert isinstance(model.output, str)
    return loops.LAYERS[model.output](loops.plus(z, model.b_out[inst].tolist()))


@pytest.mark.parametrize("activation", NAMES)
@pytest.mark.parametrize(("target", "output"), [("identity", "identity"), ("abs", "identity"), ("abs", "relu")])
def test_streams_outputs_and_losses_equal_a_loop(activation: str, target: str, output: str) -> None:
    model = random_model(activation, target, n_inst=2, n_layers=3, output=output)
    v = torch.rand(2, 3, generator=seeded(1), dtype=torch.float64)
    x = torch.randn(4, 2, 3, generator=seeded(2), dtype=torch.float64)
    states = torch.zeros(4, 4, 2, 2, dtype=torch.float64)
    y, loss = torch.zeros(4, 2, 3, dtype=torch.float64), torch.zeros(4, 2, dtype=torch.float64)
    for s, i in itertools.product(range(4), range(2)):
        states[:, s, i] = torch.tensor(loop_streams(model, activation, x[s, i].tolist(), i), dtype=torch.float64)
        outputs = loop_outputs(model, activation, x[s, i].tolist(), i)
        y[s, i] = torch.tensor(outputs, dtype=torch.float64)
        loss[s, i] = loops.loss(x[s, i].tolist(), outputs, target, v[i].tolist())
    assert_close(torch.stack(model.streams(x)).detach(), states)
    assert_close(model(x).detach(), y)
    assert_close(model.per_sample_loss(x, v).detach(), loss)
    assert_close(model(x[:, :1]), model(x[:, :1].expand(4, 2, 3)))


@pytest.mark.parametrize("activation", NAMES)
@pytest.mark.parametrize("output", ["identity", "gelu"])
def test_the_plain_network_of_an_instance_has_its_streams(activation: str, output: str) -> None:
    model = random_model(activation, n_inst=3, output=output)
    x = torch.randn(7, 3, generator=seeded(1), dtype=torch.float64)
    network = model.network(1)
    state, streams = x, model.streams(x[:, None].expand(-1, 3, -1))
    for part, stream in zip(network[: len(streams)], streams, strict=True):
        state = part(state)
        assert_close(state, stream[:, 1])
    names = [*(f"block_{k}" for k in (1, 2)), "outputs", *([] if output == "identity" else ["act"])]
    assert [name for name, _ in network.named_children()] == ["embed", *names]
    assert_close(network(x), model(x[:, None])[:, 1])
    assert_close(network(x.reshape(7, 1, 3)), network(x)[:, None])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert (model(x[:, None]) != 0).any()  # the network is a copy


@pytest.mark.parametrize("activation", NAMES)
def test_sampled_loss_equals_a_loop(activation: str) -> None:
    features = ExclusiveFeatures(SparseGaussian([0.3, 0.2, 0.25], standardise=True), [[0, 2]])
    model, v, n = random_model(activation), [1.0, 0.4, 2.0], 30
    sampled = expected_loss(model, features, v, method="sampled", n_samples=n, generator=seeded(3))
    x, weight = features.sample_active(n, generator=seeded(3))
    losses = [loops.loss(one, loop_outputs(model, activation, one, 0), "identity", v) for one in x.tolist()]
    at_rest = loops.loss([0.0] * 3, loop_outputs(model, activation, [0.0] * 3, 0), "identity", v)
    mean, chance = sum(losses) / n, weight.item()
    variance = sum((loss - mean) ** 2 for loss in losses) / (n - 1)
    assert_close(chance, 1 - 0.8 * 0.45, rtol=1e-12, atol=0)
    assert_close(sampled.value.item(), chance * mean + (1 - chance) * at_rest, rtol=1e-12, atol=0)
    assert_close(sampled.stderr.item(), chance * math.sqrt(variance / n), rtol=1e-10, atol=0)


def test_sampled_loss_equals_enumeration() -> None:
    p, v = [0.4, 0.1, 0.2], [1.0, 0.4, 2.0]
    model = random_model("relu", "abs")
    truth = sum(
        chance * loops.loss(x, loop_outputs(model, "relu", x, 0), "abs", v)
        for chance, x in loops.signs(loops.independent(p))
    )
    sampled = expected_loss(model, SparseSign(p), v, method="sampled", n_samples=100_000, generator=seeded(4))
    assert abs(sampled.value.item() - truth) < 4 * sampled.stderr.item()
    assert sampled.stderr.item() < 0.02 * truth


@pytest.mark.parametrize("activation", ["gelu", "topk", "bilinear"])
def test_sample_losses_have_gradients_by_all_parameters(activation: str) -> None:
    model = random_model(activation, "abs", output="softplus" if activation == "gelu" else "identity")
    x = torch.randn(2, 1, 3, generator=seeded(5), dtype=torch.float64)
    names = [name for name, _ in model.named_parameters()]

    def errors(*values: Tensor) -> Tensor:
        out = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (x,))
        return (out - x.abs()).square()

    assert torch.autograd.gradcheck(errors, tuple(model.parameters()))
    model.per_sample_loss(x, [1.0, 1.0, 1.0]).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("trained", [True, False])
def test_embedding_is_trained_or_stays(trained: bool) -> None:
    model = ResidualMLP(5, 3, n_layers=1, d_mlp=4, n_inst=2, train_embedding=trained, generator=seeded(6))
    assert ("W_E" in dict(model.named_parameters())) == trained
    assert "W_E" in model.state_dict()
    norms = torch.linalg.vector_norm(model.W_E.detach(), dim=-1)
    assert_close(norms, torch.ones(2, 5, dtype=torch.float64))
    assert_close(model.W_U, model.W_E.mT)
    assert_close(model.embedding, model.W_E)
    assert_close(model.readout, model.W_U.mT)
    x = torch.randn(7, 1, 5, generator=seeded(7), dtype=torch.float64)
    model.per_sample_loss(x, [1.0] * 5).sum().backward()
    assert (model.W_E.grad is not None) == trained


def test_start_is_seeded_and_of_the_stated_size() -> None:
    first, again = (ResidualMLP(6, 30, n_layers=3, d_mlp=40, generator=seeded(8)) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not first.b_in.any()
    assert first.W_gate is None
    for rows in (first.W_in.detach().mT, first.W_out.detach()):
        sizes = rows.square().sum(-1)
        assert sizes.shape == (1, 3, 40)
        assert abs(sizes.mean().item() - 0.25) < 5 * sizes.std().item() / math.sqrt(120)
    single = ResidualMLP(6, 30, n_layers=3, d_mlp=40, activation="bilinear", dtype=torch.float32)
    assert {parameter.dtype for parameter in single.parameters()} == {torch.float32}


def test_linear_response_is_the_product_of_the_layers() -> None:
    model = random_model("identity", n_inst=2, n_layers=3)
    product = model.W_E
    for layer in range(3):
        product = product + product @ model.W_in[:, layer] @ model.W_out[:, layer]
    assert_close(model.response(), (product @ model.W_U).mT)


def test_repr_says_what_it_is() -> None:
    assert repr(random_model("relu")) == (
        "ResidualMLP(n_features=3, d_hidden=2, n_inst=1, activation='relu', target='identity', n_layers=2, d_mlp=4)"
    )
    assert repr(random_model("relu", output="relu")).endswith("n_layers=2, d_mlp=4, output='relu')")
    assert "activation=TopK(k=2)" in repr(HiddenLayerModel(3, 2, activation=TopK(2)))


@pytest.mark.bad_input
def test_bad_arguments_are_refused() -> None:
    good = {"n_layers": 2, "d_mlp": 3}
    for name in good:
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
            ResidualMLP(2, 2, **{**good, name: 0})
    with pytest.raises(ValueError, match="k must be at most the number of neurons, 3, got 4"):
        ResidualMLP(2, 5, **good, activation=TopK(4))
    with pytest.raises(ValueError, match="output must be one of \"identity\", .* or a callable, got 'solu'"):
        ResidualMLP(2, 2, **good, output="solu")
    model = ResidualMLP(2, 2, **good, activation="identity", output="relu")
    with pytest.raises(ValueError, match="output must be 'identity' for a response without inputs .*, got 'relu'"):
        model.response()
    model = ResidualMLP(2, 2, **good, activation="identity")
    for ask in (model.exact_loss, model.objective, lambda *given: expected_loss(model, *given)):
        with pytest.raises(ValueError, match='method must be "sampled": there is no exact loss for ResidualMLP'):
            ask(SparseSign([0.5, 0.5]), [1.0, 1.0])
    for instance in (1, -1):
        with pytest.raises(ValueError, match=f"instance must be .*, got {instance}"):
            model.network(instance)
