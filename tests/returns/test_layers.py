"""Hidden states measured by `layers`, against linear networks, loops, numpy and the functions it stands on."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from polysem.measure import leverage, response_capacity
from polysem.returns import Hidden, layers, prices


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def linear(W: Tensor, b: Tensor | None = None) -> nn.Linear:
    """A layer `x W + b` for rows `W`."""
    layer = nn.Linear(*W.shape, bias=b is not None).double()
    layer.load_state_dict({"weight": W.mT} | ({} if b is None else {"bias": b}))
    return layer


class Pair(nn.Module):
    def forward(self, h: Tensor) -> tuple[Tensor, None]:
        return torch.tanh(h), None


class First(nn.Module):
    def forward(self, pair: tuple[Tensor, None]) -> Tensor:
        return pair[0]


def network(n: int = 6, d: int = 3, seed: int = 0) -> nn.Sequential:
    W, A, V = normal(n, d, seed=seed), normal(d, 4, seed=seed + 1), normal(4, n, seed=seed + 2)
    return nn.Sequential(linear(W, normal(d, seed=seed + 3)), Pair(), First(), linear(A), nn.GELU(), linear(V))


def squared_error(output: Tensor, x: Tensor) -> Tensor:
    return (output - x).square().flatten(1).sum(-1)


def outcomes(n: int, values: tuple[float, ...] = (-1.0, 0.0, 2.0)) -> Tensor:
    """Every combination: features that are independent, and not of mean 0."""
    return torch.tensor(list(itertools.product(values, repeat=n)), dtype=torch.float64)


@pytest.mark.parametrize("embedding", ["slopes", "jacobian"])
def test_independent_features_in_a_linear_state_have_their_leverage(embedding: str) -> None:
    W, b, A = normal(5, 3, seed=0), normal(3, seed=1), normal(3, 4, seed=2)
    model, x = nn.Sequential(linear(W, b), linear(A, normal(4, seed=3)), linear(normal(4, 5, seed=4))), outcomes(5)
    spread = x.std(0, correction=0)
    found = layers(model, x, squared_error, ["0", "1"], embedding=embedding, held_out=False)
    for layer, rows in zip(found, (W, W @ A), strict=True):
        scaled = rows * spread[:, None]
        assert_close(layer.embedding, scaled)
        assert_close(layer.capacity, leverage(scaled), rtol=1e-4, atol=1e-5)  # but for the ridge
        assert_close(layer.explained, leverage(scaled), rtol=1e-4, atol=1e-5)
        assert_close(layer.origin, x.mean(0) @ rows + (b if layer.module == "0" else b @ A + normal(4, seed=3)))
        raw = layers(model, x, squared_error, [layer.module], embedding=embedding, held_out=False, standardise=False)[0]
        assert_close(raw.embedding, rows)
        assert_close(raw.capacity, layer.capacity, rtol=1e-4, atol=1e-5)  # all have the same variance


@pytest.mark.parametrize("positions", [(), (2,)])
@pytest.mark.parametrize("chunk", [None, 3, 17])
def test_average_jacobians_equal_autograd_loops(positions: tuple[int, ...], chunk: int | None) -> None:
    model, x = network(), normal(10, *positions, 6, seed=5)
    weight = torch.rand(10, generator=seeded(6), dtype=torch.float64)
    found = layers(
        model, x, squared_error, ["0", "1", "4"], embedding="jacobian", standardise=False, weight=weight, chunk=chunk
    )
    x, weight = x[1::2], weight[1::2]
    parts = {"0": model[:1], "1": model[:3], "4": model[:5]}
    for layer in found:
        part = parts[layer.module]
        rows = torch.zeros_like(layer.embedding)
        for s, k in itertools.product(range(5), range(rows.shape[1])):
            point = x[s].clone().requires_grad_()
            (slope,) = torch.autograd.grad(part(point).reshape(-1, rows.shape[1])[:, k].sum(), point)
            rows[:, k] += weight[s] / weight.sum() * slope.reshape(-1, 6).mean(0)
        assert_close(layer.embedding, rows)


def centred(h: Tensor, f: Tensor, weight: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """State and features over all positions, less their means, and weights that sum to 1; features at variance 1."""
    rows, columns = h.detach().reshape(-1, h.shape[-1]).numpy(), f.reshape(-1, f.shape[-1]).numpy()
    w = np.repeat(weight.numpy(), len(rows) // len(weight)) / (len(rows) // len(weight) * weight.sum().item())
    rows, columns = rows - w @ rows, columns - w @ columns
    return w, rows, columns


@pytest.mark.parametrize("ridge", [1e-6, 0.3])
@pytest.mark.parametrize("held_out", [True, False])
def test_regressions_equal_least_squares_of_numpy(ridge: float, held_out: bool) -> None:
    model, inputs, features = network(), normal(40, 2, 6, seed=5), normal(40, 2, 7, seed=6)
    weight = torch.rand(40, generator=seeded(7), dtype=torch.float64)
    (layer,) = layers(
        model, inputs, squared_error, ["1"], features=features, weight=weight, ridge=ridge, held_out=held_out
    )
    state = model[:3](inputs)
    fitted, rest = (slice(0, None, 2), slice(1, None, 2)) if held_out else (slice(None), slice(None))
    w, h, f = centred(state[rest], features[rest], weight[rest])
    spread = np.sqrt(w @ f**2)
    f = f / spread
    for j in range(7):
        root = np.sqrt(w)[:, None]
        slope = np.linalg.lstsq(root * f[:, j : j + 1], root * h)[0][0]
        assert_close(layer.embedding[j], torch.from_numpy(slope), rtol=1e-8, atol=1e-10)
        z = h @ layer.readout[j].numpy()
        share = (w @ (z * f[:, j])) ** 2 / (w @ z**2)
        assert_close(layer.explained[j].item(), float(share), rtol=1e-8, atol=0)
    w, h, f = centred(state[fitted], features[fitted], weight[fitted])
    root = np.sqrt(w)[:, None]
    penalty = math.sqrt(ridge * (w @ h**2).mean())
    tall = np.concatenate([root * h, penalty * np.eye(3)]), np.concatenate([root * f / spread, np.zeros((3, 7))])
    V = np.linalg.lstsq(*tall)[0].T
    assert_close(layer.readout, torch.from_numpy(V), rtol=1e-8, atol=1e-10)


def test_features_that_are_not_there_have_no_capacity() -> None:
    """Though after the fact some direction follows them: fitted to the same samples, readouts seem to have some."""
    model, x = nn.Sequential(linear(normal(200, 30, seed=0)), linear(normal(30, 4, seed=1))), normal(2000, 200, seed=2)
    absent = normal(2000, 100, seed=5)
    for held_out, low, high in ((True, 0.0, 0.05), (False, 0.05, 1.0)):
        (layer,) = layers(
            model, x, lambda y, x: y.square().sum(-1), ["0"], features=absent, held_out=held_out, ridge=1e-3
        )
        assert low <= layer.capacity.mean() < high
        assert layer.explained.mean() < 0.05


def test_capacities_and_prices_are_those_of_explicit_matrices() -> None:
    model, x = network(), normal(200, 6, seed=5)
    weight = torch.rand(200, generator=seeded(6), dtype=torch.float64)
    found = layers(model, x, squared_error, ["3", "1"], weight=weight)
    x, weight = x[1::2], weight[1::2]
    assert [layer.module for layer in found] == ["3", "1"]
    share = weight / weight.sum()
    f = (x - share @ x) / (share @ (x - share @ x).square()).sqrt()
    for layer in found:
        R = layer.readout @ layer.embedding.mT
        assert_close(layer.capacity, R.diagonal().square() / R.square().sum(-1))
        assert_close(layer.capacity, response_capacity(layer.embedding, layer.readout))
        readout = Hidden(layer.module, layer.readout, layer.origin)
        direct = prices(model, x, squared_error, readout=readout, embedding=layer.embedding, features=f, weight=weight)
        assert (direct.price != 0).sum() >= 3
        assert_close(layer.prices.price, direct.price)
        assert_close(layer.prices.stderr, direct.stderr)


def test_given_rows_take_the_place_of_estimates() -> None:
    W, V = normal(6, 3, seed=0), normal(6, 3, seed=9)
    model, x = network(), 2 * normal(50, 6, seed=5)
    plain, given_rows = (
        layers(model, x, squared_error, ["0", "1"], embedding=rows, readout=read)
        for rows, read in (("slopes", None), ({"0": W}, {"0": V}))
    )
    assert_close(given_rows[0].embedding, W * x[1::2].std(0, correction=0)[:, None])
    assert_close(given_rows[0].readout, V)
    assert_close(given_rows[0].capacity, response_capacity(given_rows[0].embedding, V))
    assert_close(given_rows[1].embedding, plain[1].embedding)
    assert_close(given_rows[1].prices.price, plain[1].prices.price)


def test_chunks_change_nothing() -> None:
    model, x = network(), normal(31, 3, 6, seed=5)
    whole = layers(model, x, squared_error, ["0", "1"])
    for chunk in (1, 7):
        for layer, other in zip(whole, layers(model, x, squared_error, ["0", "1"], chunk=chunk), strict=True):
            assert_close(other.embedding, layer.embedding)
            assert_close(other.readout, layer.readout)
            assert_close(other.explained, layer.explained)
            assert_close(other.prices.price, layer.prices.price)
    assert not any(part._forward_hooks for part in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_contrasts_of_tokens() -> None:
    """Slopes of features that are 0 or 1 are differences of conditional means."""
    tokens, table, answers = torch.arange(5).repeat(8), normal(5, 3, seed=0), normal(40, 2, seed=1)
    model = nn.Sequential(nn.Embedding.from_pretrained(table), nn.Tanh(), linear(normal(3, 2, seed=2)))
    (layer,) = layers(
        model,
        (tokens, answers),
        lambda y, batch: (y - batch[1]).square().sum(-1),
        ["1"],
        features=nn.functional.one_hot(tokens, 5).double(),
        held_out=False,
        standardise=False,
    )
    h = table.tanh()
    for j in range(5):
        assert_close(layer.embedding[j], h[j] - (h.sum(0) - h[j]) / 4)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_invariants(seed: int) -> None:
    """Rotations and shifts of a state change nothing; the total is bounded by its dimension."""
    x = outcomes(4)
    W, A, V = normal(4, 3, seed=seed), normal(3, 3, seed=seed + 1), normal(3, 4, seed=seed + 2)
    Q, shift = torch.linalg.qr(normal(3, 3, seed=seed + 3))[0], 5 * normal(3, seed=seed + 4)
    plain = nn.Sequential(linear(W), nn.Tanh(), linear(torch.eye(3).double()), linear(A), nn.GELU(), linear(V))
    turned = nn.Sequential(*plain)
    turned[2], turned[3] = linear(Q, shift), linear(Q.mT @ A, -shift @ Q.mT @ A)
    assert_close(turned(x), plain(x))
    (one,), (other,) = (layers(model, x, squared_error, ["2"], held_out=False) for model in (plain, turned))
    assert_close(other.capacity, one.capacity, rtol=1e-6, atol=1e-8)
    assert_close(other.explained, one.explained, rtol=1e-6, atol=1e-8)
    assert_close(other.prices.price, one.prices.price, rtol=1e-5, atol=1e-6)
    assert one.capacity.sum() <= 3 + 1e-9
    assert (one.explained <= one.capacity + 1e-6).all()


def test_features_that_never_vary_are_ignored() -> None:
    x = normal(50, 6, seed=5)
    x[:, 2] = 1.0
    (layer,) = layers(network(), x, squared_error, ["1"])
    assert layer.capacity[2] == layer.explained[2] == layer.prices.price[2] == 0
    assert layer.prices.price.isfinite().all()


def test_single_precision() -> None:
    model, x = network(), normal(300, 6, seed=5)
    double = layers(model, x, squared_error, ["1"])[0]
    single = layers(model.float(), x.float(), squared_error, ["1"])[0]
    assert_close(single.capacity, double.capacity, rtol=1e-3, atol=1e-4)
    assert_close(single.prices.price, double.prices.price, rtol=1e-3, atol=1e-3)


X = torch.ones(4, 2, dtype=torch.float64)
NETWORK = nn.Sequential(linear(torch.eye(2).double()), nn.Tanh(), linear(torch.eye(2).double()))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        return self.part(self.part(x))


def measured(model: Any = NETWORK, batch: Any = X, modules: Any = ("1",), **changes: Any) -> Callable[[], object]:
    return lambda: layers(model, batch, squared_error, modules, **changes)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (measured(modules=()), "modules must be at least one name"),
        (measured(modules=("9",)), "name of the submodule must be one of '0', '1', '2', got '9'"),
        (measured(model=Twice(), modules=("part",)), "runs of submodule 'part' must be exactly one"),
        (measured(ridge=-1.0), "ridge must be non-negative"),
        (measured(embedding="hessian"), "embedding must be 'slopes' or 'jacobian', got 'hessian'"),
        (measured(embedding="jacobian", features=X), "features must be the inputs themselves"),
        (measured(embedding={"0": X[:2]}), "name in embedding must be one of '1', got '0'"),
        (measured(embedding={"1": X}), r"shape of embedding of '1' must be \(2, 2\), got \(4, 2\)"),
        (measured(readout={"1": X[:2] * math.nan}), "readout of '1' must be finite"),
        (measured(features=X[:3]), r"shape of features must be \[n_samples = 4, ..., n_features\]"),
        (measured(features=torch.ones(4, 2, 2)), r"shape of submodule '1' must be \[2, 2, d_hidden\]"),
        (measured(batch=X[:1]), "with at least two samples"),
        (measured(weight=torch.tensor([1.0, 0.0, 1.0, 0.0])), "weight must be positive for some of every second"),
        (measured(per_feature=True), r"shape of loss must be \(2, 2\), got \(2,\)"),
        (measured(batch=X * math.inf), "must be finite"),
        (measured(weight=-X[:, 0]), "weight must be finite, non-negative"),
        (measured(chunk=0), "chunk must be a whole number of at least 1"),
        (lambda: Hidden("1", X, X[0, :1]), r"shape of origin must be \(2,\), got \(1,\)"),
    ],
)
def test_bad_values(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
    assert not any(part._forward_hooks for part in NETWORK.modules())


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (measured(model=lambda x: x), "model must be a torch.nn.Module, got function"),
        (measured(batch=X.long()), "batch must have a real floating-point dtype"),
        (measured(features=[1.0]), "features must be a torch.Tensor, got list"),
    ],
)
def test_bad_types(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()
