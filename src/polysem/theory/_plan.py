"""How wide an embedding should be: optimal loss, price and next gain against the total capacity."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from polysem import _checks
from polysem.measure import IGNORED_BELOW, PURE_ABOVE
from polysem.theory._allocate import allocate


@dataclass(frozen=True)
class Plan:
    """What each total capacity buys.

    Attributes:
        total: total capacity `[*batch]` in dimensions.
        loss: optimal loss L* `[*batch]`.
        price: `−dL*/dtotal` `[*batch]`, per dimension, of the next bit (right derivative).
        next_gain: `L*(total) − L*(total + 1)` `[*batch]`, what one whole dimension more buys.
        n_ignored: number of ignored features `[*batch]`.
        n_impure: number of features between ignored and pure `[*batch]`.
        n_pure: number of pure features `[*batch]`.
    """

    total: Float[Tensor, "*batch"]
    loss: Float[Tensor, "*batch"]
    price: Float[Tensor, "*batch"]
    next_gain: Float[Tensor, "*batch"]
    n_ignored: Int64[Tensor, "*batch"]
    n_impure: Int64[Tensor, "*batch"]
    n_pure: Int64[Tensor, "*batch"]


def plan(
    v: object,
    kurtosis: object,
    totals: object,
    *,
    ignored_below: float = IGNORED_BELOW,
    pure_above: float = PURE_ABOVE,
) -> Plan:
    """Optimal loss against total capacity, with the price of more of it.

        L*(D) = min Σ L_i(C_i)  subject to  Σ C_i ≤ D;   L*(D) − L*(D + 1) = ∫ μ over [D, D + 1]

    An embedding of D dimensions attains `L*(D)` at whole D. Beyond one dimension per feature the price is 0.

    Args:
        v: non-negative coefficients `[n_features]`, or `[*batch, n_features]` to broadcast with the totals.
        kurtosis: kurtosis F_i of the inputs, at least 1: one number or in the shape of `v`.
        totals: non-negative total capacities `[*batch]` in dimensions.
        ignored_below: a feature with less capacity counts as ignored.
        pure_above: a feature with more capacity counts as pure.

    Returns:
        The plan, one entry for each total.

    Raises:
        ValueError: as for `allocate`; thresholds out of order or outside [0, 1].
        TypeError: as for `allocate`.

    Example:
        >>> from polysem.theory import plan
        >>> widths = plan([1.0, 1.0], kurtosis=5.0, totals=[1, 2])
        >>> widths.loss, widths.price, widths.next_gain
        (tensor([2.6667, 0.0000], dtype=torch.float64),
         tensor([3.5556, 0.0000], dtype=torch.float64),
         tensor([2.6667, 0.0000], dtype=torch.float64))
        >>> widths.n_impure.tolist(), widths.n_pure.tolist()
        ([2, 0], [0, 2])

    Source: ours.
    """
    ordered = 0 <= ignored_below <= pure_above <= 1
    allowed = "thresholds with 0 <= ignored_below <= pure_above <= 1"
    _checks.require(ordered, "ignored_below, pure_above", (ignored_below, pure_above), allowed)
    total = _checks.as_float64("totals", totals)
    _checks.require(bool((total.isfinite() & (total >= 0)).all()), "totals", totals, "non-negative and finite")
    v, kurtosis = _checks.as_float64("v", v), _checks.as_float64("kurtosis", kurtosis)
    missing = max(v.ndim - 1, kurtosis.ndim - 1, total.ndim) - total.ndim
    both = torch.stack([total, total + 1]).reshape(2, *[1] * missing, *total.shape)
    best = allocate(v, kurtosis, both)
    loss, wider = best.loss
    capacity = best.capacity[0]
    ignored, pure = capacity < ignored_below, capacity > pure_above
    return Plan(
        total=total.expand_as(loss),
        loss=loss,
        price=best.price[0],
        next_gain=loss - wider,
        n_ignored=ignored.sum(-1),
        n_impure=(~ignored & ~pure).sum(-1),
        n_pure=pure.sum(-1),
    )
