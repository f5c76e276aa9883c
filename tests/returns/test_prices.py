"""Prices against closed forms and against finite differences of what they are defined by."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from polysem import theory
from polysem.features import SparseSign, SparseUniform
from polysem.measure import FeatureClass, response_capacity
from polysem.returns import Exposed, Hidden, Prices, curve, prices
from polysem.returns import _prices as module
from polysem.returns import _readouts as readouts
from polysem.zoo import HiddenLayerModel, QuadraticModel, ResidualMLP, TiedAutoencoder, UntiedAutoencoder

STEP = 1e-5


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def sign_outcomes(kurtosis: Tensor) -> tuple[Tensor, Tensor]:
    """Every outcome of standardised sparse signs, and its probability."""
    values, chances = [], []
    for F in kurtosis.tolist():
        values.append([0.0, math.sqrt(F), -math.sqrt(F)])
        chances.append([1 - 1 / F, 0.5 / F, 0.5 / F])
    x = torch.tensor(list(itertools.product(*values)), dtype=torch.float64)
    chance = torch.tensor(list(itertools.product(*chances)), dtype=torch.float64).prod(-1)
    return x, chance


def quadratic(W: Tensor) -> QuadraticModel:
    model = QuadraticModel(len(W), W.shape[1])
    model.load_state_dict({"W": W[None], "b": torch.full((1,), 0.3)})
    return model


def by_differences(
    z: Tensor, x: Tensor, R: Tensor, weight: Tensor, loss: Callable[[Tensor], Tensor], capacity: Tensor
) -> Tensor:
    """`dL/dC_i`, feature by feature, from losses at scaled interference."""
    result = []
    for i in range(len(R)):
        values = []
        for s in (STEP, -STEP):
            moved = z.clone()
            own = R[i, i] * x[..., i]
            moved[..., i] = own + math.sqrt(1 - s) * (z[..., i] - own)
            values.append(float(weight @ loss(moved)))
        slope = (values[0] - values[1]) / (2 * STEP)
        result.append(slope / float(capacity[i] * (1 - capacity[i])))
    return torch.tensor(result, dtype=torch.float64)


def where_impure(found: Prices, expected: Tensor) -> Tensor:
    return torch.where(found.feature_class == FeatureClass.IMPURE, expected, 0.0)


def test_quadratic_prices_equal_the_closed_form_at_any_embedding() -> None:
    measured = 0
    for seed in range(50):
        g = seeded(seed)
        n = int(torch.randint(2, 6, (1,), generator=g))
        F = 1.2 + 20 * torch.rand(n, generator=g, dtype=torch.float64)
        v = 0.1 + torch.rand(n, generator=g, dtype=torch.float64)
        W = torch.randn(n, int(torch.randint(1, n, (1,), generator=g)), generator=g, dtype=torch.float64)
        x, chance = sign_outcomes(F)
        found = prices(quadratic(W), x, v, weight=chance)
        expected = -2 * (W.square().sum(-1) / found.capacity[0]).square()
        assert_close(found.price[0], where_impure(found, expected[None])[0], rtol=1e-9, atol=1e-12)
        measured += int((found.price != 0).sum())
    assert measured > 100


@pytest.mark.parametrize(
    ("F", "v", "d"),
    [([20.0] * 5, [1.0, 0.95, 0.9, 0.85, 0.1], 2), ([8.0, 30.0, 12.0, 5.0], [1.0, 0.9, 0.8, 2.0], 3)],
)
def test_at_the_optimum_prices_are_the_price_of_the_budget(F: list[float], v: list[float], d: int) -> None:
    kurtosis = torch.tensor(F, dtype=torch.float64)
    best = theory.allocate(v, F, d)
    x, chance = sign_outcomes(kurtosis)
    model = quadratic(theory.embed(best, d))
    found = prices(model, x, v, weight=chance)
    assert_close(found.capacity[0], best.capacity, rtol=1e-9, atol=1e-9)
    impure = found.feature_class[0] == FeatureClass.IMPURE
    assert impure.sum() >= 2
    assert_close(found.price[0, impure], -best.price.expand(int(impure.sum())), rtol=1e-6, atol=0)
    curves = curve(model, SparseSign.from_kurtosis(kurtosis, standardise=True), v)
    ended = found.with_ends(curves)
    assert_close(ended[0, impure], found.price[0, impure])
    C = found.capacity[0].round()
    limits = -theory.marginal_benefit(v, F, C)
    assert_close(ended[0, ~impure], limits[~impure], rtol=1e-9, atol=0)
    for i in impure.nonzero()[:, 0].tolist():
        C = float(best.capacity[i])
        here = curve(model, SparseSign.from_kurtosis(kurtosis, standardise=True), v, C=[C, (1 + C) / 2, 1.0])
        assert_close(here.marginal_benefit[0, i, 0], -found.price[0, i], rtol=1e-6, atol=0)


def toy_models() -> list[TiedAutoencoder | UntiedAutoencoder | HiddenLayerModel | ResidualMLP]:
    g = seeded(3)
    return [
        TiedAutoencoder(5, 3, n_inst=2, activation="gelu", generator=g),
        UntiedAutoencoder(5, 3, n_inst=2, activation="relu", generator=g),
        HiddenLayerModel(5, 3, n_inst=2, target="abs", generator=g),
        ResidualMLP(5, 3, n_layers=2, d_mlp=4, n_inst=2, generator=g),
        ResidualMLP(5, 3, n_layers=1, d_mlp=4, n_inst=2, output="relu", generator=g),
    ]


@pytest.mark.parametrize("model", toy_models(), ids=repr)
def test_toy_prices_equal_finite_differences(
    model: TiedAutoencoder | UntiedAutoencoder | HiddenLayerModel | ResidualMLP,
) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=seeded(4), dtype=torch.float64))
    x = SparseUniform([0.5] * 5, signed=True).sample(300, generator=seeded(5))
    weight = torch.rand(300, generator=seeded(6), dtype=torch.float64)
    weight = weight / weight.sum()
    importance = torch.tensor([1.0, 0.5, 2.0, 1.0, 1.5], dtype=torch.float64)
    found = prices(model, x, importance, weight=weight)
    assert found.price.shape == (2, 5)
    for n in range(2):
        if isinstance(model, TiedAutoencoder | UntiedAutoencoder):
            t, b = x, model.b.detach()[n]
            act = functional.gelu if model.activation == "gelu" else torch.relu
            R = model.response().detach()[n]
            z = x @ R.mT
        else:
            t, act, b = model.targets(x[:, None])[:, 0], torch.positive, torch.zeros(5).double()
            if isinstance(model, HiddenLayerModel):
                b = model.b_out.detach()[n]
                z = model(x[:, None]).detach()[:, n] - b
            else:
                z = (model.streams(x[:, None])[-1][:, n] @ model.W_U[n]).detach()
            if isinstance(model, ResidualMLP) and model.b_out is not None:
                act, b = torch.relu, model.b_out.detach()[n]
            centred = t - weight @ t
            R = torch.stack([(weight[:, None] * centred * z[:, i, None]).sum(0) for i in range(5)])
            R = R / (weight @ centred.square())
        capacity = R.diagonal().square() / R.square().sum(-1)
        assert_close(found.capacity[n], capacity)

        def loss(z: Tensor, act: Callable[[Tensor], Tensor] = act, b: Tensor = b, t: Tensor = t) -> Tensor:
            return (importance * (act(z + b) - t).square()).sum(-1)

        expected = by_differences(z, t, R, weight, loss, capacity)
        assert_close(found.price[n], where_impure(found, expected)[n], rtol=1e-6, atol=1e-8)


class Network(nn.Module):
    """Features, embedded along rows, then read along others, with a nonlinearity after each readout."""

    def __init__(self, W: Tensor, V: Tensor) -> None:
        super().__init__()
        self.encoder, self.stream, self.decoder = (
            nn.Linear(*W.shape, bias=False),
            Pair(),
            nn.Linear(*V.mT.shape, bias=False),
        )
        with torch.no_grad():
            self.encoder.weight, self.decoder.weight = nn.Parameter(W.mT.clone()), nn.Parameter(V.clone())

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.stream(self.encoder(x))
        return functional.gelu(self.decoder(h))


class Pair(nn.Module):
    def forward(self, h: Tensor) -> tuple[Tensor, None]:
        return h, None


def squared_error(output: Tensor, x: Tensor) -> Tensor:
    return (output - x).square().flatten(1).sum(-1)


def test_a_network_has_the_prices_of_the_toy_model_it_is() -> None:
    toy = UntiedAutoencoder(6, 3, activation="gelu", generator=seeded(0))
    W, V = (2 * rows.detach()[0] for rows in (toy.W, toy.V))
    toy.load_state_dict({"W": W[None], "V": V[None], "b": torch.zeros(1, 6)})
    x = normal(50, 6, seed=1)
    expected = prices(toy, x, [1.0] * 6)
    assert (expected.price != 0).sum() >= 3
    network = Network(W, V)
    by_name = prices(network, x, squared_error, readout=Exposed("decoder", V), embedding=W)
    by_call = prices(
        network,
        x,
        lambda z, x: squared_error(functional.gelu(z), x),
        readout=Exposed(lambda x: network.decoder(network.encoder(x)), V),
        embedding=W,
    )
    for found in (by_name, by_call):
        assert_close(found.price, expected.price[0])
        assert_close(found.stderr, expected.stderr[0])
        assert_close(found.capacity, expected.capacity[0])
        assert_close(found.feature_class, expected.feature_class[0])
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(part._forward_hooks for part in network.modules())


def test_with_enough_dimensions_a_hidden_state_exposes_its_readouts() -> None:
    W, V = normal(4, 5, seed=0), normal(4, 5, seed=1)
    network, x = Network(W, V), normal(30, 4, seed=2)
    exposed = prices(network, x, squared_error, readout=Exposed("decoder", V), embedding=W)
    hidden = prices(network, x, squared_error, readout=Hidden("stream", V), embedding=W)
    assert (exposed.price != 0).any()
    assert_close(hidden.price, exposed.price)
    assert_close(hidden.stderr, exposed.stderr)


@pytest.mark.parametrize("positions", [(), (3,)])
def test_a_change_of_a_readout_re_enters_along_its_dual_direction(positions: tuple[int, ...]) -> None:
    W, V, A = normal(7, 3, seed=0), normal(7, 3, seed=1), normal(3, 2, seed=2)
    x = normal(20, *positions, 7, seed=3)
    model = nn.Sequential(nn.Linear(7, 3, bias=False), nn.Tanh(), nn.Linear(3, 2, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(W.mT)
        model[2].weight.copy_(A.mT)
    found = prices(model, x, lambda y, x: y.square().flatten(1).sum(-1), readout=Hidden("0", V), embedding=W)
    assert_close(found.capacity, response_capacity(W, V))
    h, R, dual = x @ W, V @ W.mT, torch.linalg.pinv(V).mT

    def loss(z: Tensor) -> Tensor:
        moved = h + (z - h @ V.mT) @ dual
        return (moved.tanh() @ A).square().flatten(1).sum(-1)

    expected = by_differences(h @ V.mT, x, R, torch.full((20,), 0.05).double(), loss, found.capacity)
    assert (found.price != 0).sum() >= 3
    assert_close(found.price, where_impure(found, expected), rtol=1e-6, atol=1e-8)


def test_chunks_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    W, V, x = normal(9, 4, seed=0), normal(9, 4, seed=1), normal(23, 9, seed=2)
    weight = torch.rand(23, generator=seeded(3), dtype=torch.float64)
    network = Network(W, V)
    for readout in (Hidden("stream", V), Exposed("decoder", V)):
        whole = prices(network, x, squared_error, readout=readout, embedding=W, weight=weight)
        with monkeypatch.context() as small:
            small.setattr(readouts, "BLOCK_ELEMENTS", 10)
            small.setattr(module, "CHUNK_ELEMENTS", 45)
            parts = prices(network, x, squared_error, readout=readout, embedding=W, weight=weight)
        by_three = prices(network, x, squared_error, readout=readout, embedding=W, weight=weight, chunk=3)
        for found in (parts, by_three):
            assert_close(found.price, whole.price)
            assert_close(found.stderr, whole.stderr)
    assert_close(prices(network, x, squared_error, readout=readout, embedding=W, weight=7 * weight).price, whole.price)


def test_features_may_be_something_else_than_the_inputs() -> None:
    """Tokens, whose embeddings are the features' rows."""
    W, V, A = normal(6, 3, seed=0), normal(6, 3, seed=1), normal(3, 2, seed=2)
    tokens = torch.randint(6, (40,), generator=seeded(3))
    x = functional.one_hot(tokens, 6).double()
    answers = normal(40, 2, seed=4)
    tail = nn.Linear(3, 2, bias=False).double()
    lookup = nn.Embedding.from_pretrained(W)
    dense = nn.Linear(6, 3, bias=False).double()
    with torch.no_grad():
        tail.weight.copy_(A.mT)
        dense.weight.copy_(W.mT)

    def loss(y: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (y - batch[1]).square().sum(-1)

    by_token = prices(
        nn.Sequential(lookup, nn.Identity(), tail),
        (tokens, answers),
        loss,
        readout=Hidden("1", V),
        embedding=W,
        features=x,
        chunk=7,
    )
    by_vector = prices(
        nn.Sequential(dense, nn.Identity(), tail), (x, answers), loss, readout=Hidden("1", V), embedding=W
    )
    assert (by_token.price != 0).any()
    assert_close(by_token.price, by_vector.price)
    assert_close(by_token.stderr, by_vector.stderr)


def test_standard_errors_are_those_of_a_mean() -> None:
    model = TiedAutoencoder(4, 2, activation="gelu", generator=seeded(0))
    x = SparseUniform([0.5] * 4).sample(64, generator=seeded(1))
    found = prices(model, x, [1.0] * 4)
    alone = torch.cat([prices(model, x[s : s + 1], [1.0] * 4).price for s in range(64)])
    assert_close(found.price[0], alone.mean(0))
    assert_close(found.stderr[0], alone.std(0) / 8)
    assert (found.stderr > 0).any()
    weight = torch.zeros(64, dtype=torch.float64)
    weight[:16] = 1
    assert_close(prices(model, x, [1.0] * 4, weight=weight).price, prices(model, x[:16], [1.0] * 4).price)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 10.0))
