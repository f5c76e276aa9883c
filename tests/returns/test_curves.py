"""Curves against closed forms, enumeration, and minimisation by scipy."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from polysem import theory
from polysem.features import CorrelatedFeatures, SparseFeatures, SparseGaussian, SparseSign, SparseUniform
from polysem.returns import Curves, CurveStatus, Returns, Samples, curve
from polysem.returns import _minima as minima
from polysem.zoo import HiddenLayerModel, QuadraticModel, ResidualMLP, TiedAutoencoder, UntiedAutoencoder

INSIDE = torch.tensor([0.01, 0.1, 0.3, 0.55, 0.8, 0.97], dtype=torch.float64)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_samples(seed: int, n: int = 40, n_features: int = 3, loss: Any = "relu") -> Samples:
    g = seeded(seed)
    x, z, y = (torch.randn(n, n_features, generator=g, dtype=torch.float64) for _ in range(3))
    weight = torch.rand(n, generator=g, dtype=torch.float64)
    return Samples(x=x, z=0.7 * x + 0.5 * z, target=x.relu() + 0.2 * y, weight=weight, loss=loss)


def scaled_readouts(samples: Samples, i: int, C: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Feature i plus its scaled interference, the target and the weights, by the definition and with numpy alone."""
    assert samples.z is not None
    x, z = samples.x[:, i].numpy(), samples.z[:, i].numpy()
    w = np.ones(len(x)) if samples.weight is None else samples.weight.numpy()
    w = w / w.sum()
    y = x if samples.target is None else samples.target[:, i].numpy()
    x0, z0 = x - w @ x, z - w @ z
    slope = (w @ (x0 * z0)) / (w @ x0**2)
    noise = (z0 - slope * x0) * np.sign(slope)
    noise = noise * math.sqrt((w @ x0**2) / (w @ noise**2))
    return x + math.sqrt(1 / C - 1) * noise, y, w


def least_by_scipy(u: np.ndarray, loss: Callable[[np.ndarray], np.ndarray], w: np.ndarray) -> float:
    """The lowest of many Nelder-Mead runs over slope and offset."""
    centre, width = w @ u, math.sqrt(w @ (u - w @ u) ** 2)
    best = math.inf
    for a, b in itertools.product([-1.0, 0.3, 1.5], [-0.5, 0.5]):
        found = optimize.minimize(
            lambda theta: w @ loss(theta[0] * (u - centre) / width + theta[1]),
            [a, b],
            method="Nelder-Mead",
            options={"xatol": 1e-7, "fatol": 1e-12, "maxiter": 500},
        )
        best = min(best, float(found.fun))
    return best


def test_quadratic_curves_equal_the_closed_form() -> None:
    g = seeded(0)
    for _ in range(50):
        n = int(torch.randint(2, 9, (1,), generator=g))
        F = 1 + 20 * torch.rand(n, generator=g, dtype=torch.float64) ** 2
        v = 2 * torch.rand(n, generator=g, dtype=torch.float64)
        found = curve(QuadraticModel(n, 2, generator=g), SparseSign.from_kurtosis(F, standardise=True), v)
        arguments = v[:, None], F[:, None], found.C_grid
        assert_close(found.losses[0], theory.loss(*arguments), rtol=1e-9, atol=1e-12)
        assert_close(found.marginal_benefit[0], theory.marginal_benefit(*arguments), rtol=1e-9, atol=1e-12)
        assert_close(found.slope[0], theory.optimal_norm(*arguments), rtol=1e-9, atol=1e-12)
        expected = torch.where(F > 3, int(Returns.DIMINISHING), int(Returns.INCREASING))
        clear = ((F - 3).abs() > 0.2) & (v > 0)
        assert_close(found.kind[0][clear], expected[clear])
        assert not found.status.any()


