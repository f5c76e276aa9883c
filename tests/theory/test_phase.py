"""The phase diagram of two features in one dimension."""

import math

import pytest
import torch
from torch.testing import assert_close

from polysem.theory import Phase, allocate, loss, phase


def phase_of_capacities(first: float, second: float) -> Phase:
    """What an optimal allocation shows: a capacity of 0 is exact there."""
    if second == 0:
        return Phase.FIRST_ONLY
    return Phase.SECOND_ONLY if first == 0 else Phase.BOTH


def test_agrees_with_optimal_allocation_on_a_grid() -> None:
    ratio = torch.logspace(-1.5, 1.5, 61, dtype=torch.float64)[:, None]
    kurtosis = torch.cat([torch.linspace(1.1, 2.9, 20), torch.linspace(3.2, 30, 40)]).double()[None, :]
    codes = phase(ratio, kurtosis)
    v = torch.stack([torch.ones_like(ratio), ratio], -1)
    capacity = allocate(v, kurtosis.unsqueeze(-1), 1.0).capacity
    for row, column in torch.cartesian_prod(torch.arange(61), torch.arange(60)).tolist():
        first, second = capacity[row, column].tolist()
        assert codes[row, column] == phase_of_capacities(first, second), (ratio[row], kurtosis[0, column])
    assert set(codes.unique().tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("ratio", "kurtosis", "expected"),
    [
        (2.0, 2.0, Phase.SECOND_ONLY),  # A: increasing returns, unequal
        (1.0, 2.0, Phase.FIRST_ONLY),  # B: increasing returns, a tie
        (1.0, 3.0, Phase.FIRST_ONLY),  # C: constant returns, a tie
        (1.0, 6.0, Phase.BOTH),  # D: diminishing returns, equal
        (1.5, 6.0, Phase.BOTH),  # E: diminishing returns, unequal
        (3.0, 6.0, Phase.SECOND_ONLY),  # F: diminishing returns, past the boundary
    ],
)
def test_the_six_points_of_the_paper(ratio: float, kurtosis: float, expected: Phase) -> None:
    assert phase(ratio, kurtosis) == expected
    best = allocate([1.0, ratio], kurtosis, 1)
    if expected == Phase.BOTH:
        assert ((best.capacity > 0) & (best.capacity < 1)).all()
    else:
        winner = [float(expected == Phase.FIRST_ONLY), float(expected == Phase.SECOND_ONLY)]
        assert_close(best.loss, loss([1.0, ratio], kurtosis, winner).sum())


def test_the_boundaries_belong_to_the_single_phases() -> None:
    F = 9.0
    assert phase([2 / (F - 1), (F - 1) / 2], F).tolist() == [Phase.FIRST_ONLY, Phase.SECOND_ONLY]
    inner = [math.nextafter(2 / (F - 1), 1), math.nextafter((F - 1) / 2, 0)]
    assert phase(inner, F).tolist() == [Phase.BOTH, Phase.BOTH]


def test_below_3_the_larger_wins() -> None:
    assert phase([0.999, 1.0, 1.001], 2.5).tolist() == [Phase.FIRST_ONLY, Phase.FIRST_ONLY, Phase.SECOND_ONLY]
    assert phase(1.0, 2.5).dtype == torch.int64


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("ratio", "kurtosis", "message"),
    [
        (-1.0, 5.0, "ratio must be non-negative"),
        (math.inf, 5.0, "ratio must be non-negative and finite"),
        (1.0, 0.5, "kurtosis must be finite and at least 1"),
        ([1.0, 2.0], [5.0] * 3, r"must broadcast, got ratio \[2\], kurtosis \[3\]"),
    ],
)
def test_bad_input(ratio: object, kurtosis: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        phase(ratio, kurtosis)
