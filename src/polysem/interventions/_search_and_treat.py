"""The whole procedure for features that are not given: search, treat what was found, retrain, repeat."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from polysem import _checks
from polysem.interventions._objectives import direction_scores, require_known, whole_benefit
from polysem.interventions._penalty import CapacityPenalty
from polysem.interventions._search import search
from polysem.interventions._view import View
from polysem.measure import IGNORED_BELOW, PURE_ABOVE
from polysem.zoo import ToyModel

Treatment = Literal["flatten", "mask"]
Loss = Callable[[ToyModel, Tensor], Tensor]
"""From a stack and the projector `[n_inst, n, n]` on what is left of its inputs, the loss of each instance."""
Look = Callable[[ToyModel, Tensor], View]
"""From the same, what is seen of the stack."""


@dataclass(frozen=True)
class SearchedAndTreated:
    """A stack whose features were searched for and treated, round by round.

    Attributes:
        model: the stack at the end.
        directions: what was found, in the coordinates of the view.
        score: of each direction when it was found.
        capacity: of each direction when it was found.
        treated: whether it was then treated: an instance that is done treats nothing any more.
        kappa: penalty on each direction; 0 where it was not flattened.
        loss: over all inputs, without penalties, before the first round and after each.
        exhausted: whether rounds ran out before an instance was done.
    """

    model: ToyModel
    directions: Float[Tensor, "n_rounds n_inst n"]
    score: Float[Tensor, "n_rounds n_inst"]
    capacity: Float[Tensor, "n_rounds n_inst"]
    treated: Bool[Tensor, "n_rounds n_inst"]
    kappa: Float[Tensor, "n_rounds n_inst"]
    loss: Float[Tensor, "n_rows n_inst"]
    exhausted: Bool[Tensor, " n_inst"]


def search_and_treat(
    model: ToyModel,
    loss: Loss,
    look: Look,
    *,
    generator: torch.Generator,
    treatment: Treatment = "flatten",
    objective: str = "diminishing",
    rotation: Float[Tensor, "*#n_inst n n"] | None = None,
    rounds: int | None = None,
    candidates: int | None = None,
    share: float = 1.0,
    steps: int = 500,
    learning_rate: float = 0.02,
    restarts: int = 16,
    search_steps: int = 60,
) -> SearchedAndTreated:
    r"""Find a direction, treat it, train on, and repeat until nothing is left to treat.

    - "flatten": the best direction that is uncorrelated with all found before. If it is impure and its returns
      diminish, it is charged `κ_u C_u (1 - C_u)` from then on, with the `κ_u` of the search for diminishing returns. If
      not, it is left as it is. Every direction is looked at once, so there are at most as many rounds as inputs.
    - "mask": as many directions as there are candidates. Unless none of them is impure, the one on which a whole
      dimension would save least, `L_u(0) - L_u(1)`, is taken out of the inputs: `x - (u·x) u`.

    Args:
        model: a trained stack; it is left untouched.
        loss: what it is trained on, differentiable, from the stack and a projector in its own coordinates.
        look: what is seen of it.
        generator: source of the random starts of searches. (Losses and views that draw do so on their own.)
        treatment: "flatten" or "mask".
        objective: of `search`.
        rotation: `Q`, if what is seen is in coordinates `x' = x Q`.
        rounds: at most; by default as many as inputs.
        candidates: directions that masking chooses from; by default all that are left, one with "importance".
        share: factor of `κ_u`.
        steps: of Adam, in each round; a new charge rises over half of them.
        learning_rate: at the start of a round; it falls to 0 along half a cosine.
        restarts: of each search.
        search_steps: of each search.

    Returns:
        `SearchedAndTreated`, the same for the same seed.

    Raises:
        ValueError: an unknown treatment or objective, a number out of range.

    Source: ours, for the proposal of the discussion under the summary post of Scherlis et al. 2022.
    """
    _checks.require(treatment in get_args(Treatment), "treatment", treatment, '"flatten" or "mask"')
    require_known(objective)
    _checks.require(share >= 0, "share", share, "non-negative")
    model, n = deepcopy(model), model.n_features
    most = n if rounds is None else _checks.whole("rounds", rounds)
    eye = torch.eye(n, dtype=torch.float64, device=model.embedding.device).expand(model.n_inst, n, n)
    Q = eye if rotation is None else rotation.to(eye)
    room, known, rows = eye, eye[:, :0], []
    charged = eye[:, 0, :0]
    active = torch.ones_like(eye[:, 0, 0], dtype=torch.bool)
    losses = [loss(model, eye).detach()]
    for _ in range(min(most, n)):
        seen = look(model, room)
        count = 1
        if treatment == "mask" and objective != "importance":
            left = round(float(room.diagonal(dim1=-2, dim2=-1).sum(-1).min()))
            count = left if candidates is None else min(left, _checks.whole("candidates", candidates))
        found = search(
            seen,
            objective,
            n_directions=count,
            restarts=restarts,
            steps=search_steps,
            without=known if treatment == "flatten" else None,
            generator=generator,
        )
        impure = (found.capacity > IGNORED_BELOW) & (found.capacity < PURE_ABOVE) & found.score.isfinite()
        if treatment == "flatten":
            at = torch.zeros_like(active, dtype=torch.int64)
            kappa = share * direction_scores(seen, "diminishing", found.directions)[:, 0].clamp(min=0)
            treat = impure[:, 0] & (kappa > 0)
        else:
            at = whole_benefit(seen, found.directions).argmin(-1)
            treat = active & impure.any(-1)
            kappa, active = torch.zeros_like(losses[0]), treat
        u, score, capacity = (
            value[torch.arange(len(at)), at] for value in (found.directions, found.score, found.capacity)
        )
        kappa = torch.where(treat, kappa, 0.0)
        rows.append((u, score, capacity, treat, kappa))
        known, charged = torch.cat([known, u[:, None]], 1), torch.cat([charged, kappa[:, None]], 1)
        if bool(treat.any()):
            if treatment == "mask":
                own = (Q @ u[..., None])[..., 0] * treat[:, None]
                room = room - own[..., None] * own[..., None, :]
            _retrain(model, loss, room, treat, known @ Q.mT, charged, steps, learning_rate)
        losses.append(loss(model, eye).detach())
        if treatment == "mask" and not bool(active.any()):
            break
    u, score, capacity, treat, kappa = (torch.stack(column) for column in zip(*rows, strict=True))
    exhausted = active if treatment == "mask" else torch.full_like(active, len(rows) < n)
    return SearchedAndTreated(model, u, score, capacity, treat, kappa, torch.stack(losses), exhausted)


def _retrain(
    model: ToyModel,
    loss: Loss,
    room: Tensor,
    going: Bool[Tensor, " n_inst"],
    directions: Tensor,
    kappa: Tensor,
    steps: int,
    learning_rate: float,
) -> None:
    """Train the instances that treated something, in place, inside what is left of the inputs; the others stay."""
    before = deepcopy(model.state_dict())
    _clear(model, room)
    old = kappa.clone()
    old[:, -1] = 0
    settled = CapacityPenalty(old, directions=directions)
    rising = CapacityPenalty(kappa - old, directions=directions, ramp=max(1, steps // 2))
    adam = torch.optim.Adam(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(steps):
        with torch.enable_grad():
            total = loss(model, room).sum()
            if bool((kappa > 0).any()):
                total = total + (settled(model) + rising(model)).sum()
        slopes = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
        for parameter, slope in zip(model.parameters(), slopes, strict=True):
            parameter.grad = slope
        adam.step()
        schedule.step()
    _clear(model, room)
    state = model.state_dict()
    kept = {name: torch.where(going.view(-1, *[1] * (old.ndim - 1)), state[name], old) for name, old in before.items()}
    model.load_state_dict(kept)


@torch.no_grad()
def _clear(model: ToyModel, room: Tensor) -> None:
    """Take out of embedding and readout what masked directions had."""
    for rows in {id(rows): rows for rows in (model.embedding, model.readout)}.values():
        rows.copy_(room.to(rows) @ rows)
