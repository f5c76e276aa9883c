"""Features of watched models: every kurtosis that can be had, and the optimum of theory at it."""

import pytest
import torch
from torch.testing import assert_close

from polysem.features import SparseUniform, geometric
from polysem.measure import FeatureClass
from polysem.studies import LiveConfig, known_optimum, least_kurtosis, live, live_bounds, live_features
from polysem.theory import allocate


def moments_kurtosis(p: float) -> float:
    """Kurtosis of a feature that is uniform on [0, 1] with chance p, else 0, from raw moments."""
    m1, m2, m3, m4 = (p / k for k in (2, 3, 4, 5))
    return (m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4) / (m2 - m1**2) ** 2


@pytest.mark.parametrize("p", [0.001, 0.05, 0.3, 0.7, 0.8])
def test_kurtosis_gives_the_chance_back(p: float) -> None:
    found = live_features(LiveConfig(n_features=2, kurtosis=moments_kurtosis(p)))
    assert_close(found.feature_probability, torch.full((2,), p, dtype=torch.float64), rtol=1e-6, atol=0)
    assert_close(found.kurtosis, torch.full((2,), moments_kurtosis(p), dtype=torch.float64), rtol=1e-9, atol=0)


def test_the_least_kurtosis_is_the_least() -> None:
    p = torch.linspace(0.01, 1, 1000, dtype=torch.float64)
    F = SparseUniform(p).kurtosis
    assert float(F.min()) == pytest.approx(least_kurtosis("tied relu"), rel=1e-6)
    assert bool((F[p <= 0.8].diff() < 0).all())  # of two chances the smaller can be found


@pytest.mark.parametrize("F", [1.01, 1.3, 1.8, 3.0, 700.0])
def test_the_quadratic_model_takes_any(F: float) -> None:
    features = live_features(LiveConfig(architecture="quadratic", n_features=1, kurtosis=F))
    assert float(features.kurtosis) == pytest.approx(F, rel=1e-12)
    assert float(features.variance) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("F", [1.2, 2.0, 3.0])
def test_without_diminishing_returns_the_most_important_features_win(F: float) -> None:
    config = LiveConfig(architecture="quadratic", n_features=5, kurtosis=F, decay=0.8, steps=300, frames=1)
    least = (F - 1) * sum(0.8**i for i in (2, 3, 4))  # of ignoring all but two: (F - 1) v²
    assert known_optimum(config) == pytest.approx(least, rel=1e-12)
    last = live(config).last
    best = int(last.loss.argmin())
    assert float(last.loss[best]) == pytest.approx(least, rel=1e-8)
    assert last.feature_class[best].tolist() == [FeatureClass.PURE] * 2 + [FeatureClass.IGNORED] * 3
    assert bool((last.loss >= least * (1 - 1e-12)).all())
    assert live_bounds(config).kappa == pytest.approx(0, abs=1e-9)  # there is nothing to flatten


def test_with_diminishing_returns_they_share() -> None:
    config = LiveConfig(architecture="quadratic", n_features=5, kurtosis=9.0, decay=0.8, steps=300, frames=1)
    best = allocate(geometric(5, 0.8).sqrt(), 9.0, 2.0)
    last = live(config).last
    assert_close(last.loss, best.loss.expand(2), rtol=1e-8, atol=0)
    assert_close(last.capacity, best.capacity.expand(2, -1), rtol=0, atol=1e-3)


def test_only_kurtosis_counts_for_the_quadratic_model() -> None:
    by_chance = LiveConfig(architecture="quadratic", n_features=4, feature_probability=0.2, steps=50, frames=1)
    by_kurtosis = LiveConfig(architecture="quadratic", n_features=4, kurtosis=9.0, steps=50, frames=1)
    assert_close(live(by_kurtosis).last.loss, live(by_chance).last.loss, rtol=1e-9, atol=0)


@pytest.mark.bad_input
def test_bad_input() -> None:
    for F in (1.0, 0.5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="kurtosis must be above 1"):
            LiveConfig(kurtosis=F)
    with pytest.raises(ValueError, match=r"kurtosis must be at least 1\.6875 for tied relu"):
        live_features(LiveConfig(kurtosis=1.5))
