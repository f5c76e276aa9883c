"""Sequences of sparse features: their law, what is to be predicted, and the loss of predicting nothing."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from polysem.zoo import KINDS, SequenceTask

P = [0.05, 0.4, 1.0]
IMPORTANCE = torch.tensor([1.0, 0.5, 0.2], dtype=torch.float64)


@pytest.fixture(scope="module")
def task() -> SequenceTask:
    return SequenceTask(P, n_positions=3)


@pytest.fixture(scope="module")
def x(task: SequenceTask) -> Tensor:
    return task.sample(40_000, generator=torch.Generator().manual_seed(0))


def test_probabilities_are_those_asked_for_at_every_position(x: Tensor) -> None:
    assert x.shape == (40_000, 3, 3)
    share = (x != 0).double().mean(0)
    p = torch.tensor(P, dtype=torch.float64)
    assert ((share - p).abs() <= 4 * (p * (1 - p) / 40_000).sqrt()).all()
    assert x.abs().max() <= 1


def test_targets_equal_a_loop(task: SequenceTask, x: Tensor) -> None:
    y = task.targets(x[:50])
    for s in range(50):
        for t in range(3):
            for i in range(3):
                assert y[s, t, i] == abs(x[s, t, i])
                assert y[s, t, 3 + i] == (abs(x[s, t - 1, i]) if t else 0)


def test_losses_equal_a_loop(task: SequenceTask, x: Tensor) -> None:
    y = torch.rand(4, 3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = task.losses(y, x[:4], IMPORTANCE)
    targets = task.targets(x[:4])
    for s in range(4):
        for j in range(6):
            mean = sum(float(y[s, t, j] - targets[s, t, j]) ** 2 for t in range(3)) / 3
            assert float(found[s, j]) == pytest.approx(float(IMPORTANCE[j % 3]) * mean, rel=1e-12)


def test_own_losses_equal_a_loop(task: SequenceTask, x: Tensor) -> None:
    y = torch.rand(4, 3, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = task.own_losses(y, x[:4], IMPORTANCE)
    error = (y - task.targets(x[:4])).square() / 3
    for s in range(4):
        for t in range(3):
            for i in range(3):
                here = float(IMPORTANCE[i] * error[s, t, i])
                before, later = (float(IMPORTANCE[i] * error[s, u, 3 + i]) if u < 3 else 0.0 for u in (t, t + 1))
                told = [here + later, here + later, before, before]
                assert found[s, t, i::3].tolist() == pytest.approx(told, rel=1e-12)


def test_the_best_constants_lose_what_is_stated(task: SequenceTask, x: Tensor) -> None:
    best = task.targets(x).mean((0, 1)).expand(len(x), 3, -1)
    losses = task.losses(best, x, IMPORTANCE)
    stated = task.ignored_loss(IMPORTANCE)
    assert ((losses.mean(0) - stated).abs() <= 4 * losses.std(0) / len(x) ** 0.5).all()
    assert_close(stated[2].item(), 0.2 / 12, rtol=1e-12, atol=0)  # |x| of an x that is always active is uniform


def test_variables_are_named_centred_and_uncorrelated(task: SequenceTask, x: Tensor) -> None:
    assert KINDS == ("value here", "magnitude here", "value before", "magnitude before")
    values = task.variables(x)
    one = values[7, 2].tolist()
    here, before, mean = x[7, 2].tolist(), x[7, 1].tolist(), [p / 2 for p in P]
    assert one[:3] == here
    assert one[3:6] == pytest.approx([abs(v) - m for v, m in zip(here, mean, strict=True)])
    assert one[6:9] == before
    assert one[9:] == pytest.approx([abs(v) - m for v, m in zip(before, mean, strict=True)])
    assert (values[:, 0, 6:] == 0).all()
    assert (values.mean(0).abs() <= 4.5 * values.std(0) / len(x) ** 0.5).all()
    correlation = torch.corrcoef(values.flatten(0, 1).mT) - torch.eye(12)
    assert correlation.abs().max() < 5 * (9 / 5 / 0.05 / 120_000) ** 0.5  # five deviations of the sparsest x |x|


def test_one_seed_gives_one_sample(task: SequenceTask) -> None:
    first, second = (task.sample(5, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    single = task.sample(5, generator=torch.Generator().manual_seed(3), dtype=torch.float32)
    assert torch.equal(single, first.float())


@pytest.mark.bad_input
def test_nonsense_is_refused(task: SequenceTask) -> None:
    with pytest.raises(ValueError, match=r"feature_probability must be in \(0, 1\], got \[0.0\]"):
        SequenceTask([0.0], 3)
    with pytest.raises(ValueError, match=r"shape of feature_probability must be \[n_features\], got \(\)"):
        SequenceTask(0.5, 3)
    with pytest.raises(ValueError, match="n_positions must be a whole number of at least 2, got 1"):
        SequenceTask([0.5], 1)
    with pytest.raises(ValueError, match=r"shape of importance must be \[n_features\], got \(2,\)"):
        task.ignored_loss([1.0, 0.5])
