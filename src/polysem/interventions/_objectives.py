"""What a direction can be searched for."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from polysem import _checks
from polysem.interventions._view import QUADRATIC, View
from polysem.measure import IGNORED_BELOW, PURE_ABOVE, direction_capacity
from polysem.returns import direction_losses, direction_prices

Score = Callable[[Tensor], Tensor]
HALVES = (0.0, 0.5, 1.0)


def diminishing(view: View, u: Float[Tensor, "n_inst k n"]) -> Float[Tensor, "n_inst k"]:
    """How strongly the returns of a direction diminish, as the `κ` of the parabola `κ C (1 - C)` that flattens them."""
    importance = view.importance_of(u)
    if view.loss == QUADRATIC:
        excess = view.kurtosis_of(u) - 3
        return importance.square() * (excess + 2).square() * excess / 4
    C = torch.tensor(HALVES, dtype=u.dtype, device=u.device)
    none, half, whole = direction_losses(u, view.x, view.response, C, loss=view.loss).unbind(-1)
    return importance * (2 * (none + whole) - 4 * half)


def whole_benefit(view: View, u: Float[Tensor, "n_inst k n"]) -> Float[Tensor, "n_inst k"]:
    """What a whole dimension saves on a direction, `L_u(0) - L_u(1)`."""
    importance = view.importance_of(u)
    if view.loss == QUADRATIC:
        return importance.square() * (view.kurtosis_of(u) - 1)
    C = torch.tensor(HALVES[::2], dtype=u.dtype, device=u.device)
    none, whole = direction_losses(u, view.x, view.response, C, loss=view.loss).unbind(-1)
    return importance * (none - whole)


def importance(view: View, u: Float[Tensor, "n_inst k n"]) -> Float[Tensor, "n_inst k"]:
    """`-|dL/dC_u|`."""
    return -direction_prices(view.moments, u).abs()


def own_capacity(view: View, u: Float[Tensor, "n_inst k n"]) -> Float[Tensor, "n_inst k"]:
    """`C_u`."""
    return direction_capacity(view.response, u)


def non_gaussian(view: View, u: Float[Tensor, "n_inst k n"]) -> Float[Tensor, "n_inst k"]:
    """`|F_u - 3|`."""
    return excess_kurtosis(view.centred @ u.mT).abs()


def excess_kurtosis(f: Float[Tensor, "*batch n_samples k"]) -> Float[Tensor, "*batch k"]:
    """Of centred samples."""
    return f.pow(4).mean(-2) / f.square().mean(-2).square() - 3


def counts(view: View, objective: str, u: Float[Tensor, "n_inst k n"]) -> Bool[Tensor, "n_inst k"]:
    """Whether an objective means anything along a direction: only impure ones have a price."""
    if objective != "importance":
        return torch.ones_like(u[..., 0], dtype=torch.bool)
    C = direction_capacity(view.response, u)
    return (C > IGNORED_BELOW) & (C < PURE_ABOVE)


SCORES: dict[str, Callable[[View, Tensor], Tensor]] = {
    "diminishing": diminishing,
    "importance": importance,
    "capacity": own_capacity,
    "non_gaussian": non_gaussian,
}


def direction_scores(view: View, objective: str, directions: Float[Tensor, "n_inst k n"]) -> Float[Tensor, "n_inst k"]:
    """What `search` climbs, at given directions.

    Args:
        view: what is seen of a stack of networks.
        objective: one of those of `search`.
        directions: unit vectors as rows.

    Returns:
        The score, the higher the better; -inf where the objective means nothing.

    Raises:
        ValueError: an unknown objective.

    Source: ours.
    """
    require_known(objective)
    return torch.where(counts(view, objective, directions), SCORES[objective](view, directions), -torch.inf)


def require_known(objective: str) -> None:
    """Raise a ValueError for an unknown objective."""
    _checks.require(objective in SCORES, "objective", objective, "one of " + ", ".join(map(repr, SCORES)))
