"""Hidden layers against loops, their exact losses against enumeration and quadrature."""

import itertools
import math
import re
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial.legendre import leggauss
from scipy import special
from torch import Tensor
from torch.testing import assert_close

import neuron_loops as loops
from polysem.features import (
    CorrelatedFeatures,
    ExclusiveFeatures,
    SparseFeatures,
    SparseGaussian,
    SparseLaplace,
    SparseSign,
    SparseUniform,
)
from polysem.training import FitConfig, FitStatus, fit
from polysem.zoo import HiddenLayerModel, HiddenLayerObjective, TopK, expected_loss

Law = list[tuple[float, list[float]]]
NAMES = [*loops.LAYERS, "bilinear"]
POLYNOMIAL = ["identity", "square", "bilinear"]
INSTEAD = 'pass method="sampled" to expected_loss, FitConfig(loss="sampled") to fit'


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_model(
    n: int, d: int, activation: str, target: str = "identity", n_inst: int = 1, seed: int = 0
) -> HiddenLayerModel:
    model = HiddenLayerModel(
        n, d, n_inst=n_inst, activation=TopK(2) if activation == "topk" else activation, target=target
    )
    loops.randomise(model, seed)
    return model


def loop_outputs(model: HiddenLayerModel, activation: str, x: list[float], inst: int) -> list[float]:
    gate = None if model.W_gate is None else model.W_gate[inst]
    h = loops.neurons(x, model.W_in[inst], model.b_in[inst], gate, activation)
    return loops.plus(loops.times(h, model.W_out[inst].tolist()), model.b_out[inst].tolist())


@pytest.mark.parametrize("activation", NAMES)
@pytest.mark.parametrize("target", ["identity", "abs", "square"])
def test_outputs_and_losses_equal_a_loop(activation: str, target: str) -> None:
    model = random_model(3, 4, activation, target, n_inst=2)
    v = torch.rand(2, 3, generator=seeded(1), dtype=torch.float64)
    x = torch.randn(5, 2, 3, generator=seeded(2), dtype=torch.float64)
    y, loss = torch.zeros(5, 2, 3, dtype=torch.float64), torch.zeros(5, 2, dtype=torch.float64)
    for s, i in itertools.product(range(5), range(2)):
        outputs = loop_outputs(model, activation, x[s, i].tolist(), i)
        y[s, i] = torch.tensor(outputs, dtype=torch.float64)
        loss[s, i] = loops.loss(x[s, i].tolist(), outputs, target, v[i].tolist())
    assert_close(model(x).detach(), y)
    assert_close(model.per_sample_loss(x, v).detach(), loss)
    assert_close(torch.einsum("sik,ikj->sij", model.neurons(x), model.W_out) + model.b_out, model(x))
    shared = x[:, :1]
    assert_close(model(shared), model(shared.expand(5, 2, 3)))
    assert_close(model.per_sample_loss(shared, v), model.per_sample_loss(shared.expand(5, 2, 3), v))


def test_solu_is_the_softmax_of_scipy() -> None:
    model = random_model(3, 4, "solu")
    x = torch.randn(6, 1, 3, generator=seeded(3), dtype=torch.float64)
    z = (x[:, 0] @ model.W_in[0] + model.b_in[0]).detach().numpy()
    assert_close(model.neurons(x)[:, 0].detach(), torch.from_numpy(z * special.softmax(z, -1)))


def test_top_k_keeps_the_largest_as_they_are() -> None:
    z = torch.randn(50, 2, 7, generator=seeded(4), dtype=torch.float64)
    for k in (1, 3, 7):
        h = TopK(k)(z)
        kept = h != 0
        assert_close(kept.sum(-1), torch.full((50, 2), k))
        assert_close(h[kept], z[kept], rtol=0, atol=0)
        assert (torch.where(kept, z, torch.inf).amin(-1) >= torch.where(kept, -torch.inf, z).amax(-1)).all()


