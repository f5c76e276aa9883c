"""Returns of directions: along an axis those of the feature, elsewhere what they are defined by."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from polysem.features import SparseSign, SparseUniform
from polysem.measure import FeatureClass, direction_capacity, response_capacity
from polysem.returns import Samples, SlopeMoments, curve, direction_losses, direction_prices, prices, slope_moments
from polysem.zoo import Autoencoder, QuadraticModel, TiedAutoencoder, ToyModel, UntiedAutoencoder

N, D, STEP = 5, 3, 1e-5
IMPORTANCE = [1.0, 0.9, 0.8, 0.7, 0.6]
GRID = torch.tensor([0.0, 0.1, 0.5, 1.0], dtype=torch.float64)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def units(*shape: int, seed: int) -> Tensor:
    return torch.nn.functional.normalize(normal(*shape, seed=seed), dim=-1)


def rotation(n: int, seed: int) -> Tensor:
    return torch.linalg.qr(normal(n, n, seed=seed)).Q


def models() -> list[ToyModel]:
    g = seeded(3)
    return [
        QuadraticModel(N, D, n_inst=2, generator=g),
        TiedAutoencoder(N, D, n_inst=2, activation="relu", generator=g),
        UntiedAutoencoder(N, D, n_inst=2, activation="gelu", generator=g),
    ]


@pytest.fixture(scope="module")
def x() -> Tensor:
    return SparseSign([0.3] * N, standardise=True).sample(400, generator=seeded(0))


def in_a_basis(R: Tensor, u: Tensor) -> float:
    """Capacity of `u` as the first feature of an orthonormal basis."""
    basis = torch.linalg.qr(torch.cat([u[:, None], normal(len(u), len(u) - 1, seed=1)], -1)).Q
    turned = basis.mT @ R @ basis
    return float(turned[0, 0] ** 2 / turned[0].square().sum())


def test_capacity_is_that_of_a_feature_in_a_basis_with_the_direction() -> None:
    R, u = normal(N, N, seed=0), units(7, N, seed=1)
    found = direction_capacity(R, 3 * u)
    assert_close(found, torch.tensor([in_a_basis(R, row) for row in u], dtype=torch.float64))
    axes = direction_capacity(R, torch.eye(N, dtype=torch.float64))
    assert_close(axes, response_capacity(torch.eye(N, dtype=torch.float64), R))
    symmetric = R + R.mT
    assert_close(direction_capacity(symmetric, torch.linalg.eigh(symmetric).eigenvectors.mT), torch.ones_like(axes))


def test_along_axes_prices_are_those_of_features(x: Tensor) -> None:
    axes = torch.eye(N, dtype=torch.float64).expand(2, N, N)
    for model in models():
        expected = prices(model, x, IMPORTANCE)
        impure = expected.feature_class == FeatureClass.IMPURE
        found = direction_prices(slope_moments(model, x, IMPORTANCE), axes)
        assert impure.sum() >= 3
        assert_close(found[impure], expected.price[impure], rtol=1e-9, atol=0)


def moved_loss(model: ToyModel, x: Tensor, u: Tensor, s: float) -> Tensor:
    """The loss with the readout along `u` of instance 0 at scaled interference."""
    R = model.response()[0].detach()
    z = x @ R.mT
    off = z @ u - (u @ R @ u) * (x @ u)
    z = z + (math.sqrt(1 - s) - 1) * off[:, None] * u
    scale = torch.tensor(IMPORTANCE, dtype=torch.float64)
    if isinstance(model, QuadraticModel):
        return ((x * z).sum(-1) + model.b[0] - (scale * x.square()).sum(-1)).square().mean().detach()
    assert isinstance(model, Autoencoder)
    act = torch.relu if model.activation == "relu" else torch.nn.functional.gelu
    return (scale * (act(z + model.b[0]) - x).square()).sum(-1).mean().detach()


def test_prices_are_finite_differences(x: Tensor) -> None:
    u = units(2, 6, N, seed=5)
    for model in models():
        C = direction_capacity(model.response().detach(), u)[0]
        slope = [(moved_loss(model, x, one, STEP) - moved_loss(model, x, one, -STEP)) / (2 * STEP) for one in u[0]]
        found = direction_prices(slope_moments(model, x, IMPORTANCE), u)[0]
        assert_close(found, torch.stack(slope) / (C * (1 - C)), rtol=1e-4, atol=1e-6)


def test_prices_do_not_depend_on_coordinates(x: Tensor) -> None:
    Q, u = rotation(N, 2), units(2, 6, N, seed=5)
    for model in models():
        moments = slope_moments(model, x, IMPORTANCE)
        assert_close(direction_prices(moments.rotated(Q), u @ Q), direction_prices(moments, u))


def test_moments_weigh_samples(x: Tensor) -> None:
    model = models()[0]
    few, weight = x[:3], torch.tensor([2.0, 1.0, 1.0])
    again = slope_moments(model, torch.cat([few[:1], few]), IMPORTANCE)
    found = slope_moments(model, few, IMPORTANCE, weight=weight)
    assert_close(found.with_readout, again.with_readout)
    assert_close(found.with_input, again.with_input)


def test_the_price_of_a_pure_direction_is_not_a_number_out_of_rounding() -> None:
    eye = torch.eye(2, dtype=torch.float64)
    moments = SlopeMoments(eye, eye, torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64)))
    assert direction_prices(moments, eye).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("kind", ["linear", "relu", "abs"])
def test_along_axes_losses_are_the_curves_of_samples(kind: str) -> None:
    x = SparseUniform([0.3] * N).sample(300, generator=seeded(1))
    R = normal(N, N, seed=4)
    found = direction_losses(torch.eye(N, dtype=torch.float64), x, R, GRID, loss=kind)
    expected = curve(Samples(x, response=R, loss=kind), C=GRID).losses
    assert_close(found, expected, rtol=1e-7, atol=1e-9)


def test_losses_of_pure_directions_are_those_beside_an_antipodal_copy() -> None:
    x = SparseUniform([0.3] * 2).sample(4000, generator=seeded(1))
    R = torch.eye(2, dtype=torch.float64)
    found = direction_losses(R, x, R, GRID, loss="relu")
    expected = curve(Samples(x, response=R, loss="relu"), C=GRID, pattern="antipodal").losses
    assert_close(found, expected, rtol=0.1, atol=1e-3)


def test_gradients_of_losses_hold_the_minimum_fixed() -> None:
    x = SparseUniform([0.3] * N).sample(2000, generator=seeded(1))[:, None].expand(-1, 2, -1)
    R = torch.stack([normal(N, N, seed=s) for s in (4, 5)])
    u = units(2, 3, N, seed=6).requires_grad_()
    along = units(2, 3, N, seed=7)
    (slope,) = torch.autograd.grad(direction_losses(u, x, R, GRID[2:3], loss="relu").sum(), u)
    ahead, behind = (
        direction_losses((u + step * along).detach(), x, R, GRID[2:3], loss="relu").sum() for step in (STEP, -STEP)
    )
    assert_close((slope * along).sum(), (ahead - behind) / (2 * STEP), rtol=1e-4, atol=1e-7)


def test_linear_readouts_have_straight_curves_in_every_direction() -> None:
    x = torch.tensor(list(itertools.product([1.0, -1.0], repeat=3)), dtype=torch.float64)
    found = direction_losses(units(4, 3, seed=2), x, normal(3, 3, seed=3), GRID)
    assert_close(found, (1 - GRID).expand(4, -1))


@pytest.mark.bad_input
def test_bad_arguments() -> None:
    eye = torch.eye(3)
    with pytest.raises(ValueError, match=r"shape of directions must be .*n = 3"):
        direction_capacity(eye, torch.ones(2, 2))
    with pytest.raises(ValueError, match="shape of response"):
        direction_capacity(eye[:2], eye)
    with pytest.raises(TypeError, match=r"directions must be a torch.Tensor"):
        direction_capacity(eye, [[1.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match="loss must be one of"):
        direction_losses(eye, eye, eye, GRID, loss="gelu")
