"""Width planning."""

import pytest
import torch
from torch.testing import assert_close

from polysem.theory import allocate, plan

V = 0.9 ** torch.arange(12, dtype=torch.float64)


def test_each_total_is_an_allocation() -> None:
    totals = [0.0, 0.5, 3.0, 11.5, 12.0, 20.0]
    widths = plan(V, 8.0, totals)
    for place, total in enumerate(totals):
        here, wider = allocate(V, 8.0, total), allocate(V, 8.0, total + 1)
        counts = [0, 0, 0]
        for capacity in here.capacity.tolist():
            counts[0 if capacity < 0.05 else 2 if capacity > 0.95 else 1] += 1
        assert_close(widths.loss[place], here.loss)
        assert_close(widths.price[place], here.price)
        assert_close(widths.next_gain[place], here.loss - wider.loss)
        assert [widths.n_ignored[place], widths.n_impure[place], widths.n_pure[place]] == counts
        assert widths.total[place] == total


@pytest.mark.parametrize("kurtosis", [2.0, 8.0])
def test_the_next_dimension_buys_the_integral_of_the_price(kurtosis: float) -> None:
    gain = plan(V, kurtosis, [2]).next_gain.item()
    middles = 2 + (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    assert_close(gain, plan(V, kurtosis, middles).price.mean().item(), rtol=1e-5, atol=0)


def test_beyond_one_dimension_per_feature_nothing_is_bought() -> None:
    widths = plan(V, 8.0, [12, 13])
    assert_close(widths.price, torch.zeros(2, dtype=torch.float64))
    assert_close(widths.next_gain, torch.zeros(2, dtype=torch.float64))
    assert widths.n_pure.tolist() == [12, 12]


def test_thresholds_can_be_chosen() -> None:
    capacity = allocate(V, 8.0, 4.0).capacity
    low, high = capacity.sort().values[[3, 8]].tolist()
    widths = plan(V, 8.0, [4.0], ignored_below=low, pure_above=high)
    assert [widths.n_ignored.item(), widths.n_impure.item(), widths.n_pure.item()] == [3, 6, 3]


def test_batches_of_features_broadcast_with_totals() -> None:
    v = torch.stack([V, V.flip(0) * 2])
    widths = plan(v, 8.0, torch.tensor([[1.0], [2.0], [3.0]]))
    assert widths.loss.shape == widths.total.shape == widths.n_pure.shape == (3, 2)
    assert_close(widths.loss[:, 1], 4 * widths.loss[:, 0])


@pytest.mark.parametrize("totals", [2.5, [2.5], [[0.5], [3.0]]])
def test_what_each_row_of_features_gains(totals: object) -> None:
    v, kurtosis = torch.stack([V, V.square()]), torch.tensor([[4.0], [2.0]]).expand(2, 12)
    widths = plan(v, kurtosis, totals)
    total = torch.tensor(totals, dtype=torch.float64)
    here, wider = allocate(v, kurtosis, total), allocate(v, kurtosis, total + 1)
    assert_close(widths.loss, here.loss)
    assert_close(widths.next_gain, here.loss - wider.loss)
    assert_close(widths.n_pure, (here.capacity > 0.95).sum(-1))


@pytest.mark.bad_input
def test_bad_input() -> None:
    with pytest.raises(ValueError, match="totals must be non-negative and finite"):
        plan(V, 8.0, [-1.0])
    with pytest.raises(ValueError, match=r"ignored_below, pure_above must be .*, got \(0.9, 0.1\)"):
        plan(V, 8.0, [1.0], ignored_below=0.9, pure_above=0.1)
