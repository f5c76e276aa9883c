"""How strong a penalty flattens measured curves."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks
from polysem.returns import Curves


def flattening_kappa(
    curves: Curves, *, C_min: float = 0.0, bound: Literal["concave", "chord"] = "concave"
) -> Float[Tensor, "*batch n_features"]:
    r"""How much penalty takes the diminishing out of marginal returns.

        concave:  κ_i = max(κ_i of the chord, max_{C >= C_min} L_i''(C) / 2)
        chord:    κ_i = max(0, max_{C_min <= C < 1} (chord_i(C) - L_i(C)) / (C (1 - C)))
                  chord_i(C) = (1 - C) L_i(0) + C L_i(1)

    With either, no way of sharing capacity has a smaller total than the best way to deal out whole dimensions: the sum
    of the chords is linear in the capacities, and at no allocation greater than the penalised loss. With "concave" no
    way of sharing is a minimum of its own, either: each `L_i + κ_i C (1 - C)` is concave from `C_min` on.

    The curvature of each step of the grid is that of the curve through its ends along which `1/√b` is linear
    (`b = -L'`), as it is on the quadratic model: there "concave" is `v_i² (F_i - 1)² (F_i - 3) / 4` and "chord"
    `v_i² (F_i - 1) (F_i - 3) / 2`, both at C = 0 and for `F_i > 3`, whatever the grid. Where a benefit is not positive
    it is the difference quotient.

    Args:
        curves: measured by `returns.curve` from `C = 0` to 1.
        C_min: capacity from which on sharing counts. Sampled curves may jump at 0, and no penalty is steep enough for a
            jump: take the least capacity at which a feature counts as represented.
        bound: how much is asked for.

    Returns:
        `κ`, in the unit of the loss.

    Raises:
        ValueError: fewer than two points from `C_min` on, curves that do not go from 0 to 1, an unknown bound.

    Example:
        >>> from polysem.features import SparseSign
        >>> from polysem.interventions import flattening_kappa
        >>> from polysem.returns import curve
        >>> from polysem.zoo import QuadraticModel
        >>> features = SparseSign.from_kurtosis([20.0, 5.0, 2.0], standardise=True)
        >>> curves = curve(QuadraticModel(3, 2), features, [1.0, 1.0, 1.0])
        >>> [round(k, 6) for k in flattening_kappa(curves)[0].tolist()]
        [1534.25, 8.0, 0.0]
        >>> [round(k, 6) for k in flattening_kappa(curves, bound="chord")[0].tolist()]
        [161.5, 4.0, 0.0]

    Source: ours.
    """
    _checks.require(bound in ("concave", "chord"), "bound", bound, '"concave" or "chord"')
    curves.require_ends()
    counted = curves.C_grid >= C_min
    _checks.require(int(counted.sum()) >= 2, "C_min", C_min, "at most the second-largest capacity of the curves")
    chord = _above_curve(curves, counted)
    return chord if bound == "chord" else torch.maximum(chord, _curvature(curves, counted) / 2)


def _above_curve(curves: Curves, counted: Tensor) -> Tensor:
    """The largest `(chord - L) / (C (1 - C))`; at C = 0 its limit, what the first unit gains beyond the average one."""
    inside = counted & (curves.C_grid > 0) & (curves.C_grid < 1)
    C, L = curves.C_grid[inside], curves.losses
    first, last = L[..., :1], L[..., -1:]
    above = ((1 - C) * first + C * last - L[..., inside]) / (C * (1 - C))
    if counted[0]:
        above = torch.cat([curves.marginal_benefit[..., :1] - (first - last), above], -1)
    return above.amax(-1).clamp(min=0)


def _curvature(curves: Curves, counted: Tensor) -> Tensor:
    """The largest `L''` of the steps that count."""
    C, benefit = curves.C_grid[counted], curves.marginal_benefit[..., counted]
    step, start, end = C.diff(), benefit[..., :-1], benefit[..., 1:]
    positive = (start > 0) & (end > 0)
    root, next_root = (torch.where(positive, value, 1.0).rsqrt() for value in (start, end))
    rise = (next_root - root) / step
    bend = torch.where(positive, 2 * rise / torch.minimum(root, next_root).pow(3), (start - end) / step)
    return bend.amax(-1)