def test_losses_between_points_lie_on_chords() -> None:
    features = SparseSign.from_kurtosis([20.0, 5.0, 2.0], standardise=True)
    v = torch.tensor([[1.0, 0.8, 0.5], [0.5, 0.9, 1.0]], dtype=torch.float64)
    found = curve(QuadraticModel(3, 2, n_inst=2), features, v, C=[0.0, 0.25, 0.5, 1.0])
    C = torch.tensor([[0.0, 0.1, 0.25], [1.0, 0.7, 0.2]], dtype=torch.float64)
    at = found.loss_at(C)
    for i, j in itertools.product(range(2), range(3)):
        expected = np.interp(float(C[i, j]), found.C_grid.numpy(), found.losses[i, j].numpy())
        assert_close(float(at[i, j]), float(expected), rtol=1e-12, atol=0)
    assert_close(found.loss_at(torch.stack([C, C], 1)), torch.stack([at, at], 1))


def test_gaussian_features_of_a_quadratic_model_have_constant_returns() -> None:
    found = curve(QuadraticModel(2, 1), SparseGaussian([1.0, 1.0], standardise=True), [1.0, 0.0])
    assert found.kind.tolist() == [[Returns.CONSTANT] * 2]
    assert_close(found.curvature, torch.zeros(1, 2, dtype=torch.float64))


@pytest.mark.parametrize("seed", [0, 1])
def test_quadratic_curves_equal_least_squares_over_all_outcomes(seed: int) -> None:
    p, v = [0.5, 0.9, 0.2], [1.0, 0.7, 1.3]
    model = QuadraticModel(3, 2, generator=seeded(seed))
    found = curve(model, SparseSign(p, standardise=True), v, C=INSIDE)
    R = model.response().detach()[0].numpy()
    values = [[(1 - q, 0.0), (q / 2, q**-0.5), (q / 2, -(q**-0.5))] for q in p]
    outcomes = list(itertools.product(*values))
    chance = np.array([math.prod(chance for chance, _ in outcome) for outcome in outcomes])
    x = np.array([[value for _, value in outcome] for outcome in outcomes])
    for i, (k, C) in itertools.product(range(3), enumerate(INSIDE.tolist())):
        others = [j for j in range(3) if j != i]
        noise = x[:, others] @ R[i, others] / np.linalg.norm(R[i, others])
        readout = x[:, i] * (x[:, i] + math.sqrt(2) * math.sqrt(1 / C - 1) * noise)
        columns = np.stack([readout, np.ones(len(x))], -1) * np.sqrt(chance)[:, None]
        wanted = np.sqrt(chance) * v[i] * x[:, i] ** 2
        theta, *_ = np.linalg.lstsq(columns, wanted, rcond=None)
        assert_close(
            found.losses[0, i, k].item(), float(((columns @ theta - wanted) ** 2).sum()), rtol=1e-9, atol=1e-12
        )
        assert_close(found.slope[0, i, k].item(), float(theta[0]), rtol=1e-9, atol=1e-12)
        assert_close(found.offset[0, i, k].item(), float(theta[1]), rtol=1e-9, atol=1e-12)


def relative(p: float, pattern: str, C: list[float]) -> tuple[Tensor, Curves]:
    """Loss of one of two uniform features under a ReLU over that of ignoring it."""
    found = curve(TiedAutoencoder(2, 1), SparseUniform([p, p]), [1.0, 1.0], C=[0.0, *C, 1.0], pattern=pattern)
    assert not found.status.any()
    return found.losses[0, 0, 1:-1] / found.losses[0, 0, 0], found


def test_dense_antipodal_features_have_constant_returns() -> None:
    C = [k / 10 for k in range(1, 10)] + [0.85]
    losses, found = relative(1.0, "antipodal", sorted(C))
    assert found.kind.tolist() == [[Returns.CONSTANT] * 2]
    side = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    pair = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    grid = curve(Samples(x=torch.cartesian_prod(side, side), response=pair, loss="relu"), C=sorted(C))
    assert_close(12 * grid.losses[0], 1 - grid.C_grid, rtol=0, atol=1e-3)
    assert_close(12 * grid.losses[0], losses, rtol=0, atol=3e-4)


