"""The transformer against loops and against PyTorch's own attention and layer norm."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import neuron_loops as loops
from polysem._hooks import replaced_output
from polysem.zoo import SequenceTransformer

NAMES = ["relu", "gelu", "solu", "bilinear"]
SIZES = {"n_features": 5, "d_model": 6, "n_positions": 4, "n_outputs": 3, "d_mlp": 7, "n_heads": 2}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_model(activation: str = "relu", **sizes: int) -> SequenceTransformer:
    """Every parameter drawn, biases and layer norms too."""
    model = SequenceTransformer(**{**SIZES, **sizes}, activation=activation)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=seeded(parameter.numel()), dtype=torch.float64)
            parameter.copy_(drawn / 3)
    return model


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(3, 4, 5, generator=seeded(0), dtype=torch.float64)


def values(model: nn.Module, x: Tensor, *names: str) -> list[Tensor]:
    seen: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        seen.append(value.detach())
        return value

    for name in names:
        with replaced_output(model, name, keep):
            model(x)
    return seen


def loop_attention(model: SequenceTransformer, layer: int, u: list[list[float]]) -> list[list[float]]:
    """Head by head, query by query, key by key."""
    attn = model.blocks[layer].attn
    out = [[0.0] * model.d_model for _ in u]
    for h in range(model.n_heads):
        Q, K, V, O = (W[h].tolist() for W in (attn.W_Q, attn.W_K, attn.W_V, attn.W_O))  # noqa: E741
        for t in range(len(u)):
            q = loops.times(u[t], Q)
            products = [sum(a * b for a, b in zip(q, loops.times(u[s], K), strict=True)) for s in range(t + 1)]
            weight = [math.exp(product / math.sqrt(model.d_model / model.n_heads)) for product in products]
            for s in range(t + 1):
                moved = loops.times(loops.times(u[s], V), O)
                out[t] = loops.plus(out[t], [weight[s] / sum(weight) * value for value in moved])
    return out


def loop_neurons(model: SequenceTransformer, layer: int, u: list[float]) -> tuple[list[float], list[float]]:
    """Of one position: the neurons before the layer norm that SoLU has, and after it."""
    mlp = model.blocks[layer].mlp
    n = loops.neurons(u, mlp.W_in, mlp.b_in, mlp.W_gate, str(model.activation))
    if mlp.ln is None:
        return n, n
    mean = sum(n) / len(n)
    scale = math.sqrt(sum((v - mean) ** 2 for v in n) / len(n) + mlp.ln.eps)
    return n, [
        (v - mean) / scale * g + b for v, g, b in zip(n, mlp.ln.weight.tolist(), mlp.ln.bias.tolist(), strict=True)
    ]


@pytest.mark.parametrize("activation", NAMES)
def test_everything_inside_equals_loops(activation: str, x: Tensor) -> None:
    model = random_model(activation)
    pre, mid, post = (f"blocks.1.hook_resid_{place}" for place in ("pre", "mid", "post"))
    names = ("hook_embed", "hook_pos_embed", "blocks.0.hook_resid_pre", pre, "blocks.1.hook_attn_out", mid)
    embed, place, start, before, attended, between = values(model, x, *names)
    rest = ("blocks.1.mlp.hook_mid", "blocks.1.mlp.hook_post", "blocks.1.hook_mlp_out", post)
    sharp, neurons, written, after = values(model, x, *rest)
    W_out = model.blocks[1].mlp.W_out.tolist()
    assert_close(start, embed + place)
    for s in range(3):
        for t in range(4):
            n, normed = loop_neurons(model, 1, between[s, t].tolist())
            assert embed[s, t].tolist() == pytest.approx(loops.times(x[s, t].tolist(), model.W_E.tolist()), rel=1e-9)
            assert sharp[s, t].tolist() == pytest.approx(n, rel=1e-9, abs=1e-12)
            assert neurons[s, t].tolist() == pytest.approx(normed, rel=1e-9, abs=1e-12)
            assert written[s, t].tolist() == pytest.approx(loops.times(normed, W_out), rel=1e-9, abs=1e-12)
        attention = torch.tensor(loop_attention(model, 1, before[s].tolist()), dtype=torch.float64)
        assert_close(attended[s], attention)
    assert_close(between, before + attended)
    assert_close(after, between + written)
    assert_close(model(x), (after @ model.W_U + model.b_U).clamp(min=0))


def test_attention_is_that_of_pytorch(x: Tensor) -> None:
    model = random_model()
    attn = model.blocks[0].attn
    u, pattern = values(model, x, "blocks.0.hook_resid_pre", "blocks.0.attn.hook_pattern")
    q, k, v = (torch.einsum("std,hde->shte", u, W) for W in (attn.W_Q, attn.W_K, attn.W_V))
    z = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert_close(attn(u), torch.einsum("shte,hed->std", z, attn.W_O))
    assert_close(pattern.sum(-1), torch.ones(3, 2, 4, dtype=torch.float64))
    assert (pattern.triu(1) == 0).all()
    assert (pattern.tril() > 0).sum() == 3 * 2 * 10


@pytest.mark.parametrize("activation", NAMES)
def test_later_inputs_change_no_earlier_output(activation: str, x: Tensor) -> None:
    model = random_model(activation)
    changed = x.clone()
    changed[:, 2:] = torch.randn(3, 2, 5, generator=seeded(1), dtype=torch.float64)
    first, second = values(model, x, "blocks.1.hook_resid_post"), values(model, changed, "blocks.1.hook_resid_post")
    assert torch.equal(first[0][:, :2], second[0][:, :2])
    assert ((first[0][:, 2:] - second[0][:, 2:]).abs().amax(-1) > 1e-6).all()
    changed = x.clone()
    changed[:, 1] += 1
    again = values(model, changed, "blocks.1.hook_resid_post")[0]
    assert ((first[0] - again).abs().amax((0, 2)) > 1e-6).tolist() == [False, True, True, True]


def test_solu_is_the_published_one(x: Tensor) -> None:
    """`LayerNorm(z softmax(z))`, with PyTorch's own parts."""
    model = random_model("solu")
    z, n = values(model, x, "blocks.0.mlp.hook_pre", "blocks.0.mlp.hook_post")
    ln = model.blocks[0].mlp.ln
    assert_close(n, nn.functional.layer_norm(z * z.softmax(-1), (7,), ln.weight, ln.bias, ln.eps))


