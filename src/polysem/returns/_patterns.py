"""What interferes with a feature: the network's own pattern, or a copy of the feature."""

import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks

COPIES = {"antipodal": -1.0, "parallel": 1.0}
"""Coefficient of the copy, beside 1 for the feature itself."""
NETWORK = "network"
STAND_IN = "antipodal"
"""What takes the place of a network's pattern that vanishes."""
VANISHING = 1e-6
"""Interference below this share of the feature's own coefficient vanishes."""


def check_pattern(pattern: str | Tensor) -> None:
    """Raise an error unless the pattern is a name or a tensor."""
    if isinstance(pattern, str):
        allowed = ", ".join(map(repr, (NETWORK, *COPIES)))
        _checks.require(pattern in (NETWORK, *COPIES), "pattern", pattern, f"one of {allowed} or a matrix")
    else:
        _checks.matrix("pattern", pattern)


def coefficients(
    R: Float[Tensor, "n_inst n_features n_features"], pattern: str | Tensor
) -> tuple[Float[Tensor, "n_inst n_features n_features"], Float[Tensor, "n_inst n_features"]]:
    """Coefficients of the other features in each interference `ν_i`, of unit norm, and of a copy of feature i itself.

    A feature has one or the other; `R_ii < 0` turns the signs of its row, since `ν_i` stands beside `+x_i`.
    """
    if isinstance(pattern, str) and pattern in COPIES:
        return torch.zeros_like(R), torch.full_like(R[..., 0], COPIES[pattern])
    own = R.diagonal(dim1=-2, dim2=-1)
    rows, sign = R, torch.where(own < 0, -1.0, 1.0)
    if not isinstance(pattern, str):
        shapes = (tuple(R.shape[1:]), tuple(R.shape))
        allowed = f"[n_features, n_features] = {shapes[0]}, for a stack also with n_inst before"
        _checks.require(tuple(pattern.shape) in shapes, "shape of pattern", tuple(pattern.shape), allowed)
        rows, own, sign = pattern.to(R).expand_as(R), torch.zeros_like(own), torch.ones_like(sign)
    rows = rows - torch.diag_embed(rows.diagonal(dim1=-2, dim2=-1))
    largest = rows.abs().amax(-1, keepdim=True)
    norm = largest * torch.linalg.vector_norm(rows / torch.where(largest > 0, largest, 1.0), dim=-1, keepdim=True)
    nothing = vanishing(norm[..., 0], own.abs())
    if not isinstance(pattern, str) and bool(nothing.any()):
        row = nothing.nonzero()[0, -1].item()
        raise ValueError(f"pattern must have an entry off the diagonal in every row, got none in row {row}")
    rows = torch.where(nothing[..., None], 0.0, rows * sign[..., None] / torch.where(norm > 0, norm, 1.0))
    return rows, torch.where(nothing, COPIES[STAND_IN], 0.0)


def vanishing(interference: Tensor, own: Tensor) -> Tensor:
    """Whether interference is rounding beside the feature's own coefficient."""
    return interference <= VANISHING * own