def test_callables_are_taken_as_they_are() -> None:
    model = HiddenLayerModel(2, 3, activation=torch.sin, target=torch.exp, generator=seeded(0))
    x = torch.randn(4, 1, 2, generator=seeded(5), dtype=torch.float64)
    assert_close(model(x)[:, 0], torch.sin(x[:, 0] @ model.W_in[0]) @ model.W_out[0])
    assert_close(
        model.per_sample_loss(x, [1.0, 0.5])[:, 0],
        (model(x) - x.exp())[:, 0].square() @ model.W_in.new_tensor([1, 0.5]),
    )


def sign_law(p: list[float]) -> Law:
    return list(loops.signs(loops.independent(p)))


def uniform_law(p: list[float], shift: list[float], scale: list[float]) -> Law:
    """Quadrature nodes that are exact for polynomials of degree five in each uniform input on [0, 1]."""
    nodes, weights = leggauss(3)
    values = [
        [(1 - q, -m / s), *((q * w / 2, ((z + 1) / 2 - m) / s) for z, w in zip(nodes, weights, strict=True))]
        for q, m, s in zip(p, shift, scale, strict=True)
    ]
    return [
        (math.prod(chance for chance, _ in outcome), [float(value) for _, value in outcome])
        for outcome in itertools.product(*values)
    ]


P = [0.5, 0.2, 0.9]
RAW = SparseUniform(P)
LAWS: dict[str, tuple[SparseFeatures, Law]] = {
    "signs": (SparseSign(P), sign_law(P)),
    "uniform on [0, 1]": (RAW, uniform_law(P, [0.0] * 3, [1.0] * 3)),
    "standardised, skewed": (
        SparseUniform(P, standardise=True),
        uniform_law(P, RAW.mean.tolist(), RAW.variance.sqrt().tolist()),
    ),
}


@pytest.mark.parametrize("activation", POLYNOMIAL)
@pytest.mark.parametrize("target", ["identity", "square"])
@pytest.mark.parametrize("name", LAWS)
def test_exact_loss_equals_enumeration(activation: str, target: str, name: str) -> None:
    features, law = LAWS[name]
    v = [1.0, 0.4, 2.0]
    model = random_model(3, 2, activation, target)
    truth = sum(chance * loops.loss(x, loop_outputs(model, activation, x, 0), target, v) for chance, x in law)
    exact = expected_loss(model, features, v)
    assert_close(exact.value, torch.tensor([truth], dtype=torch.float64), rtol=1e-10, atol=0)
    assert_close(exact.stderr, torch.zeros(1, dtype=torch.float64), rtol=0, atol=0)


@pytest.mark.parametrize("activation", POLYNOMIAL)
@pytest.mark.parametrize("features", [SparseGaussian([0.3] * 6), SparseLaplace([[0.3] * 6, [0.05] * 6])])
def test_sampled_loss_agrees_with_the_exact_one(activation: str, features: SparseFeatures) -> None:
    model = random_model(6, 4, activation, "square" if activation == "square" else "identity", n_inst=2)
    v = [1.0, 0.5, 0.2, 0.1, 3.0, 1.0]
    exact = expected_loss(model, features, v)
    sampled = expected_loss(model, features, v, method="sampled", n_samples=200_000, generator=seeded(6))
    assert ((sampled.value - exact.value).abs() < 4 * sampled.stderr).all()


@settings(deadline=None, max_examples=20)
@given(
    n=st.integers(1, 3),
    d=st.integers(1, 3),
    activation=st.sampled_from(POLYNOMIAL),
    target=st.sampled_from(["identity", "square"]),
    seed=st.integers(0, 2**32),
)
def test_derivatives_equal_finite_differences(n: int, d: int, activation: str, target: str, seed: int) -> None:
    model = random_model(n, d, activation, target, n_inst=2, seed=seed)
    objective = model.objective(SparseUniform([0.3] * n), torch.rand(2, n, generator=seeded(seed), dtype=torch.float64))
    theta = objective.pack(model.state_dict())
    gradient, hessian = objective.gradient(theta), objective.hessian(theta)
    scale = 1 + hessian.abs().max().item()
    for k in range(theta.shape[1]):
        step = torch.zeros_like(theta)
        step[:, k] = 1e-5
        up, down = theta + step, theta - step
        assert_close((objective.loss(up) - objective.loss(down)) / 2e-5, gradient[:, k], rtol=1e-6, atol=1e-6 * scale)
        slopes = (objective.gradient(up) - objective.gradient(down)) / 2e-5
        assert_close(slopes, hessian[:, :, k], rtol=1e-6, atol=1e-6 * scale)
    one = objective.select(torch.tensor([1]))
    assert_close(one.loss(theta[1:]), objective.loss(theta)[1:])