def test_shorter_sequences_are_the_first_positions_of_longer_ones(x: Tensor) -> None:
    model = random_model()
    assert_close(model(x[:, :2]), model(x)[:, :2])


def test_two_thirds_as_many_bilinear_neurons_have_as_many_weights() -> None:
    def weights(activation: str, d_mlp: int) -> int:
        model = SequenceTransformer(5, 6, n_positions=4, n_outputs=3, d_mlp=d_mlp, n_heads=2, activation=activation)
        return sum(parameter.numel() for parameter in model.parameters() if parameter.ndim > 1)

    assert weights("relu", 9) == weights("gelu", 9) == weights("solu", 9) == weights("bilinear", 6)
    assert weights("relu", 9) == 5 * 6 + 4 * 6 + 2 * (4 * 6 * 6 + 2 * 6 * 9) + 6 * 3


def test_places_that_can_be_read() -> None:
    model = random_model()
    block = (
        "hook_resid_pre",
        "attn.hook_pattern",
        "hook_attn_out",
        "hook_resid_mid",
        "mlp.hook_pre",
        "mlp.hook_mid",
        "mlp.hook_post",
        "hook_mlp_out",
        "hook_resid_post",
    )
    hooks = {name for name, module in model.named_modules() if isinstance(module, nn.Identity)}
    assert hooks == {"hook_embed", "hook_pos_embed", *(f"blocks.{layer}.{name}" for layer in (0, 1) for name in block)}
    assert set(model.residual_hooks) <= hooks
    assert len(model.residual_hooks) == 5
    assert model.neuron_hooks == ("blocks.0.mlp.hook_post", "blocks.1.mlp.hook_post")


@pytest.mark.parametrize("activation", NAMES)
def test_one_seed_gives_one_network(activation: str) -> None:
    def state(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        return SequenceTransformer(**SIZES, activation=activation, generator=seeded(seed), dtype=dtype).state_dict()

    first, again, other, single = state(1), state(1), state(2), state(1, torch.float32)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["W_E"], other["W_E"])
    assert all(torch.equal(single[name], first[name].float()) for name in first)


def test_all_outputs_are_alive_at_the_start() -> None:
    model = SequenceTransformer(24, 16, n_positions=4, n_outputs=48, d_mlp=24, generator=seeded(0))
    x = torch.rand(100, 4, 24, generator=seeded(1), dtype=torch.float64) * 2 - 1
    active = (torch.rand(100, 4, 24, generator=seeded(2)) < 0.05).double()
    assert ((model(x * active) > 0).double().mean((0, 1)) > 0.3).all()


def wrong(**options: object) -> Callable[[], object]:
    return lambda: SequenceTransformer(**{**SIZES, **options})


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_heads": 4}, "n_heads must be a divisor of d_model = 6, got 4"),
        ({"n_layers": 0}, "n_layers must be a whole number of at least 1, got 0"),
        ({"n_positions": 0}, "n_positions must be a whole number of at least 1, got 0"),
        ({"activation": "swish"}, 'activation must be one of "identity", .*, "bilinear" or a callable'),
        ({"start": 0.0}, "start must be positive and finite, got 0.0"),
    ],
)
def test_nonsense_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong(**options)()
    with pytest.raises(ValueError, match="length of x must be at most n_positions = 4, got 5"):
        random_model()(torch.zeros(1, 5, 5, dtype=torch.float64))
