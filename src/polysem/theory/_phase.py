"""The phase diagram of two features that compete for one dimension."""

from enum import IntEnum

import torch
from jaxtyping import Int64
from torch import Tensor

from polysem import _checks
from polysem.theory._quadratic import broadcast, kurtoses


class Phase(IntEnum):
    """Which of two features one dimension represents."""

    FIRST_ONLY = 0
    BOTH = 1
    SECOND_ONLY = 2


def phase(ratio: object, kurtosis: object) -> Int64[Tensor, "*shape"]:
    """Phase of two features with equal kurtosis F in one dimension, at importance ratio `r = v_2 / v_1`.

        F > 3:   FIRST_ONLY if r ≤ 2 / (F − 1),   SECOND_ONLY if r ≥ (F − 1) / 2,   else BOTH
        F ≤ 3:   FIRST_ONLY if r ≤ 1,   else SECOND_ONLY

    At F ≤ 3 and r = 1 the two choices are equally good; the first feature is reported.

    Args:
        ratio: non-negative ratios `v_2 / v_1`, any shape.
        kurtosis: kurtosis of both features, at least 1, any shape that broadcasts with `ratio`.

    Returns:
        Int64 codes of `Phase` in the common shape.

    Raises:
        ValueError: `ratio` negative or not finite, `kurtosis` below 1 or not finite, or shapes that do not
            broadcast.
        TypeError: something that is not a number, an array or a tensor.

    Example:
        >>> from polysem.theory import Phase, phase
        >>> [Phase(code).name for code in phase([0.3, 1.0, 3.0], 6.0).tolist()]
        ['FIRST_ONLY', 'BOTH', 'SECOND_ONLY']
        >>> phase(0.9, 2.0).item()
        0

    Source: Scherlis et al. 2022, section 2; the boundaries in closed form are ours.
    """
    r = _checks.as_float64("ratio", ratio)
    _checks.require(bool((r.isfinite() & (r >= 0)).all()), "ratio", ratio, "non-negative and finite")
    r, F = broadcast(ratio=r, kurtosis=kurtoses(kurtosis))
    one_wins = F <= 3
    first = torch.where(one_wins, r <= 1, r * (F - 1) <= 2)
    second = torch.where(one_wins, r > 1, 2 * r >= F - 1)
    codes = torch.full_like(r, Phase.BOTH, dtype=torch.int64)
    codes[first] = Phase.FIRST_ONLY
    codes[second] = Phase.SECOND_ONLY
    return codes