@pytest.mark.parametrize("activation", POLYNOMIAL)
def test_best_offset_is_what_the_objective_assumes(activation: str) -> None:
    features = SparseUniform([0.3, 0.6])
    model = random_model(2, 3, activation, "square", n_inst=2)
    v = torch.tensor([1.0, 0.5], dtype=torch.float64)
    objective = model.objective(features, v)
    best = objective.unpack(objective.pack(model.state_dict()))
    apart = ((model.b_out.detach() - best["b_out"]).square() * v).sum(-1)
    loss = model.exact_loss(features, v).detach()
    assert_close(loss, objective.loss(objective.pack(model.state_dict())) + apart)
    assert set(best) == set(model.state_dict())
    model.load_state_dict(best)
    model.exact_loss(features, v).sum().backward()
    assert model.b_out.grad is not None
    assert_close(model.b_out.grad, torch.zeros(2, 2, dtype=torch.float64))


def test_a_square_layer_fits_squares_exactly() -> None:
    """With a neuron for each feature the target `x²` can be met, so the least loss is 0."""
    start = HiddenLayerModel(2, 2, n_inst=6, activation="square", target="square", generator=seeded(0))
    done = fit(start, SparseSign([0.3, 0.3]), [1.0, 1.0], FitConfig(adam_steps=500))
    assert done.loss[done.best].item() < 1e-12
    assert done.status[done.best].item() == FitStatus.CONVERGED


CORRELATED = CorrelatedFeatures(SparseUniform([0.3, 0.2, 0.25]), [[0, 2]], correlation=0.6)
EXCLUSIVE = ExclusiveFeatures(SparseUniform([0.3, 0.2, 0.25], standardise=True), [[0, 2]])


@pytest.mark.parametrize("activation", NAMES)
@pytest.mark.parametrize("features", [CORRELATED, EXCLUSIVE])
def test_sampled_loss_equals_a_loop(activation: str, features: SparseFeatures) -> None:
    target = "abs" if activation == "relu" else "identity"
    model, v, n = random_model(3, 4, activation, target), [1.0, 0.4, 2.0], 40
    sampled = expected_loss(model, features, v, method="sampled", n_samples=n, generator=seeded(7))
    x, weight = features.sample_active(n, generator=seeded(7))
    losses = [loops.loss(one, loop_outputs(model, activation, one, 0), target, v) for one in x.tolist()]
    rest = features.inactive_value.tolist()
    at_rest = loops.loss(rest, loop_outputs(model, activation, rest, 0), target, v)
    mean, chance = sum(losses) / n, weight.item()
    variance = sum((loss - mean) ** 2 for loss in losses) / (n - 1)
    assert_close(sampled.value.item(), chance * mean + (1 - chance) * at_rest, rtol=1e-12, atol=0)
    assert_close(sampled.stderr.item(), chance * math.sqrt(variance / n), rtol=1e-10, atol=0)


@pytest.mark.parametrize("activation", ["relu", "topk", "bilinear"])
def test_sampled_loss_of_exclusive_signs_equals_enumeration(activation: str) -> None:
    """Not the loss of independent features: the two differ by many standard errors."""
    p, v = [0.4, 0.3, 0.2], [1.0, 0.4, 2.0]
    active = {(False, False, False): 0.1}
    active |= {tuple(i == j for j in range(3)): q for i, q in enumerate(p)}
    model = random_model(3, 3, activation, "abs")

    def truth(law: dict[tuple[bool, ...], float]) -> float:
        outcomes = loops.signs(law)
        return sum(chance * loops.loss(x, loop_outputs(model, activation, x, 0), "abs", v) for chance, x in outcomes)

    features = ExclusiveFeatures(SparseSign(p), [[0, 1, 2]])
    sampled = expected_loss(model, features, v, method="sampled", n_samples=100_000, generator=seeded(8))
    error = sampled.stderr.item()
    assert abs(sampled.value.item() - truth(active)) < 4 * error
    assert abs(sampled.value.item() - truth(loops.independent(p))) > 20 * error


