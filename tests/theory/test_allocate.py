"""The optimal allocation of the quadratic model, on both sides of kurtosis 3."""

import math
import runpy
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from polysem.theory import Allocation, Status, allocate, loss, marginal_benefit, optimal_norm

BENCHMARK = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "allocation.py")))

kurtosis = st.floats(1, 100) | st.sampled_from([1.0, 2.999999, 3 - 1e-12, 3.0, 3 + 1e-12, 3.000001, 1e6])
feature = st.tuples(st.floats(0.001, 10) | st.sampled_from([0.0, 1.0]), kurtosis)
totals = st.integers(0, 9 * 2**20).map(lambda steps: steps / 2**20) | st.integers(0, 9).map(float)
features = st.lists(feature, min_size=1, max_size=8)


def separate(pairs: list[tuple[float, float]]) -> tuple[Tensor, Tensor]:
    v, F = torch.tensor(pairs, dtype=torch.float64).unbind(-1)
    return v, F


def random_mixture(n_features: int, seed: int, low: float = 1.2, high: float = 100.0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    F = np.exp(rng.uniform(np.log(low), np.log(high), n_features))
    return torch.from_numpy(rng.uniform(0.1, 1, n_features)), torch.from_numpy(F)


def assert_first_order_conditions(best: Allocation, v: Tensor, F: Tensor, total: float) -> None:
    """Feasible; the budget spent where it has a price; marginal benefits on the right side of the price."""
    C, price = best.capacity, best.price.item()
    assert ((C >= 0) & (C <= 1)).all()
    useful = int(((v > 0) & (F > 1)).sum())
    assert_close(C.sum().item(), float(min(total, useful)), rtol=1e-12, atol=1e-12)
    assert_close(best.loss, loss(v, F, C).sum())
    assert best.squared_norm is not None
    assert_close(best.squared_norm, optimal_norm(v, F, C))
    benefit = marginal_benefit(v, F, C)
    assert (benefit[C < 1] <= price * (1 + 1e-7)).all()
    assert (benefit[C > 0] >= price * (1 - 1e-7)).all()
    assert best.status == (Status.SATURATED if total >= useful else Status.OPTIMAL)
    assert (price == 0) == (total >= useful)


def test_ten_features_in_four_dimensions() -> None:
    v = 0.9 ** torch.arange(10, dtype=torch.float64)
    best = allocate(v, 20.0, 4)
    assert ((best.capacity > 0.05) & (best.capacity < 0.95)).all()
    assert round(best.loss.item(), 2) == 10.14
    assert round(loss(v, 20.0, [1.0] * 4 + [0.0] * 6).sum().item(), 2) == 30.89


def test_two_features_of_increasing_returns() -> None:
    best = allocate([1.0, 0.9], 2.0, 1)
    assert best.capacity.tolist() == [1.0, 0.0]
    assert_close(best.loss.item(), 0.81)


@pytest.mark.parametrize("index", range(20))
def test_agrees_with_independent_solvers(index: int) -> None:
    v, F, total = BENCHMARK.random_instances(20, seed=7)[index]
    best = allocate(v, F, total)
    assert_first_order_conditions(best, v, F, total)
    if (F >= 3).all():
        C, price = BENCHMARK.conic(v, F, total)
        assert_close(best.price.item(), price, rtol=1e-4, atol=0)
    else:
        C = BENCHMARK.grid_then_slsqp(v, F, total)
    assert_close(best.loss, loss(v, F, C).sum(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("seed", range(12))
def test_small_mixtures_and_fractional_totals_against_brute_force(seed: int) -> None:
    v, F = random_mixture(3, seed, high=[2.9, 6.0, 30.0][seed % 3])
    total = float(np.random.default_rng(seed).uniform(0.2, 2.8))
    best = allocate(v, F, total)
    lowest = math.inf
    line = torch.linspace(0, 1, 101, dtype=torch.float64)
    for first in line:
        # The third takes what the first two leave.
        third = (total - first - line).clamp(0, 1)
        second = (total - first - third).clamp(0, 1)
        losses = loss(v[0], F[0], first) + loss(v[1], F[1], second) + loss(v[2], F[2], third)
        lowest = min(lowest, losses.min().item())
    assert best.loss.item() <= lowest + 1e-12
    assert_close(best.loss.item(), lowest, rtol=2e-3, atol=1e-3)
    refined = BENCHMARK.grid_then_slsqp(v, F, total)
    assert_close(best.loss, loss(v, F, refined).sum(), rtol=1e-9, atol=0)


def by_exhaustion(v: Tensor, F: Tensor, total: float) -> float:
    """Least loss over every set of pure falling features, every choice of a fractional one, a line of fractions."""
    falling = ((F > 1) & (F < 3)).nonzero().flatten().tolist()
    rising = F >= 3
    # With the fraction that the total itself leaves when every other feature is pure or ignored.
    line = torch.cat([torch.linspace(0, 1, 4001, dtype=torch.float64), torch.tensor([total % 1], dtype=torch.float64)])
    lowest = math.inf
    for size in range(len(falling) + 1):
        for pure in combinations(falling, size):
            for k in [None, *(set(falling) - set(pure))]:
                fraction = line if k is not None else torch.zeros(1, dtype=torch.float64)
                fraction = fraction[fraction <= total - size]
                if len(fraction) == 0:
                    continue
                ignored = [i for i in falling if i != k and i not in pure]
                losses = loss(v[ignored], F[ignored], 0).sum()
                if k is not None:
                    losses = losses + loss(v[k], F[k], fraction)
                if rising.any():
                    losses = losses + allocate(v[rising], F[rising], total - size - fraction).loss
                lowest = min(lowest, losses.min().item())
    return lowest


@pytest.mark.parametrize(
    ("v", "F", "total"),
    [
        # The fractional one is worth more than a pure one.
        ([0.52092, 1.0, 0.23119], [2.38138, 1.08377, 2.86413], 2.55264),
        # One pure feature fewer than without a fractional one.
        ([0.86558, 0.72702, 1.0], [2.62839, 3.88805, 2.5656], 1.0),
        # Both.
        ([0.55332, 0.12828, 1.0, 0.12349, 0.46382], [2.67369, 1.98452, 1.07862, 4.30887, 1.02503], 4.93072),
        # Several ones of either kind, just around 3.
        ([0.7, 0.71, 0.72, 0.73], [2.95, 3.05, 2.97, 3.1], 2.5),
        ([1.0, 1.0, 1.0, 1.0], [2.999, 3.0, 3.001, 2.9], 1.9),
    ],
)
def test_a_fraction_of_increasing_returns(v: list[float], F: list[float], total: float) -> None:
    check_against_exhaustion(torch.tensor(v, dtype=torch.float64), torch.tensor(F, dtype=torch.float64), total)


@pytest.mark.parametrize("seed", range(12))
def test_random_fractions_of_increasing_returns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    v = torch.from_numpy(rng.uniform(0.1, 1, 5))
    F = torch.from_numpy(np.concatenate([3 - rng.uniform(0, 1.9, 3) ** 2 / 1.9, rng.uniform(3, 20, 2)]))
    check_against_exhaustion(v, F, float(rng.uniform(0.3, 4.5)))


def check_against_exhaustion(v: Tensor, F: Tensor, total: float) -> None:
    best = allocate(v, F, total)
    lowest = by_exhaustion(v, F, total)
    assert best.loss.item() <= lowest * (1 + 1e-12)
    assert_close(best.loss.item(), lowest, rtol=1e-6, atol=1e-6)
    assert_first_order_conditions(best, v, F, total)


def test_one_feature_of_increasing_returns_may_share_with_diminishing_ones() -> None:
    v, F = [1.0, 0.5], [2.5, 20.0]
    best = allocate(v, F, 1)
    assert ((best.capacity > 0.1) & (best.capacity < 0.9)).all()
    first = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    losses = loss(v[0], F[0], first) + loss(v[1], F[1], 1 - first)
    assert_close(best.capacity[0], first[losses.argmin()], rtol=0, atol=1e-5)
    assert_close(best.loss, losses.min(), rtol=1e-9, atol=0)


@settings(deadline=None, max_examples=60)
@given(features, totals)
def test_first_order_conditions(pairs: list[tuple[float, float]], total: float) -> None:
    v, F = separate(pairs)
    best = allocate(v, F, total)
    assert_first_order_conditions(best, v, F, total)
    falling = best.capacity[(F > 1) & (F < 3)]
    assert ((falling > 0) & (falling < 1)).sum() <= 1


@settings(deadline=None, max_examples=40)
@given(features, totals, st.integers(0, 2**31))
def test_nothing_feasible_is_better(pairs: list[tuple[float, float]], total: float, seed: int) -> None:
    v, F = separate(pairs)
    generator = torch.Generator().manual_seed(seed)
    # Random points, and random orders in which features are filled one after the other.
    inside = torch.rand(200, len(v), generator=generator, dtype=torch.float64)
    inside = inside * (total / inside.sum(-1, keepdim=True)).clamp(max=1)
    filled = (total - torch.arange(len(v), dtype=torch.float64)).clamp(0, 1).expand(200, -1)
    order = torch.rand(200, len(v), generator=generator).argsort(-1)
    C = torch.cat([inside, filled.gather(-1, order)])
    assert allocate(v, F, total).loss <= loss(v, F, C).sum(-1).min() * (1 + 1e-12)


@settings(deadline=None, max_examples=40)
@given(features, totals, st.floats(0, 2))
def test_more_capacity_never_hurts_and_prices_are_its_gain(
    pairs: list[tuple[float, float]], total: float, more: float
) -> None:
    v, F = separate(pairs)
    here, there = allocate(v, F, total), allocate(v, F, total + more)
    gain = (here.loss - there.loss).item()
    assert gain >= -1e-12 * here.loss.item()
    if (F >= 3).all():  # convex: the price falls
        rounding = 1e-12 * here.loss.item()
        assert there.price.item() * more - rounding <= gain * (1 + 1e-9)
        assert gain <= here.price.item() * more * (1 + 1e-9) + rounding


@settings(deadline=None, max_examples=40)
@given(features, totals, st.integers(-400, 400), st.randoms())
def test_scale_and_order_do_not_matter(
    pairs: list[tuple[float, float]], total: float, exponent: int, random: object
) -> None:
    v, F = separate(pairs)
    best, scaled = allocate(v, F, total), allocate(v * 2.0**exponent, F, total)
    assert_close(scaled.capacity, best.capacity, rtol=0, atol=0)
    assert_close(scaled.price, best.price * 4.0**exponent, rtol=1e-12, atol=0)
    assert_close(scaled.loss, best.loss * 4.0**exponent, rtol=1e-12, atol=0)
    turned = allocate(v.flip(0), F.flip(0), total)
    assert_close(turned.loss, best.loss, rtol=1e-12, atol=0)


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("total", [2.0, 3.37])
def test_price_is_the_right_derivative(seed: int, total: float) -> None:
    v, F = random_mixture(9, seed, low=[1.2, 1.2, 3.0][seed % 3], high=[2.9, 60.0, 60.0][seed % 3])
    step = 1e-6
    best = allocate(v, F, total)
    slope = (best.loss - allocate(v, F, total + step).loss) / step
    assert_close(best.price, slope, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("v", "F", "total", "price"),
    [
        ([1.0, 0.3], 5.0, 1.0, (0.3 * 4) ** 2 / 2),  # diminishing: what the ignored one offers, not 2
        ([1.0, 0.9], 2.0, 1.0, 0.9**2 / 2),  # increasing
        ([2.0, 0.1, 0.5], [9.0, 9.0, 2.5], 1.0, (0.1 * 8) ** 2 / 2),  # an ignored one of either kind
        ([2.0, 0.1, 1.5], [9.0, 9.0, 2.9], 1.0, (1.5 * 1.9) ** 2 / 2),
        ([1.0, 2.0, 0.1], [5.0, 2.0, 30.0], 0.0, (1.0 * 4) ** 2 / 2),  # nothing yet: the largest offer
        ([1.0, 1.0], 3.0, 1.0, 2.0),
    ],
)
def test_price_where_all_are_pure_or_ignored(v: list[float], F: object, total: float, price: float) -> None:
    assert_close(allocate(v, F, total).price.item(), price)


def test_ties_of_constant_returns_share_equally() -> None:
    v = [2.0, 1.0, 1.0, 1.0, 0.5]
    for F in (3.0, 3 + 1e-12):
        C = allocate(v, F, 2.5).capacity
        assert_close(C, torch.tensor([1.0, 0.5, 0.5, 0.5, 0.0], dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("difference", [1e-15, 1e-12, 1e-9, 1e-6])
def test_continuous_at_kurtosis_3(difference: float) -> None:
    v = torch.tensor([1.0, 0.7, 0.7, 0.4], dtype=torch.float64)
    at_3 = allocate(v, [8.0, 3.0, 3.0, 2.0], 1.7)
    for sign in (-1, 1):
        near = allocate(v, [8.0, 3 + sign * difference, 3 + sign * difference, 2.0], 1.7)
        assert_close(near.loss, at_3.loss, rtol=3 * difference + 1e-14, atol=0)
        assert_close(near.capacity[0], at_3.capacity[0], rtol=0, atol=3 * difference + 1e-14)
        assert_close(near.capacity[1:3].sum(), at_3.capacity[1:3].sum(), rtol=0, atol=3 * difference + 1e-14)


@pytest.mark.parametrize("difference", [3e-13, 1e-12, 7e-12, 3e-11])
def test_a_narrow_rise_just_above_3_ends_where_it_should(difference: float) -> None:
    # To the last bit of capacity the price is 2 v², and then that of the next feature.
    for v in (1.0, 0.9, 0.7, 0.3):
        almost, all_of_it = allocate([v, 0.01], [3 + difference, 5.0], [1 - 1e-6, 1.0]).price.tolist()
        assert_close(almost, 2 * v**2)
        assert_close(all_of_it, 0.04**2 / 2)


def test_many_features_just_above_3_spend_the_whole_budget() -> None:
    v = 1 + 1e-13 * torch.arange(50, dtype=torch.float64)
    F = 3 + 1e-12 * torch.arange(1, 51, dtype=torch.float64)
    assert_first_order_conditions(allocate(v, F, 20.5), v, F, 20.5)


def test_worthless_features_get_nothing() -> None:
    best = allocate([1.0, 0.0, 5.0, 1.0], [5.0, 5.0, 1.0, 2.0], 1.5)
    assert best.capacity[1:3].tolist() == [0.0, 0.0]
    assert_first_order_conditions(best, *separate([(1, 5), (0, 5), (5, 1), (1, 2)]), 1.5)
    nothing = allocate([0.0, 0.0], 5.0, 1)
    assert nothing.capacity.tolist() == [0.0, 0.0]
    assert (nothing.price, nothing.loss, nothing.status) == (0, 0, Status.SATURATED)


@pytest.mark.parametrize("F", [2.0, 3.0, 7.0])
@pytest.mark.parametrize("total", [2, 2.5, 100])
def test_capacity_for_everybody(F: float, total: float) -> None:
    best = allocate([1.0, 0.5], F, total)
    assert best.capacity.tolist() == [1.0, 1.0]
    assert (best.price, best.loss, best.status) == (0, 0, Status.SATURATED)


@pytest.mark.parametrize("scale", [1e-290, 1e-150, 1e150, 1e290])
def test_extreme_scales_leave_capacity_as_it_is(scale: float) -> None:
    v, F = random_mixture(12, 3)
    best, scaled = allocate(v, F, 4), allocate(v * scale, F, 4)
    assert_close(scaled.capacity, best.capacity, rtol=1e-12, atol=1e-12)
    assert not scaled.price.isnan()
    assert not scaled.loss.isnan()


def test_extreme_ratios_of_importance() -> None:
    C = allocate([1e300, 1e-300, 2e-300], 5.0, 2).capacity
    assert C[0] == 1
    C = allocate([1e150, 1e-100, 2e-100, 1e-100], [5.0, 2.0, 2.0, 2.0], 2).capacity
    assert C.tolist() == [1.0, 0.0, 1.0, 0.0]


def test_batch_axes_broadcast_and_equal_single_cells() -> None:
    v, F = random_mixture(6, 5)
    v = torch.stack([v, v.flip(0), v**2])[:, None]
    total = torch.tensor([0.0, 1.3, 2.0, 9.0], dtype=torch.float64)
    together = allocate(v, F, total)
    assert together.capacity.shape == (3, 4, 6)
    assert together.price.shape == together.loss.shape == together.status.shape == (3, 4)
    for row in range(3):
        for column in range(4):
            alone = allocate(v[row, 0], F, total[column])
            assert_close(together.capacity[row, column], alone.capacity, rtol=0, atol=1e-14)
            assert_close(together.price[row, column], alone.price)
            assert_close(together.loss[row, column], alone.loss)
            assert together.status[row, column] == alone.status


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    v = torch.rand(40, 9, generator=generator, dtype=torch.float64)
    F = 1.2 + 8 * torch.rand(40, 9, generator=generator, dtype=torch.float64)
    whole = allocate(v, F, 3)
    monkeypatch.setattr("polysem.theory._rising.CHUNK", 50)
    parts = allocate(v, F, 3)
    assert_close(parts.capacity, whole.capacity, rtol=0, atol=1e-14)
    assert_close(parts.price, whole.price)


def test_empty_batches() -> None:
    assert allocate([1.0, 2.0], 2.0, torch.zeros(0)).capacity.shape == (0, 2)
    assert allocate(torch.zeros(0, 3), 5.0, 1.0).price.shape == (0,)


@pytest.mark.parametrize(("n_features", "low", "cells"), [(100_000, 3.0, 2), (1000, 1.2, 2), (20, 1.2, 300)])
def test_many_features_and_many_cells(n_features: int, low: float, cells: int) -> None:
    v, F = random_mixture(n_features, 0, low=low)
    total = torch.linspace(0.05 * n_features, 0.6 * n_features, cells, dtype=torch.float64)
    best = allocate(v, F, total)
    assert_close(best.capacity.sum(-1), total, rtol=1e-12, atol=0)
    assert (best.loss.diff() < 0).all()
    benefit = marginal_benefit(v, F, best.capacity)
    price = best.price[:, None]
    assert (benefit <= price * (1 + 1e-9)).logical_or(best.capacity == 1).all()
    assert (benefit >= price * (1 - 1e-9)).logical_or(best.capacity == 0).all()


def test_numbers_arrays_and_graphs() -> None:
    v = torch.tensor([1.0, 0.5], requires_grad=True)
    best = allocate(v, np.array([5, 6]), 1)
    assert best.capacity.dtype == torch.float64
    assert not best.loss.requires_grad


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("v", "F", "total", "message"),
    [
        ([1.0, -0.5], 5.0, 1, r"v must be non-negative and finite, got \[1.0, -0.5\]"),
        ([1.0, math.nan], 5.0, 1, "v must be free of NaN"),
        ([1.0, math.inf], 5.0, 1, "v must be non-negative and finite"),
        (1.0, 5.0, 1, r"v must be of shape \[\*batch, n_features\]"),
        ([], 5.0, 1, "v must be of shape"),
        ([1.0], 0.5, 1, "kurtosis must be finite and at least 1"),
        ([1.0], math.nan, 1, "kurtosis must be free of NaN"),
        ([1.0], 5.0, -1, "total must be non-negative and finite, got -1"),
        ([1.0], 5.0, math.inf, "total must be non-negative and finite"),
        ([1.0], 5.0, math.nan, "total must be free of NaN"),
        ([1.0, 2.0], [5.0] * 3, 1, r"must broadcast, got v \[2\], kurtosis \[3\]"),
        ([[1.0], [2.0]], 5.0, [1.0] * 3, r"must broadcast, got v\[..., 0\] \[2\], total \[3\]"),
    ],
)
def test_bad_input(v: object, F: object, total: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        allocate(v, F, total)


@pytest.mark.bad_input
def test_bad_type() -> None:
    with pytest.raises(TypeError, match="total must be a number"):
        allocate([1.0], 5.0, None)
