"""Inputs of a model that is watched: by the chance that a feature is active, or by its kurtosis."""

import torch
from scipy.optimize import brentq

from polysem import _checks
from polysem.features import IndependentFeatures, SparseSign, SparseUniform
from polysem.studies._architectures import architecture
from polysem.studies._configs_live import LiveConfig

SLAB_KURTOSIS = 9 / 5
LEAST_KURTOSIS = 27 / 16
DENSEST = 4 / 5
"""Chance to be active at which a feature that is uniform on [0, 1] if active has the least kurtosis, 27 / 16."""


def live_features(config: LiveConfig) -> IndependentFeatures:
    """The features that a watched model is trained on: their probability and their kurtosis.

        quadratic:  F = 9 / (5 p), uniform on [-1, 1] if active;  F < 9/5: F = 1 / p, ±1 if active
        others:     F = (1/5 - p/2 + p²/2 - 3p³/16) / (p (1/3 - p/4)²), uniform on [0, 1] if active

    Of the inputs of the quadratic model nothing but `F` counts, so that every `F > 1` can be had. The others' `F` falls
    with `p` to 27/16 at `p = 4/5` and rises again: of two chances with one kurtosis the smaller is taken.

    Args:
        config: where its `kurtosis` is given, that is what the features have.

    Returns:
        Features `[n_features]`, all alike.

    Raises:
        ValueError: a kurtosis that no feature of this architecture has (see `least_kurtosis`).

    Example:
        >>> live_features(LiveConfig(architecture="quadratic", n_features=1, kurtosis=1.25)).feature_probability.item()
        0.8
        >>> features = live_features(LiveConfig(architecture="tied relu", n_features=1, kurtosis=20.0))
        >>> round(features.feature_probability.item(), 4), round(features.kurtosis.item(), 9)
        (0.0828, 20.0)

    Source: ours; spike and slab kurtosis.
    """
    kind, F = architecture(config.architecture), config.kurtosis
    one = torch.ones(config.n_features, dtype=torch.float64)
    if F is None:
        return kind.features(config.feature_probability * one)
    if kind.family == "quadratic":
        slab = SparseUniform if F >= SLAB_KURTOSIS else SparseSign
        return slab.from_kurtosis(F * one, standardise=True)
    least = least_kurtosis(config.architecture)
    _checks.require(least <= F, "kurtosis", F, f"at least {least} for {config.architecture}")
    return kind.features(uniform_probability(F) * one)


def least_kurtosis(name: str) -> float:
    """The least kurtosis that features of a watched architecture have; of the quadratic one a bound, not reached.

    Example:
        >>> least_kurtosis("quadratic"), least_kurtosis("tied relu")
        (1.0, 1.6875)

    Source: ours.
    """
    return 1.0 if architecture(name).family == "quadratic" else LEAST_KURTOSIS


def uniform_probability(F: float) -> float:
    """The chance up to `DENSEST` at which features that are uniform on [0, 1] if active have kurtosis `F`."""

    def excess(p: float) -> float:
        return float(SparseUniform(p).kurtosis) - F

    return float(brentq(excess, 0.5 / F, DENSEST, xtol=1e-15)) if excess(DENSEST) < 0 else DENSEST