@pytest.mark.parametrize("activation", [name for name in NAMES if name != "identity"])
def test_sample_losses_have_gradients_by_all_parameters(activation: str) -> None:
    model = random_model(3, 4, activation, "abs")
    x = torch.randn(2, 1, 3, generator=seeded(9), dtype=torch.float64)
    names = [name for name, _ in model.named_parameters()]

    def losses(*values: Tensor) -> Tensor:
        state = dict(zip(names, values, strict=True))
        out = torch.func.functional_call(model, state, (x,))
        return (out - x.abs()).square()

    assert torch.autograd.gradcheck(losses, tuple(model.parameters()))
    model.per_sample_loss(x, [1.0, 1.0, 1.0]).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_rows_are_features() -> None:
    model = HiddenLayerModel(3, 5, n_inst=2, activation="bilinear", generator=seeded(0), dtype=torch.float32)
    assert model.W_gate is not None
    assert model.W_in.shape == model.W_gate.shape == model.embedding.shape == model.readout.shape == (2, 3, 5)
    assert model.W_out.shape == (2, 5, 3)
    assert_close(model.readout, model.W_out.mT)
    assert_close(model.embedding, model.W_in)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    exact = expected_loss(model, SparseSign([0.5] * 3), [1.0] * 3)
    assert exact.value.dtype == torch.float64
    assert HiddenLayerModel(3, 5).W_gate is None
    again = HiddenLayerModel(3, 5, n_inst=2, activation="bilinear", generator=seeded(0), dtype=torch.float32)
    assert all((a == b).all() for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_linear_response_is_readout_times_embedding() -> None:
    model = random_model(3, 4, "identity", n_inst=2)
    assert_close(model.response(), model.readout @ model.embedding.mT)


@pytest.mark.bad_input
def test_bad_arguments_are_refused() -> None:
    for name, value in [("activation", "sine"), ("activation", None), ("target", "cube")]:
        with pytest.raises(ValueError, match=f"{name} must be one of"):
            HiddenLayerModel(2, 3, **{name: value})
    with pytest.raises(ValueError, match="k must be at most the number of neurons, 3, got 4"):
        HiddenLayerModel(2, 3, activation=TopK(4))
    with pytest.raises(ValueError, match="k must be at most the number of neurons, 2, got 4"):
        TopK(4)(torch.zeros(2))
    with pytest.raises(ValueError, match="k must be a whole number"):
        TopK(0)
    for model in (random_model(2, 3, "relu"), random_model(2, 3, "identity", "abs")):
        with pytest.raises(ValueError, match="a response without inputs"):
            model.response()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("activation", "target"),
    [(name, "identity") for name in NAMES if name not in POLYNOMIAL] + [(name, "abs") for name in POLYNOMIAL],
)
def test_no_exact_loss_is_said_so(activation: str, target: str) -> None:
    model, features = random_model(2, 3, activation, target), SparseSign([0.5, 0.5])
    said = re.escape(f"activation={model.activation!r}") + ".*" + re.escape(INSTEAD)
    asked = (model.exact_loss, model.objective, partial(expected_loss, model), partial(fit, model))
    for ask in asked:
        with pytest.raises(ValueError, match=said):
            ask(features, [1.0, 1.0])


@pytest.mark.bad_input
@pytest.mark.parametrize("features", [CORRELATED, EXCLUSIVE])
def test_dependent_features_have_no_exact_loss(features: SparseFeatures) -> None:
    model = random_model(3, 2, "square")
    said = re.escape(f"features must be independent for an exact loss ({INSTEAD}), got {type(features).__name__}")
    with pytest.raises(ValueError, match=said):
        expected_loss(model, features, [1.0] * 3)
    assert isinstance(model.objective(SparseSign([0.5] * 3), [1.0] * 3), HiddenLayerObjective)
