"""The one set of thresholds by which a feature counts as ignored, impure or pure."""

from enum import IntEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

IGNORED_BELOW = 0.05
"""A feature with less capacity than this is ignored."""

PURE_ABOVE = 0.95
"""A feature with more capacity than this is pure (monosemantic)."""

NEGLIGIBLE_SQUARED_NORM = 1e-3
"""A row whose squared norm is below this fraction of the largest one is ignored, whatever its capacity."""


class FeatureClass(IntEnum):
    """How a feature is represented."""

    IGNORED = 0
    IMPURE = 1
    PURE = 2


def classify(
    capacity: Float[Tensor, "*batch n_features"],
    row_norm: Float[Tensor, "*batch n_features"] | None = None,
) -> Int[Tensor, "*batch n_features"]:
    """Sort features into ignored, impure and pure.

    Ignored: `C < 0.05`, or `|W_i|² < 1e-3 max_j |W_j|²`. Pure: `C > 0.95`. Impure: between.

    Args:
        capacity: capacities in [0, 1].
        row_norm: norms `|W_i|` of the rows; without them capacity alone decides.

    Returns:
        Codes of `FeatureClass`, int64.

    Example:
        >>> classify(torch.tensor([0.0, 0.5, 1.0])).tolist()
        [0, 1, 2]

    Source: ours; the thresholds are conventions, the same everywhere in this library.
    """
    ignored = capacity < IGNORED_BELOW
    if row_norm is not None and row_norm.shape[-1]:
        ignored |= row_norm < NEGLIGIBLE_SQUARED_NORM**0.5 * row_norm.amax(-1, keepdim=True)
    codes = torch.full_like(capacity, FeatureClass.IMPURE, dtype=torch.int64)
    codes[capacity > PURE_ABOVE] = FeatureClass.PURE
    codes[ignored] = FeatureClass.IGNORED
    return codes


def polysemanticity(
    capacity: Float[Tensor, "*batch n_features"], feature_class: Int[Tensor, "*batch n_features"]
) -> Float[Tensor, "*batch"]:
    """How far the represented features are from being pure: the mean of `4 C (1 - C)` over them.

    Args:
        capacity: capacities in [0, 1].
        feature_class: codes of `FeatureClass`, as `classify` gives them.

    Returns:
        An index in [0, 1]: 1 where all have capacity 1/2, 0 where all are pure, and where none is represented.

    Example:
        >>> C = torch.tensor([1.0, 0.5, 0.5, 0.0])
        >>> round(polysemanticity(C, classify(C)).item(), 4)
        0.6667

    Source: ours.
    """
    there = feature_class != FeatureClass.IGNORED
    spent = torch.where(there, 4 * capacity * (1 - capacity), 0.0).sum(-1)
    return spent / there.sum(-1).clamp(min=1)
