"""The metric beside loops, and as torchmetrics uses it."""

import pickle

import pytest
import torch
from torch.testing import assert_close
from torchmetrics import MetricCollection

import reference
from polysem.networks import CapacityMetric

MATRICES = [torch.randn(n, 4, generator=torch.Generator().manual_seed(n)) for n in (6, 9, 5)]


def expected(which: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([reference.capacity(W).sum() for W in which]).mean().float()


def updated(which: list[torch.Tensor], norm: str = "raw") -> CapacityMetric:
    metric = CapacityMetric(norm)
    for W in which:
        metric.update(W)
    return metric


def test_mean_over_updates() -> None:
    for count in (1, 2, 3):
        found = updated(MATRICES[:count]).compute()
        assert_close(found["total"], expected(MATRICES[:count]))
        assert_close(found["total_per_dimension"], expected(MATRICES[:count]) / 4)
    C = reference.capacity(MATRICES[0])
    found = updated(MATRICES[:1]).compute()
    assert found["n_impure"] == int(((C >= 0.05) & (C <= 0.95)).sum())
    assert_close(updated([MATRICES[0]] * 5).compute(), found)


def test_the_norm_policy() -> None:
    W = MATRICES[1] * torch.logspace(-2, 0, 9)[:, None]
    units = torch.nn.functional.normalize(W)
    assert_close(updated([W], "unit").compute()["total"], expected([units]))


def test_states_of_several_processes_are_summed() -> None:
    one, two = updated(MATRICES[:1]), updated(MATRICES[1:])
    assert all(reduce is torch.sum or reduce.__name__ == "dim_zero_sum" for reduce in one._reductions.values())
    one.merge_state(two)
    assert_close(one.compute(), updated(MATRICES).compute())


def test_reset_and_forward() -> None:
    metric = CapacityMetric()
    for W in MATRICES:
        assert_close(metric(W)["total"], expected([W]))  # the value of this batch
    assert_close(metric.compute()["total"], expected(MATRICES))
    metric.reset()
    metric.update(MATRICES[2])
    assert_close(metric.compute()["total"], expected(MATRICES[2:]))


def test_pickled_and_stored() -> None:
    metric = updated(MATRICES[:2])
    again = pickle.loads(pickle.dumps(metric))
    again.update(MATRICES[2])
    assert_close(again.compute()["total"], expected(MATRICES))
    assert_close(metric.compute()["total"], expected(MATRICES[:2]))
    metric.persistent(True)
    stored = CapacityMetric()
    stored.persistent(True)
    stored.load_state_dict(metric.state_dict())
    assert_close(stored.sums, metric.sums)


def test_in_a_collection() -> None:
    both = MetricCollection({"raw": CapacityMetric(), "unit": CapacityMetric("unit")})
    both.update(MATRICES[0])
    found = both.compute()
    assert_close(found["raw_total"], expected(MATRICES[:1]))
    assert_close(found["unit_total"], expected([torch.nn.functional.normalize(MATRICES[0])]))


def test_weights_in_training_keep_their_graph_out() -> None:
    layer = torch.nn.Linear(4, 6)
    metric = CapacityMetric()
    metric.update(layer.weight)
    assert not metric.sums.requires_grad
    assert layer.weight.grad is None


@pytest.mark.bad_input
def test_mistakes() -> None:
    with pytest.raises(ValueError, match=r"norm must be 'raw' or 'unit', got 'none'"):
        CapacityMetric("none")
    metric = updated(MATRICES[:1])
    with pytest.raises(ValueError, match=r"W must be finite, got NaN or infinity in row 2"):
        metric.update(MATRICES[1].index_fill(0, torch.tensor([2]), torch.nan))
    assert_close(metric.compute()["total"], expected(MATRICES[:1]))
