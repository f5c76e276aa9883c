"""Explicit embeddings that attain an allocation."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from polysem.theory import Allocation, allocate, allocate_curves, embed, loss


def capacities(W: Tensor) -> Tensor:
    """Capacity of every row, by the definition: `(W_i · W_i)² / Σ_j (W_i · W_j)²`, 0 for a zero row."""
    result = []
    for row in W:
        own = (row @ row).item() ** 2
        shared = sum((row @ other).item() ** 2 for other in W)
        result.append(own / shared if own else 0.0)
    return torch.tensor(result, dtype=torch.float64)


def model_loss(W: Tensor, v: Tensor, kurtosis: Tensor) -> float:
    """Loss of the quadratic model, by its definition: squared errors of the coefficients."""
    total = 0.0
    for i, row in enumerate(W):
        total += (kurtosis[i] - 1).item() * (v[i] - row @ row).item() ** 2
        total += sum(2 * (row @ other).item() ** 2 for j, other in enumerate(W) if j != i)
    return total


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, 14), st.sampled_from([3.0, 4.0, 30.0]))
def test_attains_capacities_norms_and_loss(seed: int, n_features: int, largest: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    v = torch.rand(n_features, generator=generator, dtype=torch.float64) + 0.05
    kurtosis = 1.1 + (largest - 1.1) * torch.rand(n_features, generator=generator, dtype=torch.float64)
    total = int(torch.randint(0, n_features + 1, (), generator=generator))
    best = allocate(v, kurtosis, total)
    W = embed(best, total + 1)
    assert best.squared_norm is not None
    assert_close(capacities(W), best.capacity, rtol=0, atol=1e-10)
    assert_close(W.square().sum(-1), best.squared_norm, rtol=1e-12, atol=1e-12)
    assert_close(model_loss(W, v, kurtosis), best.loss.item(), rtol=1e-10, atol=1e-12)


def test_blocks_are_pure_dimensions_a_tight_frame_and_zero_rows() -> None:
    v = torch.tensor([5.0, 1.0, 0.9, 0.8, 0.01], dtype=torch.float64)
    best = allocate(v, 6.0, 3)
    assert best.capacity[0] == 1
    assert best.capacity[4] == 0
    W = embed(best, 5)
    frame = W.mT @ W
    scale = math.sqrt(best.price.item() / 2)
    assert_close(frame, torch.diag(torch.tensor([5.0, scale, scale, 0.0, 0.0], dtype=torch.float64)))
    assert_close(W[4], torch.zeros(5, dtype=torch.float64))


def test_many_features() -> None:
    v = torch.linspace(0.2, 1.0, 400, dtype=torch.float64)
    best = allocate(v, torch.linspace(2.0, 60.0, 400, dtype=torch.float64), 150)
    W = embed(best, 150)
    gram = W @ W.mT
    own = gram.diagonal().square()
    assert_close(torch.where(own > 0, own / gram.square().sum(-1), 0.0), best.capacity, rtol=0, atol=1e-10)


def test_features_of_constant_returns_share_equally() -> None:
    best = allocate([1.0, 1.0, 1.0], 3.0, 2)
    assert_close(capacities(embed(best, 2)), torch.full((3,), 2 / 3, dtype=torch.float64))


def test_without_squared_norms_capacity_itself_is_the_squared_norm() -> None:
    C = torch.linspace(0, 1, 51, dtype=torch.float64)
    best = allocate_curves(C, loss([[1.0], [0.8], [0.6]], 5.0, C), total=2)
    W = embed(best, 2)
    assert_close(W.square().sum(-1), best.capacity)
    assert_close(capacities(W), best.capacity)


def test_a_budget_beyond_need_leaves_dimensions_empty() -> None:
    W = embed(allocate([1.0, 0.0, 2.0], 5.0, 7), 4)
    assert_close(W.square().sum(-1), torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64))
    assert embed(allocate([1.0], 5.0, 0), 0).shape == (1, 0)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("allocation", "d_hidden", "message"),
    [
        (allocate([1.0, 0.9], 6.0, 1.5), 2, "total capacity of allocation must be a whole number, got 1.5"),
        (allocate([1.0, 0.9], 6.0, 1), 0, "d_hidden must be at least the total, 1, got 0"),
        (allocate([1.0, 0.9], 6.0, 1), -1, "d_hidden must be a whole number of at least 0"),
        (allocate([1.0, 0.9], 6.0, [1, 1]), 1, r"allocation must be a single one, got batch axes \[2\]"),
    ],
)
def test_bad_input(allocation: Allocation, d_hidden: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        embed(allocation, d_hidden)


@pytest.mark.bad_input
def test_norms_out_of_proportion() -> None:
    best = allocate([1.0, 0.9], 6.0, 1)
    with pytest.raises(ValueError, match="squared_norm / capacity of allocation must be equal"):
        embed(replace(best, squared_norm=torch.ones(2, dtype=torch.float64)), 1)
