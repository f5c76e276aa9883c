"""Effective numbers of features against a loop, and their invariances."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from polysem.measure import features_per_neuron


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loop(weights: Tensor) -> Tensor:
    counts = []
    for column in weights.T.tolist():
        fourth = sum(a**4 for a in column)
        counts.append(sum(a**2 for a in column) ** 2 / fourth if fourth else 0.0)
    return torch.tensor(counts, dtype=torch.float64)


@settings(deadline=None, max_examples=50)
@given(n=st.integers(1, 6), k=st.integers(1, 5), seed=st.integers(0, 2**32), log_scale=st.integers(-200, 200))
def test_effective_number(n: int, k: int, seed: int, log_scale: int) -> None:
    weights = torch.randn(n, k, generator=seeded(seed), dtype=torch.float64)
    weights[:, 0] *= torch.rand(n, generator=seeded(seed + 1)) < 0.5
    counts = features_per_neuron(weights)
    assert_close(counts, loop(weights), rtol=1e-12, atol=0)
    alive = counts[(weights != 0).any(0)]
    assert ((alive >= 1 - 1e-12) & (alive <= n * (1 + 1e-12))).all()
    order = torch.randperm(n, generator=seeded(seed))
    assert_close(features_per_neuron(weights[order] * 10.0**log_scale), counts, rtol=1e-9, atol=0)


def test_equal_shares_count_themselves() -> None:
    weights = torch.tensor([[1.0, -2.0, 0.0], [0.0, 2.0, 0.0], [0.0, 2.0, 0.0]])
    assert_close(features_per_neuron(weights), torch.tensor([1.0, 3.0, 0.0]))


def test_batches_and_precision() -> None:
    weights = torch.randn(2, 3, 4, 5, generator=seeded(0))
    counts = features_per_neuron(weights)
    assert counts.shape == (2, 3, 5)
    assert_close(counts[1, 2], loop(weights[1, 2]).float(), rtol=1e-5, atol=0)
    half = features_per_neuron(weights.bfloat16())
    assert half.dtype == torch.float32
    assert_close(half[0, 0], loop(weights.bfloat16()[0, 0]).float(), rtol=1e-5, atol=0)
    assert features_per_neuron(torch.zeros(0, 3)).tolist() == [0.0, 0.0, 0.0]


def test_gradient() -> None:
    weights = torch.randn(3, 4, generator=seeded(1), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(features_per_neuron, weights)
    dead = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    features_per_neuron(dead).sum().backward()
    assert_close(dead.grad, torch.zeros(3, 2, dtype=torch.float64))


@pytest.mark.bad_input
def test_bad_weights_are_refused() -> None:
    with pytest.raises(TypeError, match="weights must be"):
        features_per_neuron([[1.0]])
    with pytest.raises(ValueError, match="weights must have shape"):
        features_per_neuron(torch.ones(3))
    with pytest.raises(ValueError, match="weights must be finite, got NaN or infinity in row 1"):
        features_per_neuron(torch.tensor([[1.0], [math.nan]]))
