"""Many features under one total: circles on their curves, at heights that equal marginal benefit demands."""

import pytest
import torch
from torch.testing import assert_close

from polysem.studies import Stack, StackConfig, stack

F, DECAY, N = 9.0, 0.7, 8


@pytest.fixture(scope="module")
def result() -> Stack:
    return stack(StackConfig(n_features=N, decay=DECAY, kurtosis=F, n_grid=11))


def benefit(v: float, C: float) -> float:
    return 2 * v**2 * (F - 1) ** 2 / (2 + (F - 3) * C) ** 2


def filled(price: float) -> list[float]:
    """Capacity of each feature at a price: where its curve crosses it, or the nearer end."""
    crossing = [(DECAY**i * (F - 1) * (2 / price) ** 0.5 - 2) / (F - 3) for i in range(N)]
    return [min(max(C, 0.0), 1.0) for C in crossing]


def test_curves_and_totals(result: Stack) -> None:
    v = [DECAY**i for i in range(N)]
    assert_close(result.v, torch.tensor(v, dtype=torch.float64), rtol=1e-14, atol=0)
    assert_close(result.totals, torch.tensor([k / 2 for k in range(2 * N + 1)], dtype=torch.float64), rtol=0, atol=0)
    curves = [[benefit(w, k / 10) for k in range(11)] for w in v]
    assert_close(result.benefit, torch.tensor(curves, dtype=torch.float64), rtol=1e-12, atol=0)


def test_capacities_are_those_that_the_price_fills(result: Stack) -> None:
    for index, total in enumerate(result.totals.tolist()):
        capacity = result.allocation.capacity[index]
        assert float(capacity.sum()) == pytest.approx(total, abs=1e-12)
        price = float(result.allocation.price[index])
        if 0 < total < N:
            assert_close(capacity, torch.tensor(filled(price), dtype=torch.float64), rtol=0, atol=1e-9)
    assert result.allocation.price[-1] == 0


def test_prices_fall_and_every_kind_of_feature_occurs(result: Stack) -> None:
    assert bool((result.allocation.price.diff() < 0).all())
    capacity = result.allocation.capacity[1:-1]
    assert bool((capacity == 0).any())
    assert bool((capacity == 1).any())
    assert bool(((capacity > 0) & (capacity < 1)).any())


def test_reached_benefits_obey_the_conditions_of_the_optimum(result: Stack) -> None:
    for capacity, reached, price in zip(
        result.allocation.capacity, result.reached, result.allocation.price.tolist(), strict=True
    ):
        expected = [benefit(DECAY**i, float(C)) for i, C in enumerate(capacity)]
        assert_close(reached, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)
        for C, height in zip(capacity.tolist(), reached.tolist(), strict=True):
            assert C == 1 or height <= price * (1 + 1e-9)
            assert C == 0 or height >= price * (1 - 1e-9)


@pytest.mark.parametrize("n_features", [1, 2])
def test_few_features(n_features: int) -> None:
    result = stack(StackConfig(n_features=n_features))
    assert_close(result.allocation.capacity.sum(-1), result.totals, rtol=0, atol=1e-12)
