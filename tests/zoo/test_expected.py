"""Sampled losses against exact ones, and their stated errors against their true ones."""

import pytest
import torch
from torch.testing import assert_close

from polysem.features import SparseFeatures, SparseGaussian, SparseLaplace, SparseSign, SparseUniform
from polysem.zoo import QuadraticModel, _expected, expected_loss


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model_with_offset(n: int, d: int, n_inst: int) -> QuadraticModel:
    model = QuadraticModel(n, d, n_inst=n_inst, generator=seeded(1))
    with torch.no_grad():
        model.b += 0.3
    return model


FEATURES = [
    SparseUniform([0.1, 0.5, 0.3], standardise=True),
    SparseUniform([0.1, 0.5, 0.3], signed=True, standardise=True),
    SparseGaussian([[0.3, 0.5, 0.3], [0.9, 0.05, 0.2]], standardise=True),
    SparseLaplace([0.3, 0.5, 0.3], standardise=True),
    SparseSign([[0.1, 0.5, 0.3], [1.0, 0.02, 0.5]], standardise=True),
]


@pytest.mark.parametrize("features", FEATURES)
def test_sampled_loss_agrees_with_the_exact_one(features: SparseFeatures) -> None:
    model = model_with_offset(3, 2, n_inst=2)
    v = [[1.0, 0.5, 0.2], [0.3, 2.0, 1.0]]
    exact = expected_loss(model, features, v)
    sampled = expected_loss(model, features, v, method="sampled", n_samples=200_000, generator=seeded(2))
    assert_close(exact.value, model.exact_loss(features, v).detach(), rtol=0, atol=0)
    assert_close(exact.stderr, torch.zeros(2, dtype=torch.float64), rtol=0, atol=0)
    assert ((sampled.value - exact.value).abs() < 4 * sampled.stderr).all()
    assert (sampled.stderr < 0.05 * exact.value).all()


def test_stated_error_is_the_true_spread() -> None:
    model = model_with_offset(2, 1, n_inst=1)
    features = SparseSign([0.05, 0.1], standardise=True)
    runs = [
        expected_loss(model, features, [1.0, 0.5], method="sampled", n_samples=200, generator=seeded(100 + k))
        for k in range(400)
    ]
    values = torch.stack([run.value for run in runs])
    stated = torch.stack([run.stderr for run in runs]).mean()
    # The spread of 400 normal values is itself known to 1/sqrt(800) = 3.5 %.
    assert_close(values.std(), stated, rtol=0.18, atol=0)
    exact = expected_loss(model, features, [1.0, 0.5]).value
    assert (values.mean() - exact).abs().item() < 4 * values.std().item() / 20


def test_sampling_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_with_offset(2, 1, n_inst=3)
    features = SparseSign([1.0, 1.0])
    whole = expected_loss(model, features, [1.0, 0.5], method="sampled", n_samples=4001, generator=seeded(4))
    x, _ = features.sample_active(4001, generator=seeded(4))
    losses = model.per_sample_loss(x[:, None], [1.0, 0.5]).detach()
    assert_close(whole.value, losses.mean(0))
    assert_close(whole.stderr, losses.std(0) / 4001**0.5)
    # One sample at a time draws the same numbers in another order: equal within the error, not beyond it.
    monkeypatch.setattr(_expected, "CHUNK_ELEMENTS", 6 * 500)
    parts = expected_loss(model, features, [1.0, 0.5], method="sampled", n_samples=4001, generator=seeded(4))
    assert ((parts.value - whole.value).abs() < 5 * whole.stderr).all()
    assert_close(parts.stderr, whole.stderr, rtol=0.1, atol=0)


def test_certain_outcome_has_no_error() -> None:
    """One sign feature is ±1 whenever it is active: every conditioned sample has the same loss."""
    model = model_with_offset(1, 1, n_inst=1)
    features = SparseSign([1e-9], standardise=True)
    sampled = expected_loss(model, features, [1.0], method="sampled", n_samples=50, generator=seeded(5))
    assert_close(sampled.value, expected_loss(model, features, [1.0]).value, rtol=1e-9, atol=0)
    assert sampled.stderr.item() <= 1e-9 * sampled.value.item()


def test_raw_features_can_be_sampled() -> None:
    model = model_with_offset(2, 2, n_inst=1)
    features = SparseUniform([0.2, 0.4])
    sampled = expected_loss(model, features, [1.0, 0.5], method="sampled", n_samples=100_000, generator=seeded(6))
    x = features.sample(400_000, generator=seeded(7))
    losses = model.per_sample_loss(x[:, None], [1.0, 0.5]).detach()[:, 0]
    error = (sampled.stderr.square() + losses.var() / len(losses)).sqrt()
    assert (sampled.value - losses.mean()).abs() < 4 * error


def test_single_precision_model() -> None:
    model = QuadraticModel(2, 1, generator=seeded(1), dtype=torch.float32)
    features = SparseSign([0.5, 0.5], standardise=True)
    sampled = expected_loss(model, features, [1.0, 0.5], method="sampled", n_samples=20_000, generator=seeded(8))
    assert sampled.value.dtype == sampled.stderr.dtype == torch.float64
    exact = expected_loss(model, features, [1.0, 0.5])
    assert ((sampled.value - exact.value).abs() < 4 * sampled.stderr + 1e-5).all()


@pytest.mark.bad_input
def test_bad_arguments_are_refused() -> None:
    model = QuadraticModel(2, 1)
    features = SparseSign([0.5, 0.5], standardise=True)
    v = [1.0, 1.0]
    with pytest.raises(ValueError, match="method must be"):
        expected_loss(model, features, v, method="guess")
    with pytest.raises(ValueError, match="n_samples must be left out"):
        expected_loss(model, features, v, n_samples=10)
    with pytest.raises(ValueError, match="generator must be left out"):
        expected_loss(model, features, v, generator=seeded(0))
    for n in (None, 1, 2.5):
        with pytest.raises(ValueError, match="n_samples must be"):
            expected_loss(model, features, v, method="sampled", n_samples=n, generator=seeded(0))
    with pytest.raises(ValueError, match="generator must be given"):
        expected_loss(model, features, v, method="sampled", n_samples=10)
    with pytest.raises(ValueError, match="shape of features must be"):
        expected_loss(model, SparseSign(0.5), v, method="sampled", n_samples=10, generator=seeded(0))