def test_the_faintest_antipodal_trace_helps_a_sparse_feature() -> None:
    p = 0.05
    losses, _ = relative(p, "antipodal", [1e-5, 0.02, 0.3, 0.5])
    limit = p * (1 / 3) / (1 / 3 - p / 4)  # right unless the partner is active
    assert round(limit, 3) == 0.052
    assert_close(losses[0].item(), limit, rtol=1e-2, atol=0)
    assert_close(losses[1].item(), 0.048, rtol=0, atol=5e-4)


def test_a_parallel_partner_is_linear_at_first() -> None:
    losses, found = relative(0.05, "parallel", [0.1, 0.2, 0.3, 0.4, 0.48, 0.6, 0.8, 0.9])
    assert_close(losses[:5], 1 - torch.tensor([0.1, 0.2, 0.3, 0.4, 0.48], dtype=torch.float64), rtol=0, atol=1e-3)
    assert (losses[5:] < torch.tensor([0.39, 0.15, 0.06])).all()
    assert found.copied.all()


@pytest.mark.parametrize(("loss", "act"), [("relu", lambda z: np.maximum(z, 0)), ("abs", np.abs)])
def test_kinked_minima_are_global(loss: str, act: Callable[[np.ndarray], np.ndarray]) -> None:
    for seed in range(2):
        samples = random_samples(seed, loss=loss)
        found = curve(samples, C=INSIDE)
        for i, (k, C) in itertools.product(range(3), enumerate(INSIDE.tolist())):
            u, y, w = scaled_readouts(samples, i, C)
            here = w @ (act(found.slope[i, k].item() * u + found.offset[i, k].item()) - y) ** 2
            assert_close(found.losses[i, k].item(), float(here), rtol=1e-9, atol=1e-12)
            best = least_by_scipy(u, lambda z, y=y: (act(z) - y) ** 2, w)
            assert found.losses[i, k].item() <= best + 1e-9
        assert not found.status.any()


def test_minima_of_any_loss_equal_scipys() -> None:
    def loss(z: Tensor, y: Tensor) -> Tensor:
        return (torch.tanh(z) - y) ** 2 + 0.1 * torch.cosh(z)

    samples = random_samples(5, loss=loss)
    found = curve(samples, C=INSIDE)
    assert not found.status.any()
    for i, (k, C) in itertools.product(range(3), enumerate(INSIDE.tolist())):
        u, y, w = scaled_readouts(samples, i, C)
        best = least_by_scipy(u, lambda z, y=y: (np.tanh(z) - y) ** 2 + 0.1 * np.cosh(z), w)
        assert_close(found.losses[i, k].item(), best, rtol=1e-8, atol=0)


@pytest.mark.parametrize(
    ("seed", "loss", "in_numpy"),
    [
        (1, lambda z, y: (functional.softplus(-3 * z) - y) ** 2, lambda z, y: (np.logaddexp(0, -3 * z) - y) ** 2),
        (2, lambda z, y: (z * z - y) ** 2, lambda z, y: (z * z - y) ** 2),
    ],
)
def test_among_local_minima_the_lowest_is_found(seed: int, loss: object, in_numpy: Callable[..., np.ndarray]) -> None:
    samples = random_samples(seed, loss=loss)
    found = curve(samples, C=torch.linspace(0.03, 1, 33))
    for i, (k, C) in itertools.product(range(3), list(enumerate(found.C_grid.tolist()))[1::6]):
        u, y, w = scaled_readouts(samples, i, C)
        assert found.losses[i, k].item() <= least_by_scipy(u, lambda z, y=y: in_numpy(z, y), w) + 1e-8


def test_linear_curves_equal_least_squares() -> None:
    samples = random_samples(6, loss="linear")
    found = curve(samples, C=INSIDE)
    for i, (k, C) in itertools.product(range(3), enumerate(INSIDE.tolist())):
        u, y, w = scaled_readouts(samples, i, C)
        columns = np.stack([u, np.ones(len(u))], -1) * np.sqrt(w)[:, None]
        theta, *_ = np.linalg.lstsq(columns, np.sqrt(w) * y, rcond=None)
        assert_close(found.losses[i, k].item(), float(w @ (theta[0] * u + theta[1] - y) ** 2), rtol=1e-9, atol=1e-12)
        assert_close(found.slope[i, k].item(), float(theta[0]), rtol=1e-9, atol=1e-12)
        assert_close(found.offset[i, k].item(), float(theta[1]), rtol=1e-9, atol=1e-12)


