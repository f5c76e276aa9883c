"""Allocation among arbitrary curves."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from polysem.theory import Status, allocate, allocate_curves, loss
from polysem.theory._knapsack import cheapest_choices


def grid(points: int) -> torch.Tensor:
    return torch.linspace(0, 1, points, dtype=torch.float64)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 5))
def test_dynamic_programming_is_exact(seed: int, n_items: int, n_choices: int) -> None:
    rng = np.random.default_rng(seed)
    costs = rng.integers(0, 6, (n_items, n_choices)).astype(float)
    costs[rng.random(costs.shape) < 0.2] = np.inf
    costs[:, 0] = 9.0
    budgets = np.arange(n_items * n_choices)
    chosen = cheapest_choices(costs, budgets)
    every = [(sum(steps), costs[range(n_items), steps].sum()) for steps in product(range(n_choices), repeat=n_items)]
    for budget, steps in zip(budgets, chosen, strict=True):
        assert steps.sum() <= budget
        assert costs[range(n_items), steps].sum() == min(cost for size, cost in every if size <= budget)


def test_dynamic_programming_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = np.random.default_rng(0).random((5, 8))
    whole = cheapest_choices(costs, np.array([3, 17, 30]))
    monkeypatch.setattr("polysem.theory._knapsack.WINDOW", 20)
    assert (cheapest_choices(costs, np.array([3, 17, 30])) == whole).all()


@pytest.mark.parametrize(("points", "largest", "tolerance"), [(51, 20.0, 1e-6), (101, 100.0, 1e-8), (201, 100.0, 1e-9)])
def test_agrees_with_the_closed_form(points: int, largest: float, tolerance: float) -> None:
    rng = np.random.default_rng(points)
    for _ in range(6):
        n_features = int(rng.integers(2, 21))
        v = torch.from_numpy(rng.uniform(0.3, 1, n_features))
        kurtosis = torch.from_numpy(np.exp(rng.uniform(np.log(1.2), np.log(largest), n_features)))
        total = float(rng.uniform(0.5, 0.6 * n_features))
        exact = allocate(v, kurtosis, total)
        found = allocate_curves(grid(points), loss(v[:, None], kurtosis[:, None], grid(points)), total)
        assert_close(found.capacity.sum().item(), total, rtol=1e-9, atol=0)
        assert_close(loss(v, kurtosis, found.capacity).sum(), exact.loss, rtol=tolerance, atol=0)
        assert_close(found.price, exact.price, rtol=1e-3, atol=0)
        assert found.status == Status.INTERPOLATED
        assert found.squared_norm is None


def test_one_call_serves_many_totals_on_the_grid_and_off_it() -> None:
    curves = loss([[1.0], [0.8], [0.7]], [[2.0], [6.0], [20.0]], grid(41))
    totals = torch.tensor([[0.0, 0.3], [1.0, 1.234567], [2.5, 3.0]], dtype=torch.float64)
    together = allocate_curves(grid(41), curves, totals)
    assert together.capacity.shape == (3, 2, 3)
    for row, column in product(range(3), range(2)):
        alone = allocate_curves(grid(41), curves, totals[row, column])
        assert_close(together.capacity[row, column], alone.capacity)
        assert_close(together.loss[row, column], alone.loss)
        assert_close(together.price[row, column], alone.price)
        assert_close(alone.capacity.sum(), totals[row, column], rtol=0, atol=1e-9)
    assert together.status.flatten().tolist() == [Status.INTERPOLATED] * 5 + [Status.SATURATED]


def test_the_price_without_a_fraction_is_the_next_bit() -> None:
    curves = loss([[1.0], [0.2]], 5.0, grid(101))
    assert_close(allocate_curves(grid(101), curves, 0.0).price.item(), 8.0, rtol=1e-2, atol=0)
    assert_close(allocate_curves(grid(101), curves, 1.0).price.item(), 8.0 * 0.2**2, rtol=1e-2, atol=0)


def test_a_jump_at_zero_is_taken_before_anything_else_and_does_not_ring() -> None:
    C = grid(51)
    sparse = torch.where(C == 0, 1.0, 0.05 * (1 - C) ** 2)
    curves = sparse.expand(4, -1)
    found = allocate_curves(C, curves, [1.0, 0.1, 0.01])
    # Behind the jump the curves are convex and equal: they share equally.
    assert_close(found.capacity[0], torch.full((4,), 0.25, dtype=torch.float64), rtol=0, atol=1e-6)
    assert_close(found.loss[0].item(), 4 * 0.05 * 0.75**2, rtol=1e-6, atol=0)
    assert_close(found.price[0].item(), 2 * 0.05 * 0.75, rtol=1e-4, atol=0)
    assert (found.capacity[1] >= 0.02 - 1e-12).all()
    # Less than a grid step buys nothing that is known; the price says what a whole step would.
    assert_close(found.capacity[2], torch.zeros(4, dtype=torch.float64))
    assert_close(found.price[2].item(), ((sparse[0] - sparse[1]) * 50).item())


def test_jumps_that_not_every_feature_can_take() -> None:
    C = grid(11)
    curves = torch.stack([torch.where(C == 0, height, 0.1) for height in (1.0, 3.0, 2.0)])
    found = allocate_curves(C, curves, [0.0, 0.1, 0.25, 0.3])
    taken = [[0, 0, 0], [0, 0.1, 0], [0, 0.1, 0.1], [0.1, 0.1, 0.1]]
    assert_close(found.capacity, torch.tensor(taken, dtype=torch.float64))
    assert_close(found.price, torch.tensor([29.0, 19.0, 9.0, 0.0], dtype=torch.float64))
    assert found.status[-1] == Status.SATURATED


def test_curves_that_rise_again_leave_capacity_unspent() -> None:
    C = grid(101)
    found = allocate_curves(C, torch.stack([(C - 0.3) ** 2, (C - 0.555) ** 2]), 2.0)
    # A monotone interpolant has its valleys at grid points: here 0.55 or 0.56.
    assert_close(found.capacity[0].item(), 0.3, rtol=0, atol=1e-4)
    assert_close(found.capacity[1].item(), 0.555, rtol=0, atol=0.0051)
    assert found.price == 0
    assert found.status == Status.SATURATED


def test_a_curve_with_two_valleys() -> None:
    C = grid(101)
    valleys = 1 - 0.5 * torch.exp(-(((C - 0.2) / 0.05) ** 2)) - 0.9 * torch.exp(-(((C - 0.8) / 0.05) ** 2))
    found = allocate_curves(C, torch.stack([valleys, valleys]), [0.4, 1.0, 1.6])
    wanted = torch.tensor([0.5 + 0.5, 0.5 + 0.1, 0.1 + 0.1], dtype=torch.float64)
    assert_close(found.loss, wanted, rtol=0, atol=1e-4)
    assert_close(found.capacity.sum(-1), torch.tensor([0.4, 1.0, 1.6], dtype=torch.float64), rtol=0, atol=1e-3)


def test_two_points_are_enough() -> None:
    found = allocate_curves([0.0, 1.0], [[1.0, 0.0], [3.0, 0.0]], 1.0)
    assert_close(found.capacity, torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert_close(found.price.item(), 1.0)


def test_no_totals() -> None:
    found = allocate_curves([0.0, 1.0], [[1.0, 0.0]], torch.zeros(0))
    assert found.capacity.shape == (0, 1)
    assert found.loss.shape == (0,)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("C_grid", "losses", "total", "message"),
    [
        ([0.0, 0.4, 1.0], [[1.0, 0.5, 0.0]], 1.0, "C_grid must be uniform from 0 to 1"),
        ([0.0, 0.25, 0.5], [[1.0, 0.5, 0.0]], 1.0, "C_grid must be uniform from 0 to 1"),
        ([0.0], [[1.0]], 1.0, "C_grid must be uniform .* with at least two points"),
        ([0.0, 1.0], [[1.0, 0.5, 0.0]], 1.0, r"shape of losses must be \[n_features, 2\].*, got \[1, 3\]"),
        ([0.0, 1.0], [1.0, 0.5], 1.0, r"shape of losses must be \[n_features, 2\].*, got \[2\]"),
        ([0.0, 1.0], [[1.0, float("inf")]], 1.0, "losses must be finite"),
        ([0.0, 1.0], [[1.0, float("nan")]], 1.0, "losses must be free of NaN"),
        ([0.0, 1.0], [[1.0, 0.0]], -1.0, "total must be non-negative and finite, got -1.0"),
        ([0.0, 1.0], [[1.0, 0.0]], float("inf"), "total must be non-negative and finite"),
    ],
)
def test_bad_input(C_grid: object, losses: object, total: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        allocate_curves(C_grid, losses, total)
