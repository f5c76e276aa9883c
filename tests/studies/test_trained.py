"""Many features trained: theory from equal marginal benefits found by bisection, and measures that can fail."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

import reference
from polysem.studies import Trained, TrainedConfig, trained

CONFIG = TrainedConfig(n_features=12, d_hidden=3, decay=0.7, kurtosis=9.0, restarts=8)


@pytest.fixture(scope="module")
def result() -> Trained:
    return trained(CONFIG)


def filled(price: float) -> list[float]:
    F = CONFIG.kurtosis
    crossing = [(CONFIG.decay**i * (F - 1) * (2 / price) ** 0.5 - 2) / (F - 3) for i in range(CONFIG.n_features)]
    return [min(max(C, 0.0), 1.0) for C in crossing]


def by_bisection() -> list[float]:
    low, high = 1e-9, 1e9
    for _ in range(200):
        price = (low * high) ** 0.5
        low, high = (price, high) if sum(filled(price)) > CONFIG.d_hidden else (low, price)
    return filled(low)


def loss_of(W: torch.Tensor) -> float:
    """`Σ (F − 1)(v_i − |W_i|²)² + 2 Σ_{i≠j} (W_i·W_j)²`, term by term."""
    total = 0.0
    for i in range(len(W)):
        for j in range(len(W)):
            product = float(W[i] @ W[j])
            total += (CONFIG.kurtosis - 1) * (CONFIG.decay**i - product) ** 2 if i == j else 2 * product**2
    return total


def test_prediction(result: Trained) -> None:
    assert_close(result.predicted.capacity, torch.tensor(by_bisection(), dtype=torch.float64), rtol=0, atol=1e-9)
    assert_close(result.v, torch.tensor([0.7**i for i in range(12)], dtype=torch.float64), rtol=1e-14, atol=0)


def test_training_agrees_with_the_prediction(result: Trained) -> None:
    assert result.W.shape == (12, 3)
    assert_close(result.capacity, reference.capacity(result.W), rtol=1e-9, atol=1e-12)
    assert_close(result.capacity, result.predicted.capacity, rtol=0, atol=1e-6)
    assert result.loss.shape == (8,)
    assert loss_of(result.W) == pytest.approx(float(result.loss.min()), rel=1e-12)
    assert abs(result.excess) < 1e-9
    assert result.deviation < 1e-6
    assert result.share_at_optimum == 1


def test_blocks_are_the_pure_features_and_one_tight_frame(result: Trained) -> None:
    pure = [i for i, C in enumerate(by_bisection()) if C == 1]
    impure = [i for i, C in enumerate(by_bisection()) if 0 < C < 1]
    assert pure
    assert len(impure) > 2
    members = sorted((sorted(block.members) for block in result.blocks), key=len)
    assert members == [*([i] for i in pure), impure]
    assert sum(block.dim for block in result.blocks) == 3
    assert max(block.defect for block in result.blocks) < 1e-6


def test_measures_notice_what_is_wrong(result: Trained) -> None:
    optimum = float(result.predicted.loss)
    loss = torch.tensor([1.5, 1 + 2e-6, 1 + 5e-7, 1.0], dtype=torch.float64) * optimum
    capacity = result.predicted.capacity.clone()
    capacity[4] += 0.03
    wrong = replace(result, loss=loss, capacity=capacity)
    assert wrong.share_at_optimum == 0.5
    assert wrong.deviation == pytest.approx(0.03)
    assert replace(result, loss=loss[:2]).excess == pytest.approx(2e-6, rel=1e-6)
    assert replace(result, loss=loss[:1]).excess == pytest.approx(0.5)


def test_one_seed_gives_one_result() -> None:
    small = TrainedConfig(n_features=4, d_hidden=2, restarts=2)
    assert torch.equal(trained(small).W, trained(small).W)
    assert not torch.equal(trained(small).W, trained(replace(small, seed=1)).W)
