"""Importance curves: how much each feature matters, from the first to the last."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks


def geometric(n_features: int, ratio: float) -> Float[Tensor, " n_features"]:
    """Importances that fall by a constant factor: `ratio ** i`, `i = 0, 1, ...`.

    Args:
        n_features: number of features.
        ratio: positive factor from each feature to the next.

    Returns:
        Float64 importances `[n_features]`, the first 1.

    Raises:
        ValueError: `n_features` below 1, a ratio that is not positive, or an importance that overflows.

    Example:
        >>> from polysem.features import geometric
        >>> geometric(3, 0.5).tolist()
        [1.0, 0.5, 0.25]

    Source: Elhage et al. 2022, section 2.
    """
    n_features = _checks.whole("n_features", n_features)
    _checks.require(math.isfinite(ratio) and ratio > 0, "ratio", ratio, "positive and finite")
    values = torch.as_tensor(ratio, dtype=torch.float64) ** torch.arange(n_features)
    _checks.require(bool(values.isfinite().all()), "ratio", ratio, f"so small that ratio ** {n_features - 1} is finite")
    return values


def zipf(n_features: int, exponent: float = 1.0) -> Float[Tensor, " n_features"]:
    """Importances that fall by a power law: `(i + 1) ** -exponent`, `i = 0, 1, ...`.

    Args:
        n_features: number of features.
        exponent: how fast they fall; 0 makes all equal.

    Returns:
        Float64 importances `[n_features]`, the first 1.

    Raises:
        ValueError: `n_features` below 1, or an exponent that is negative or not finite.

    Example:
        >>> from polysem.features import zipf
        >>> zipf(4, exponent=2.0).tolist()
        [1.0, 0.25, 0.1111111111111111, 0.0625]

    Source: ours; Zipf's law.
    """
    n_features = _checks.whole("n_features", n_features)
    _checks.require(math.isfinite(exponent) and exponent >= 0, "exponent", exponent, "non-negative and finite")
    return (torch.arange(n_features, dtype=torch.float64) + 1) ** -exponent


def explicit(values: object) -> Float[Tensor, "*settings n_features"]:
    """Importances as given, checked.

    Args:
        values: numbers `[*settings, n_features]`, none negative.

    Returns:
        A float64 copy.

    Raises:
        ValueError: negative, infinite or NaN values, or no feature.
        TypeError: something that is not an array or a tensor.

    Example:
        >>> from polysem.features import explicit
        >>> explicit([3, 1]).tolist()
        [3.0, 1.0]
    """
    result = _checks.as_float64("values", values)
    _checks.require(result.ndim > 0 and result.numel() > 0, "values", values, "a list of at least one number")
    _checks.require(bool((result.isfinite() & (result >= 0)).all()), "values", values, "non-negative and finite")
    return result.clone()
