"""The points A to F against optima worked out by hand."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from polysem.studies import POINTS, Points, PointsConfig, points


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture(scope="module")
def result() -> Points:
    return points(PointsConfig(n_grid=21))


def loss_at(F: float, v: tuple[float, float], first: float) -> float:
    """`L_1(C_1) + L_2(1 − C_1)`."""
    return sum(2 * (F - 1) * w**2 * (1 - C) / (2 + (F - 3) * C) for w, C in zip(v, (first, 1 - first), strict=True))


def benefit_at(F: float, v: float, C: float) -> float:
    return 2 * v**2 * (F - 1) ** 2 / (2 + (F - 3) * C) ** 2


def test_the_points_lie_where_the_theory_puts_them() -> None:
    """A, B: F < 3; C: F = 3; D, E: F > 3, inside the boundaries 2/(F − 1) and (F − 1)/2; F: below the first."""
    place = {point.name: (point.kurtosis, point.ratio) for point in POINTS}
    assert list(place) == ["A", "B", "C", "D", "E", "F"]
    for name, (F, ratio) in place.items():
        assert (F < 3) == (name in "AB")
        assert (F == 3) == (name == "C")
        assert (ratio == 1) == (name in "BCD")
        if F > 3:
            assert (2 / (F - 1) < ratio < (F - 1) / 2) == (name in "DE")


def test_optima_by_hand(result: Points) -> None:
    """E, F = 6, v = (1, 0.6): `1 / (2 + 3 C_1) = 0.6 / (5 − 3 C_1)`, so `C_1 = 3.8 / 4.8`."""
    first = {"A": 1.0, "B": 1.0, "C": 0.5, "D": 0.5, "E": 3.8 / 4.8, "F": 1.0}
    assert_close(result.optimum.capacity[:, 0], doubles(*first.values()), rtol=0, atol=1e-12)
    assert_close(result.optimum.capacity.sum(1), torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-12)
    loss = [loss_at(point.kurtosis, (1.0, point.ratio), first[point.name]) for point in POINTS]
    assert_close(result.optimum.loss, doubles(*loss), rtol=1e-12, atol=0)
    assert_close(doubles(*loss)[[0, 1, 2, 3, 5]], doubles(0.64, 1.0, 2.0, 20 / 7, 0.45), rtol=1e-12, atol=0)


def test_no_division_on_a_fine_grid_is_better(result: Points) -> None:
    for point, optimum in zip(POINTS, result.optimum.loss.tolist(), strict=True):
        best = min(loss_at(point.kurtosis, (1.0, point.ratio), k / 10_000) for k in range(10_001))
        assert 0 <= best - optimum < 1e-6


def test_curves(result: Points) -> None:
    assert_close(result.first_capacity, doubles(*(k / 20 for k in range(21))), rtol=0, atol=1e-15)
    for index, point in enumerate(POINTS):
        first, second = result.benefit[index]
        grid = result.first_capacity.tolist()
        assert_close(first, doubles(*(benefit_at(point.kurtosis, 1.0, C) for C in grid)), rtol=1e-12, atol=0)
        assert_close(
            second, doubles(*(benefit_at(point.kurtosis, point.ratio, 1 - C) for C in grid)), rtol=1e-12, atol=0
        )


def test_benefits_at_the_optimum_and_where_training_ends(result: Points) -> None:
    for capacity, benefit in (
        (result.optimum.capacity, result.optimum_benefit),
        (result.trained_capacity, result.trained_benefit),
    ):
        for index, point in enumerate(POINTS):
            here = [
                benefit_at(point.kurtosis, v, float(C))
                for v, C in zip((1.0, point.ratio), capacity[index], strict=True)
            ]
            assert_close(benefit[index], doubles(*here), rtol=1e-12, atol=0)
    assert_close(result.optimum_benefit[[3, 4], 0], result.optimum_benefit[[3, 4], 1], rtol=1e-12, atol=0)


def test_training_reaches_the_optimum(result: Points) -> None:
    """At B the winner is arbitrary, at C every division is as good."""
    assert_close(result.trained_loss, result.optimum.loss, rtol=1e-12, atol=0)
    unique = [index for index, point in enumerate(POINTS) if point.name not in "BC"]
    assert_close(result.trained_capacity[unique], result.optimum.capacity[unique], rtol=0, atol=1e-6)
    assert_close(result.trained_capacity[1].sort(descending=True).values, doubles(1.0, 0.0), rtol=0, atol=1e-6)
    assert_close(result.trained_capacity.sum(1), torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-6)


def test_one_seed_gives_one_result(result: Points) -> None:
    same, other = points(PointsConfig(n_grid=21)), points(PointsConfig(n_grid=21, seed=1))
    assert torch.equal(same.trained_capacity, result.trained_capacity)
    assert not torch.equal(other.trained_capacity, result.trained_capacity)
