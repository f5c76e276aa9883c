"""How strong a penalty flattens measured curves."""

import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks
from polysem.returns import Curves


def flattening_kappa(curves: Curves, *, C_min: float = 0.0) -> Float[Tensor, "*batch n_features"]:
    r"""How much penalty makes every curve concave.

        κ_i = max(0, max_{C >= C_min} L_i''(C) / 2)

    `L_i + κ_i C (1 - C)` is then concave from `C_min` on. The curvature of each step of the grid is that of the curve
    through its ends along which `1/√b` is linear (`b = -L'`), as it is on the quadratic model: there the result is
    `v_i² (F_i - 1)² (F_i - 3) / 4` where `F_i > 3`, whatever the grid. Where a benefit is not positive it is the
    difference quotient.

    Args:
        curves: measured by `returns.curve`.
        C_min: capacity from which on curvature counts. Sampled curves may jump at 0, and none is steep enough for a
            jump: take the least capacity at which a feature counts as represented.

    Returns:
        `κ`, in the unit of the loss.

    Raises:
        ValueError: fewer than two points from `C_min` on.

    Example:
        >>> from polysem.features import SparseSign
        >>> from polysem.interventions import flattening_kappa
        >>> from polysem.returns import curve
        >>> from polysem.zoo import QuadraticModel
        >>> features = SparseSign.from_kurtosis([20.0, 5.0, 2.0], standardise=True)
        >>> kappa = flattening_kappa(curve(QuadraticModel(3, 2), features, [1.0, 1.0, 1.0]))
        >>> [round(k, 6) for k in kappa[0].tolist()]
        [1534.25, 8.0, 0.0]

    Source: ours.
    """
    counted = curves.C_grid >= C_min
    _checks.require(int(counted.sum()) >= 2, "C_min", C_min, "at most the second-largest capacity of the curves")
    C, benefit = curves.C_grid[counted], curves.marginal_benefit[..., counted]
    step, start, end = C.diff(), benefit[..., :-1], benefit[..., 1:]
    positive = (start > 0) & (end > 0)
    root, next_root = (torch.where(positive, value, 1.0).rsqrt() for value in (start, end))
    rise = (next_root - root) / step
    bend = torch.where(positive, 2 * rise / torch.minimum(root, next_root).pow(3), (start - end) / step)
    return bend.amax(-1).clamp(min=0) / 2