def test_prices_of_a_readout_do_not_depend_on_its_scale(seed: int, scale: float) -> None:
    W, V, x = normal(4, 5, seed=seed), normal(4, 5, seed=seed + 1), normal(10, 4, seed=seed + 2)
    network = Network(W, V)
    one = prices(network, x, squared_error, readout=Hidden("stream", V), embedding=W)
    rows = V * torch.tensor([scale, 1.0, -1.0, 1.0], dtype=torch.float64)[:, None]
    other = prices(network, x, squared_error, readout=Hidden("stream", rows), embedding=W)
    assert_close(other.price, one.price, rtol=1e-6, atol=1e-9)


def test_pure_and_ignored_features_have_no_price_but_ends() -> None:
    model = TiedAutoencoder(3, 2, activation="relu")
    model.load_state_dict({"W": torch.tensor([[[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]]), "b": torch.zeros(1, 3)})
    features = SparseUniform([0.2] * 3)
    found = prices(model, features.sample(100, generator=seeded(0)), [1.0] * 3)
    assert found.feature_class.tolist() == [[FeatureClass.PURE, FeatureClass.IGNORED, FeatureClass.PURE]]
    assert (found.price == 0).all()
    assert (found.stderr == 0).all()
    curves = curve(model, features, [1.0] * 3)
    ended = found.with_ends(curves)
    assert_close(ended[0, 0], -curves.marginal_benefit[0, 0, -1])
    assert_close(ended[0, 1], -curves.marginal_benefit[0, 1, 0])


def test_a_stray_row_is_ignored_whatever_its_capacity() -> None:
    W = torch.tensor([[1.0, 0.0], [1e-4, 0.01]], dtype=torch.float64)
    found = prices(quadratic(W), normal(20, 2, seed=0), [1.0, 1.0])
    assert_close(found.capacity[0, 1].item(), 0.5, rtol=1e-3, atol=0)
    assert found.feature_class[0, 1] == FeatureClass.IGNORED
    assert found.price[0, 1] == 0


def test_single_precision_and_dead_features() -> None:
    W, V = normal(6, 3, seed=0).float(), normal(6, 3, seed=1).float()
    W[0], V[1] = 0, 0
    network, x = Network(W, V), normal(40, 6, seed=2).float()
    found = prices(network, x, squared_error, readout=Hidden("stream", V), embedding=W)
    assert found.price.isfinite().all()
    assert found.feature_class[:2].tolist() == [FeatureClass.IGNORED] * 2
    double = prices(
        Network(W.double(), V.double()), x.double(), squared_error, readout=Hidden("stream", V), embedding=W
    )
    assert_close(found.price, double.price, rtol=1e-4, atol=1e-5)


X = torch.ones(4, 2, dtype=torch.float64)
ROWS = torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
NETWORK = Network(ROWS, ROWS)
TOY = TiedAutoencoder(2, 1)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.part(self.part(x))


def measured(model: Any = NETWORK, batch: Any = X, loss: Any = squared_error, **changes: Any) -> Callable[[], object]:
    arguments = {"readout": Hidden("stream", ROWS), "embedding": ROWS, **changes}
    return lambda: prices(model, batch, loss, **arguments)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (measured(readout=Hidden("other", ROWS)), "name of the submodule must be one of 'encoder', 'stream'"),
        (measured(readout=Hidden("stream", ROWS[:, :1]), embedding=ROWS[:, :1]), "shape of submodule 'stream' must be"),
        (
            measured(readout=Exposed("encoder", X), embedding=X, features=torch.ones(4, 4)),
            "shape of the readouts must be",
        ),
        (measured(embedding=X), r"shape of embedding must be \(2, 2\), got \(4, 2\)"),
        (measured(features=X[:3]), "shape of features must be"),
        (measured(features=X[:, None]), "shape of features must be"),
        (measured(loss=lambda y, x: y.sum()), "shape of loss must be one for each sample"),
        (measured(loss=lambda y, x: y.sum(-1) * math.nan), "loss must be finite, got NaN or infinity in row 0"),
        (measured(loss=lambda y, x: x.sum(-1)), "loss must depend on the readouts"),
        (measured(model=Twice(), readout=Hidden("part", ROWS)), "runs of submodule 'part' must be exactly one"),
        (measured(chunk=0), "chunk must be a whole number of at least 1"),
        (measured(weight=-X[:, 0]), "weight must be finite, non-negative"),
        (measured(weight=X[:2, 0]), r"shape of weight must be \(4,\), got \(2,\)"),
        (lambda: prices(TOY, torch.ones(4, 3), [1.0, 1.0]), "shape of batch must be"),
        (lambda: prices(TOY, X * math.inf, [1.0, 1.0]), "batch must be finite"),
        (lambda: prices(TOY, X, [1.0]), "importance must be"),
        (lambda: Hidden("stream", ROWS * math.nan), "rows must be finite"),
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
        (measured(readout=None), "readout must be a Hidden, Exposed or Private for a network, got NoneType"),
        (measured(embedding=None), "embedding must be a torch.Tensor, got NoneType"),
        (measured(loss=[1.0]), "loss must be a callable for a network, got list"),
        (measured(loss=lambda y, x: 1.0), "loss must be a torch.Tensor"),
        (measured(batch=X.long()), "batch must have a real floating-point dtype"),
        (measured(model=lambda x: x), "model must be a torch.nn.Module where a submodule is named"),
        (lambda: prices(TOY, X, [1.0, 1.0], embedding=ROWS), "embedding must be left out with a toy model"),
    ],
)
def test_bad_types(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.bad_input
def test_ends_of_other_curves_are_refused() -> None:
    features = SparseUniform([0.2, 0.2])
    found = prices(TOY, X, [1.0, 1.0])
    with pytest.raises(ValueError, match="ends of curves must be 0 and 1"):
        found.with_ends(curve(TOY, features, [1.0, 1.0], C=[0.1, 0.5, 1.0]))
    other = TiedAutoencoder(2, 1, n_inst=2)
    with pytest.raises(ValueError, match="shape of curves must be that of the prices"):
        found.with_ends(curve(other, features, [1.0, 1.0]))
