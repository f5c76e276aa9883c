"""Directions that were found, held against the features that are there."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysem import _checks

SAME = 0.9
MIXTURE = -1


@dataclass(frozen=True)
class Match:
    """Which directions are features.

    Attributes:
        cosine: the largest `|cos|` of each direction with a feature.
        feature: the index of that feature, -1 for a mixture, whose cosine is not above the threshold.
        recovered: how many different features there are among the directions.
    """

    cosine: Float[Tensor, "*batch n_directions"]
    feature: Int[Tensor, "*batch n_directions"]
    recovered: Int[Tensor, "*batch"]


def match(
    directions: Float[Tensor, "*batch n_directions n"],
    truth: Float[Tensor, "*batch n_features n"],
    *,
    same: float = SAME,
) -> Match:
    """Tell features from mixtures.

    Args:
        directions: as rows.
        truth: features as rows, in the same coordinates: of features seen through `x' = x Q` the rows of `Q`.
        same: cosine above which a direction is a feature.

    Returns:
        `Match`.

    Raises:
        ValueError: shapes that do not fit, a threshold outside [0, 1).

    Example:
        >>> from polysem.interventions import match
        >>> found = match(torch.tensor([[1.0, 0.1], [1.0, 1.0], [-1.0, 0.0]]), torch.eye(2))
        >>> found.feature.tolist(), found.recovered.item()
        ([0, -1, 0], 1)

    Source: ours.
    """
    u, truth = _checks.matrix("directions", directions), _checks.matrix("truth", truth)
    _checks.require(u.shape[-1] == truth.shape[-1], "shape of truth", tuple(truth.shape), f"[..., n = {u.shape[-1]}]")
    _checks.require(0 <= same < 1, "same", same, "in [0, 1)")
    u, truth = (torch.nn.functional.normalize(rows, dim=-1) for rows in (u, truth))
    cosine, feature = (u @ truth.mT).abs().max(-1)
    feature = torch.where(cosine > same, feature, MIXTURE)
    there = (feature[..., None] == torch.arange(truth.shape[-2], device=u.device)).any(-2)
    return Match(cosine, feature, there.sum(-1))