def responses(samples: Samples) -> Samples:
    """The same features with a response: their chance correlations enter the interference."""
    R = torch.tensor([[1.0, 0.5, -0.3], [0.2, 1.0, 1.0], [-0.5, 0.1, 1.0]], dtype=torch.float64)
    return Samples(x=samples.x, response=R, target=samples.target, weight=samples.weight, loss=samples.loss)


@pytest.mark.parametrize("change", [lambda samples: samples, responses])
@pytest.mark.parametrize("loss", ["linear", "relu", "abs", lambda z, y: torch.log(torch.cosh(z - y))])
def test_the_benefit_is_the_slope_of_the_curve(loss: object, change: Callable[[Samples], Samples]) -> None:
    step = 1e-5
    C = torch.tensor([0.2, 0.2 + step, 0.2 + 2 * step, 0.7, 0.7 + step, 0.7 + 2 * step], dtype=torch.float64)
    found = curve(change(random_samples(7, loss=loss)), C=C)
    slopes = -(found.losses[:, [2, 5]] - found.losses[:, [0, 3]]) / (2 * step)
    assert_close(found.marginal_benefit[:, [1, 4]], slopes, rtol=1e-4, atol=1e-6)


def test_ends_of_sampled_curves_are_chords() -> None:
    found = curve(random_samples(8), C=[0.0, 0.25, 0.5, 1.0])
    chords = -found.losses.diff() / found.C_grid.diff()
    assert_close(found.marginal_benefit[:, 0], chords[:, 0])
    assert_close(found.marginal_benefit[:, -1], chords[:, -1])


@pytest.mark.parametrize("loss", ["linear", "relu", "abs", lambda z, y: (z.exp() - y) ** 2])
def test_without_capacity_the_readout_is_the_best_constant(loss: object) -> None:
    samples = random_samples(9, loss=loss)
    found = curve(samples, C=[0.0, 0.3, 0.5, 1.0])
    assert samples.target is not None
    assert samples.weight is not None
    y, w = samples.target, (samples.weight / samples.weight.sum())[:, None]
    mean = (w * y).sum(0)
    best = mean if loss == "linear" else mean.clamp(min=0)
    expected = (w * (y - best).square()).sum(0)
    assert_close(found.losses[:, 0], expected, rtol=1e-6, atol=1e-9)
    assert (found.slope[:, 0] == 0).all()


def test_autoencoder_curves_equal_plain_samples_of_the_network() -> None:
    p, C = 0.3, [0.2, 0.5, 0.8]
    features = SparseUniform([p] * 4)
    model = UntiedAutoencoder(4, 2, generator=seeded(3))
    with torch.no_grad():
        model.V[0, 0] *= -1  # a readout of negative slope: what it sees of the others stands beside +x
    found = curve(model, features, [1.0, 2.0, 0.5, 1.0], C=C, n_samples=40_000)
    x = features.sample(40_000, generator=seeded(4))
    network = Samples(x=x, response=model.response().detach()[0], loss="relu")
    plain = curve(network, importance=[1.0, 2.0, 0.5, 1.0], C=C)
    assert_close(found.losses[0], plain.losses, rtol=0.05, atol=0)
    assert not found.copied.any()
    readouts = Samples(x=x, z=x @ model.response().detach()[0].mT, loss="relu")
    assert_close(curve(readouts, C=C).losses, curve(network, C=C).losses, rtol=0.05, atol=0)


@pytest.mark.parametrize("features", [SparseUniform([0.2, 0.5]), SparseUniform([0.2, 0.5], standardise=True)])
def test_linear_autoencoders_have_constant_returns(features: SparseFeatures) -> None:
    model = TiedAutoencoder(2, 1, n_inst=2, activation="identity", generator=seeded(0))
    found = curve(model, features, [1.0, 2.0])
    variance = features.variance
    first = 1 - found.C_grid * variance[0] / (found.C_grid * variance[0] + (1 - found.C_grid) * variance[1])
    assert_close(found.losses[1, 0], variance[0] * first)
    assert_close(found.losses[0, :, 0], (variance * torch.tensor([1.0, 2.0])).expand(2, 2)[0])
    if features.standardise:
        assert found.kind.tolist() == [[Returns.CONSTANT] * 2] * 2


