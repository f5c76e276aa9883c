"""Closed form, dynamic programming and training on the same random instances; benchmarks/training.py has more."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from polysem import theory
from polysem.features import SparseSign
from polysem.measure import capacity
from polysem.training import fit
from polysem.zoo import QuadraticModel


def instance(seed: int) -> tuple[Tensor, Tensor, int]:
    """Up to 12 features in up to 5 dimensions; kurtosis above 3, below 3 and on both sides take turns."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, dtype=torch.float64, generator=generator)

    n_features = int(uniform(3, 13))
    low, high = torch.tensor([(3.1, 100.0), (1.2, 2.9), (1.2, 100.0)][seed % 3], dtype=torch.float64).log()
    kurtosis = uniform(float(low), float(high), n_features).exp()
    return uniform(0.1, 1.0, n_features), kurtosis, int(uniform(1, min(6, n_features)))


@pytest.mark.parametrize("seed", range(20))
def test_three_ways_agree(seed: int) -> None:
    v, kurtosis, total = instance(seed)
    closed = theory.allocate(v, kurtosis, total)

    grid = torch.linspace(0, 1, 101, dtype=torch.float64)
    curves = theory.loss(v[:, None], kurtosis[:, None], grid)
    searched = theory.allocate_curves(grid, curves, total)
    assert_close(searched.loss, closed.loss, rtol=1e-5, atol=0)

    start = QuadraticModel(len(v), total, n_inst=32, generator=torch.Generator().manual_seed(seed))
    done = fit(start, SparseSign.from_kurtosis(kurtosis, standardise=True), v)
    assert (done.loss >= closed.loss * (1 - 1e-12)).all()  # nothing beats the optimum
    assert_close(done.loss.min(), closed.loss, rtol=1e-6, atol=0)
    if (kurtosis > 3).all():  # the optimum is unique up to rotation, and every start reaches it
        assert_close(done.loss, closed.loss.expand_as(done.loss), rtol=1e-6, atol=0)
        assert_close(capacity(done.model.embedding[done.best]).detach(), closed.capacity, rtol=0, atol=1e-5)

    W = theory.embed(closed, total)
    assert_close(capacity(W), closed.capacity, rtol=0, atol=1e-9)
