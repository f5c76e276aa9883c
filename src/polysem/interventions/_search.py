"""Search for features in a network whose features are not given."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from polysem import _checks
from polysem.interventions._ica import independent_components
from polysem.interventions._objectives import SCORES, direction_scores, require_known
from polysem.interventions._view import View
from polysem.measure import direction_capacity

NOTHING = 1e-9
"""Variance of the inputs along a direction, relative to the largest, below which there is none."""


@dataclass(frozen=True)
class FoundDirections:
    """Directions of the inputs that were searched for.

    Attributes:
        objective: what was searched for.
        directions: unit vectors as rows, in the order in which they were found.
        score: value of the objective, the higher the better; -inf where no direction has one.
        restarts: scores at which all restarts ended; for "non_gaussian" there is one.
        capacity: of each direction.
    """

    objective: str
    directions: Float[Tensor, "n_inst n_directions n"]
    score: Float[Tensor, "n_inst n_directions"]
    restarts: Float[Tensor, "n_inst n_directions n_restarts"]
    capacity: Float[Tensor, "n_inst n_directions"]


def search(
    view: View,
    objective: str = "diminishing",
    *,
    generator: torch.Generator,
    n_directions: int = 1,
    restarts: int = 32,
    steps: int = 150,
    learning_rate: float = 0.1,
    without: Float[Tensor, "n_inst k n"] | None = None,
) -> FoundDirections:
    r"""Search for features among all linear combinations of the inputs.

    A direction `u` stands for the feature `u·x`. Random unit vectors climb an objective by Adam, all restarts of all
    networks in one tensor; the best is kept. Further directions are sought among those uncorrelated with all before,
    `uᵀ Cov(x) u_k = 0`, which features are. The objectives, each the higher the better:

    - "diminishing": how strongly returns diminish, as the `κ` of a parabola `κ C (1 - C)` that flattens them. Quadratic
      model: `v_u² (F_u - 1)² (F_u - 3) / 4` with `v_u = uᵀ M u` and `F_u` the kurtosis of `u·x` on the samples. Others:
      `2 (L_u(0) + L_u(1)) - 4 L_u(1/2)` from `returns.direction_losses`, times `uᵀ M u`: four times how far the curve
      lies below its chord at half a dimension. Of independent features with equal kurtosis every mixture is closer to
      a Gaussian, `F_u - 3 = Σ_i u_i⁴ (F - 3)`, so that on the quadratic model none can win.
    - "importance": `-|dL/dC_u|`, over directions of capacity between `measure.IGNORED_BELOW` and `PURE_ABOVE`, where
      there is a price. Where a quadratic model is trained, all directions of a tight frame have one price: then chance
      in the samples decides.
    - "capacity": `C_u`, the highest. The other end says nothing: `C_u = 0`, or 1/2, on whole surfaces. At this one the
      winners are the eigenvectors of the response, and they mix features unless these are orthogonal.
    - "non_gaussian": the components of FastICA (scikit-learn, `pip install polysem[studies]`), in the order of
      `|F_u - 3|`. It sees the inputs alone, not the network.

    Args:
        view: what is seen of a stack of networks.
        objective: one of the four.
        generator: source of the random starts.
        n_directions: how many directions.
        restarts: random starts of each.
        steps: of Adam, with a rate that falls to 0 along half a cosine.
        learning_rate: at the start.
        without: directions as rows, with which those sought shall be uncorrelated too; rows of zeros do not count.

    Returns:
        `FoundDirections`.

    Raises:
        ValueError: an unknown objective, a number out of range, more directions than inputs have.
        ModuleNotFoundError: "non_gaussian" without scikit-learn.

    Example:
        Four sparse features share two dimensions; a search through a random rotation finds all of them:

        >>> from polysem.features import SparseSign
        >>> from polysem.interventions import match, search, view
        >>> from polysem.training import fit
        >>> from polysem.zoo import QuadraticModel
        >>> g = torch.Generator().manual_seed(0)
        >>> features, v = SparseSign([0.1] * 4, standardise=True), [1.0, 0.8, 0.6, 0.4]
        >>> model = fit(QuadraticModel(4, 2, generator=g), features, v).model
        >>> Q = torch.linalg.qr(torch.randn(4, 4, generator=g, dtype=torch.float64)).Q
        >>> seen = view(model, features.sample(5000, generator=g), v, rotation=Q)
        >>> found = search(seen, n_directions=4, generator=g)
        >>> match(found.directions, Q[None]).feature.tolist()
        [[0, 1, 2, 3]]

    Source: ours, for the proposal of the discussion under the summary post of Scherlis et al. 2022.
    """
    require_known(objective)
    n_directions, restarts, steps = (
        _checks.whole(name, value, 1)
        for name, value in (("n_directions", n_directions), ("restarts", restarts), ("steps", steps))
    )
    _checks.require(0 < learning_rate < float("inf"), "learning_rate", learning_rate, "positive and finite")
    room = _with_variance(view)
    if without is not None:
        for one in without.unbind(-2):
            room = _uncorrelated(room, view, one)
    most = round(float(room.diagonal(dim1=-2, dim2=-1).sum(-1).min()))
    _checks.require(n_directions <= most, "n_directions", n_directions, f"at most the dimensions that are left, {most}")
    if objective == "non_gaussian":
        u = independent_components(view, room, n_directions, generator)
        score = direction_scores(view, objective, u)
        return FoundDirections(objective, u, score, score[..., None], direction_capacity(view.response, u))
    found, scores = [], []
    for _ in range(n_directions):
        u = _climb(view, objective, room, restarts, steps, learning_rate, generator)
        with torch.no_grad():
            score = direction_scores(view, objective, u)
        best = score.argmax(-1)
        found.append(u[torch.arange(len(u)), best])
        scores.append(score)
        room = _uncorrelated(room, view, found[-1])
    u, ends = torch.stack(found, 1), torch.stack(scores, 1)
    return FoundDirections(objective, u, ends.amax(-1), ends, direction_capacity(view.response, u))


def _climb(
    view: View,
    objective: str,
    room: Tensor,
    restarts: int,
    steps: int,
    learning_rate: float,
    generator: torch.Generator,
) -> Float[Tensor, "n_inst n_restarts n"]:
    """Where random directions get to that climb an objective."""
    shape = (len(room), restarts, room.shape[-1])
    start = torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device).to(room)
    w = normalize(start @ room, dim=-1).requires_grad_()
    adam = torch.optim.Adam([w], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(steps):
        with torch.enable_grad():
            total = SCORES[objective](view, normalize(w @ room, dim=-1)).sum()
        (w.grad,) = torch.autograd.grad(-total, w)
        adam.step()
        schedule.step()
        with torch.no_grad():
            w.copy_(normalize(w @ room, dim=-1))
    return w.detach()


def _with_variance(view: View) -> Float[Tensor, "n_inst n n"]:
    """The projector on the directions in which the inputs vary."""
    values, vectors = torch.linalg.eigh(view.covariance)
    there = (values > NOTHING * values[:, -1:]).to(values)
    projector: Tensor = (vectors * there[:, None]) @ vectors.mT
    return projector


def _uncorrelated(room: Tensor, view: View, u: Float[Tensor, "n_inst n"]) -> Float[Tensor, "n_inst n n"]:
    """The projector on what is left of a space without all that correlates with a direction."""
    normal = ((room @ view.covariance) @ u[..., None])[..., 0]
    normal = normalize(normal, dim=-1)
    return room - normal[..., None] * normal[..., None, :]