def test_dependent_features_are_drawn_jointly() -> None:
    features = CorrelatedFeatures(SparseUniform([0.3, 0.3]), [[0, 1]], correlation=0.9)
    model = TiedAutoencoder(2, 1, generator=seeded(1))
    with torch.no_grad():
        model.W[:] = torch.tensor([[[1.0], [-1.0]]])
    found = curve(model, features, [1.0, 1.0], C=[0.3, 0.5, 0.7], n_samples=20_000)
    x = features.sample(40_000, generator=seeded(2))
    plain = curve(Samples(x=x, response=model.response().detach()[0], loss="relu"), C=[0.3, 0.5, 0.7])
    assert_close(found.losses[0], plain.losses, rtol=0.05, atol=0)
    apart = curve(model, features.marginals, [1.0, 1.0], C=[0.3, 0.5, 0.7])
    assert (found.losses > 1.3 * apart.losses).all()  # partners that fire together cancel


def test_dependent_linear_features_and_copies() -> None:
    features = CorrelatedFeatures(SparseUniform([0.3, 0.3]), [[0, 1]], correlation=0.9)
    model = TiedAutoencoder(2, 2, activation="identity")
    with torch.no_grad():
        model.W[:] = torch.eye(2)
    found = curve(model, features, [1.0, 1.0], n_samples=20_000)
    assert found.copied.all()
    assert_close(found.losses[0] / found.losses[0, :, :1], (1 - found.C_grid).expand(2, -1), rtol=0, atol=0.02)


def test_models_with_neurons_have_linear_readouts() -> None:
    features = SparseUniform([0.1, 0.5], signed=True)
    hidden = HiddenLayerModel(2, 3, target="abs", n_inst=2, generator=seeded(0))
    found = curve(hidden, features, [1.0, 2.0], n_samples=100_000)
    p = features.feature_probability
    variance = p / 3 - p.square() / 4
    expected = torch.tensor([1.0, 2.0])[:, None] * variance[:, None] * (1 - found.C_grid)
    assert_close(found.losses, expected.expand(2, -1, -1), rtol=0.02, atol=1e-12)
    residual = ResidualMLP(2, 2, n_layers=1, d_mlp=3, generator=seeded(0))
    found = curve(residual, features, [1.0, 1.0])
    assert_close(found.losses[0], features.variance[:, None] * (1 - found.C_grid))
    assert found.kind.tolist() == [[Returns.CONSTANT] * 2]


def test_pure_features_take_the_antipodal_copy() -> None:
    model = TiedAutoencoder(3, 2)
    with torch.no_grad():
        model.W[:] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    features = SparseUniform([0.1, 0.1, 0.1])
    own = curve(model, features, [1.0] * 3)
    assert own.copied.tolist() == [[True, False, False]]
    copies = curve(model, features, [1.0] * 3, pattern="antipodal")
    assert copies.copied.all()
    assert_close(own.losses[:, 0], copies.losses[:, 0])
    pattern = torch.tensor([[0.0, -1.0, 0.0], [9.0, 9.0, -1.0], [0.0, -2.0, 3.0]], dtype=torch.float64)
    chosen = curve(model, features, [1.0] * 3, pattern=pattern, n_samples=20_000)
    assert not chosen.copied.any()
    assert_close(chosen.losses[0, 0], own.losses[0, 0], rtol=0.1, atol=2e-4)
    assert not chosen.losses[0, 1].isclose(own.losses[0, 1]).all()


def test_pure_samples_take_the_antipodal_copy() -> None:
    x = SparseUniform([0.2, 0.2]).sample(20_000, generator=seeded(0))
    by_model = curve(TiedAutoencoder(2, 1), SparseUniform([0.2, 0.2]), [1.0, 1.0], pattern="antipodal")
    for samples in (Samples(x=x, z=2 * x, loss="relu"), Samples(x=x, response=torch.eye(2).double(), loss="relu")):
        found = curve(samples, C=[0.0, 0.25, 0.5, 0.75, 1.0])
        assert found.copied.all()
        assert_close(found.losses, by_model.losses[0, :, ::8], rtol=0.1, atol=1e-4)
    weight = torch.rand(len(x), generator=seeded(1), dtype=torch.float64)
    found = curve(Samples(x=x, z=2 * x, loss="relu", weight=weight), C=[0.0, 0.25, 0.5, 0.75, 1.0])
    assert_close(found.losses, by_model.losses[0, :, ::8], rtol=0.1, atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 10.0))
def test_relu_curves_scale_with_the_square_of_the_features(seed: int, scale: float) -> None:
    samples = random_samples(seed)
    assert samples.z is not None
    assert samples.target is not None
    scaled = Samples(
        x=scale * samples.x, z=-3 * samples.z, target=scale * samples.target, weight=samples.weight, loss="relu"
    )
    one = curve(samples, C=INSIDE).losses
    other = curve(scaled, importance=[2.0, 2.0, 2.0], C=INSIDE).losses
    assert_close(other, 2 * scale**2 * one, rtol=1e-6, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_more_capacity_never_costs_where_interference_is_independent(seed: int) -> None:
    g = seeded(seed)
    p = (0.02 + 0.98 * torch.rand(3, generator=g, dtype=torch.float64)).tolist()
    model = TiedAutoencoder(3, 2, generator=g)
    found = curve(model, SparseUniform(p), [1.0] * 3, n_samples=256)
    assert (found.losses[..., 0] >= found.losses[..., 1] - 1e-12).all()
    assert (found.losses[..., -1] <= 1e-12).all()
    assert not found.status.any()


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = TiedAutoencoder(4, 2, n_inst=2, generator=seeded(0), dtype=torch.float32)
    features = SparseUniform([[0.1] * 4, [0.4] * 4])
    whole = curve(model, features, [1.0] * 4, n_samples=200)
    assert whole.losses.shape == (2, 4, 33)
    assert whole.losses.dtype == torch.float64
    monkeypatch.setattr(minima, "CHUNK_ELEMENTS", 1)
    parts = curve(model, features, [1.0] * 4, n_samples=200)
    assert_close(parts.losses, whole.losses, rtol=1e-12, atol=1e-15)
    alone = curve(TiedAutoencoder(4, 2, generator=seeded(0), dtype=torch.float32), features_of(0.1), [1.0] * 4)
    assert alone.losses.shape == (1, 4, 33)


def features_of(p: float) -> SparseUniform:
    return SparseUniform([p] * 4)


def test_a_callable_with_kinks_comes_close_to_the_global_minimum() -> None:
    model, features = TiedAutoencoder(4, 2, generator=seeded(0)), features_of(0.3)
    exact = curve(model, features, [1.0] * 4, n_samples=256)
    model.activation = torch.relu
    searched = curve(model, features, [1.0] * 4, n_samples=256)
    assert (searched.losses >= exact.losses - 1e-12).all()
    assert_close(searched.losses, exact.losses, rtol=0.02, atol=1e-5)


def test_what_has_no_minimum_is_said_to_have_none() -> None:
    x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    samples = Samples(x=x, z=torch.tensor([[-1.0], [2.0]]).double(), loss=lambda z, y: torch.exp(-z * y))
    found = curve(samples, C=[0.4, 0.6, 1.0])
    assert found.losses.isfinite().all()
    assert found.status[0, -1] == CurveStatus.NOT_CONVERGED or found.losses[0, -1] < 1e-6


def test_allocation_of_measured_curves() -> None:
    F, v = torch.tensor([20.0, 8.0, 6.0, 30.0]), torch.tensor([1.0, 0.9, 0.8, 0.3])
    features = SparseSign.from_kurtosis(F, standardise=True)
    found = curve(QuadraticModel(4, 2), features, v, C=torch.linspace(0, 1, 401))
    for total in (1.0, 2.0, 2.7):
        best = theory.allocate_curves(found.C_grid, found.losses[0], total)
        exact = theory.allocate(v, F, total)
        assert_close(best.capacity, exact.capacity, rtol=0, atol=1e-3)
        assert_close(best.loss, exact.loss, rtol=1e-5, atol=0)


X = torch.ones(4, 2, dtype=torch.float64)
MODEL = TiedAutoencoder(2, 1)
FEATURES = SparseUniform([0.5, 0.5])


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: curve(MODEL, FEATURES, [1.0, 1.0], C=[0.0, 0.5, 0.5]), "C must be at least two capacities"),
        (lambda: curve(MODEL, FEATURES, [1.0, 1.0], C=[0.5]), "C must be at least two capacities"),
        (lambda: curve(MODEL, FEATURES, [1.0, 1.0], C=[0.0, 0.5, 1.5]), "C must be at least two capacities"),
        (lambda: curve(MODEL, FEATURES, [1.0, 1.0], C=[0.0, 0.5, 1.0], C_min=0.6), "C_min must be at most the third"),
        (lambda: curve(MODEL, FEATURES, [1.0, 1.0], pattern="other"), "pattern must be one of 'network', 'antipodal'"),
        (lambda: curve(MODEL, FEATURES, [1.0, 1.0], pattern=torch.eye(3)), "shape of pattern must be"),
        (lambda: curve(MODEL, FEATURES, [1.0, 1.0], pattern=torch.eye(2)), "pattern must have an entry .* row 0"),
        (
            lambda: curve(ResidualMLP(2, 2, n_layers=1, d_mlp=3, output="relu"), FEATURES, [1.0, 1.0]),
            "output of the model must be 'identity', got 'relu'",
        ),
        (lambda: curve(MODEL, FEATURES, [1.0, 1.0], tolerance=-1.0), "tolerance must be non-negative"),
        (lambda: curve(MODEL, FEATURES, [1.0, 1.0], n_samples=1), "n_samples must be a whole number of at least 2"),
        (lambda: curve(MODEL, FEATURES, [1.0]), "importance must be"),
        (lambda: curve(MODEL, SparseUniform([0.5]), [1.0, 1.0]), "shape of features must be"),
        (lambda: curve(Samples(x=X, z=X), importance=[1.0, -1.0]), "importance must be non-negative"),
        (lambda: curve(Samples(x=X, z=X), importance=[1.0] * 3), "shape of importance must be"),
        (lambda: curve(Samples(x=X, z=X, loss=lambda z, y: z / 0)), "loss must be finite"),
        (lambda: Samples(x=X), "z and response must be given as one of the two, got 'neither'"),
        (lambda: Samples(x=X, z=X, response=torch.eye(2)), "z and response must be given as one of the two"),
        (lambda: Samples(x=X, z=X[:, :1]), r"shape of z must be \(4, 2\), got \(4, 1\)"),
        (lambda: Samples(x=X, response=X), "shape of response must be"),
        (lambda: Samples(x=X * math.nan, z=X), "x must be finite"),
        (lambda: Samples(x=X, z=X, weight=-X[:, 0]), "weight must be non-negative"),
        (lambda: Samples(x=X, z=X, weight=0 * X[:, 0]), "weight must be non-negative, and not all 0"),
        (lambda: Samples(x=X, z=X, loss="hinge"), "loss must be a callable or one of 'linear', 'relu', 'abs'"),
        (lambda: Samples(x=X[:1], z=X[:1]), "shape of x must be"),
    ],
)
def test_bad_values(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: curve(MODEL, None, [1.0, 1.0]), "features must be given with a model"),
        (lambda: curve(MODEL, FEATURES), "importance must be given with a model"),
        (lambda: curve(Samples(x=X, z=X), FEATURES), "features must be left out with Samples"),
        (lambda: curve(X), "model_or_samples must be a toy model or Samples, got Tensor"),
        (lambda: Samples(x=[[1.0]], z=X), "x must be a torch.Tensor"),
    ],
)
def test_bad_types(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()
