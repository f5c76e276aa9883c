"""One feature more than a ReLU autoencoder has dimensions: which are represented, and how they share dimensions."""

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from polysem.features import SparseUniform
from polysem.measure import capacity
from polysem.studies._configs import SuperpositionConfig
from polysem.sweeps import Output, Stack, task
from polysem.training import Fit, FitConfig, FitStatus, fit
from polysem.zoo import TiedAutoencoder

LEAST = 1e-3
"""A feature with a shorter row is not represented; two whose directions' cosine is smaller do not overlap."""

TIE = 1e-9
"""Configurations whose losses differ by less than this, relatively, cost the same."""

PAIRS = [[[1.0], [-1.0]], [[1.0], [-0.4]], [[0.4], [-1.0]]]
"""Where the training of a pair starts: for dense inputs both equal and unequal pairs are minima."""
TRIANGLE = [[-math.sqrt(0.75), 0.5], [math.sqrt(0.75), 0.5], [0.0, -1.0]]
"""Where that of a triangle starts."""


class SuperpositionPhase(IntEnum):
    """What happens to the last feature: if it is represented, one more than the others that it overlaps with."""

    NOT_REPRESENTED = 0
    OWN_DIMENSION = 1
    ANTIPODAL = 2
    TRIANGLE = 3


@dataclass(frozen=True)
class Superposition:
    """The phase of the last feature in every cell, trained and by comparing configurations built by hand.

    Attributes:
        probability: feature probability `[n_probability]` of all features, falling.
        ratio: importance of the last feature relative to each other's `[n_ratio]`.
        trained: codes of `SuperpositionPhase` `[n_ratio, n_probability]` of the best start.
        built: the same for the best configuration built by hand.
        tied: whether configurations of different phases are the best built by hand.
        capacity: trained capacities `[n_ratio, n_probability, n_features]`.
        loss: trained loss `[n_ratio, n_probability]`.
        built_loss: loss of the best configuration built by hand.
        converged: share of all starts that ended at a local minimum.
    """

    probability: Tensor
    ratio: Tensor
    trained: Tensor
    built: Tensor
    tied: Tensor
    capacity: Tensor
    loss: Tensor
    built_loss: Tensor
    converged: float

    @property
    def agreement(self) -> float:
        """Share of the cells without a tie in which training and the comparison by hand name the same phase."""
        return float((self.trained == self.built)[~self.tied].double().mean())

    @property
    def excess(self) -> float:
        """Relative excess of the trained loss over that built by hand, where it is largest in size."""
        excess = (self.loss / self.built_loss - 1).flatten()
        return float(excess[excess.abs().argmax()])


def superposition(config: SuperpositionConfig = SuperpositionConfig()) -> Superposition:
    """Train every cell on the exact expected loss, and compare with configurations built by hand.

    `x̂ = ReLU(x W Wᵀ + b)` with n features uniform on [0, 1], active with probability p, in n − 1 dimensions;
    `L = Σ_i I_i E(x̂_i − x_i)²`, where all importances but the last are equal. Built by hand: one feature is dropped,
    which costs `I Var x`, or two share a dimension as a pair, with a dimension for each other feature (what is
    orthogonal does not interact); and of three features an isosceles triangle. The best sizes of a pair are found by
    training it alone, those of a triangle from a symmetric start.

    Example:
        >>> result = superposition(SuperpositionConfig(n_probability=3, n_ratio=4, restarts=4))
        >>> result.trained[1].tolist()  # the denser, the less superposition
        [0, 2, 2]

    Source: Elhage et al. 2022, section on superposition as a phase change; exact losses are ours.
    """
    n, n_p, n_ratio = config.n_features, config.n_probability, config.n_ratio
    probability = torch.logspace(0, torch.tensor(config.lowest_probability).log10(), n_p, dtype=torch.float64)
    half = float(torch.tensor(config.largest_ratio).log10())
    ratio = torch.logspace(-half, half, n_ratio, dtype=torch.float64)
    p = probability.expand(n_ratio, n_p).reshape(-1)
    importance = _importance(ratio.repeat_interleave(n_p), n)
    start = TiedAutoencoder(n, n - 1, n_inst=len(p) * config.restarts, generator=_seeded(config.seed))
    done = _train(start, p, importance, config.adam_steps)
    loss, W = _ends(done, len(p))

    losses, phases = _built(p, importance, config)
    built_loss = losses.amin(0)
    equal = losses <= built_loss * (1 + TIE)
    built = phases.gather(0, equal.int().argmax(0, keepdim=True))[0]
    shape = (n_ratio, n_p)
    return Superposition(
        probability=probability,
        ratio=ratio,
        trained=superposition_phases(W).view(shape),
        built=built.view(shape),
        tied=(equal & (phases != built)).any(0).view(shape),
        capacity=capacity(W).view(*shape, n),
        loss=loss.view(shape),
        built_loss=built_loss.view(shape),
        converged=float((done.status == int(FitStatus.CONVERGED)).double().mean()),
    )


@task(
    stacked=("feature_probability", "ratio"),
    shared=("n_features", "restarts", "adam_steps"),
    outputs={
        "phase": Output(dtype="int64"),
        "capacity": Output({"feature": "n_features"}),
        "loss": Output(),
        "converged": Output(),
    },
)
def superposition_cells(stack: Stack) -> dict[str, Tensor]:
    """Train cells of the phase diagram of superposition on the exact loss, as `superposition` does.

    Args:
        stack: cells with a `feature_probability` and the `ratio` of the last feature's importance to each other's; for
            all of them `n_features` (2 or 3), random starts of each cell, and steps of Adam before Newton's method.

    Returns:
        Of the best start its `SuperpositionPhase`, capacities and loss (the larger importance is 1); the share of the
        starts that converged.

    Source: Elhage et al. 2022, section on superposition as a phase change; exact losses are ours.
    """
    n, cells = stack["n_features"], stack.n_cells
    p, ratio = (torch.from_numpy(np.float64(stack[name])) for name in ("feature_probability", "ratio"))
    start = TiedAutoencoder(n, n - 1, n_inst=cells * stack["restarts"], generator=_seeded(int(stack.seeds[0])))
    done = _train(start, p, _importance(ratio, n), stack["adam_steps"])
    loss, W = _ends(done, cells)
    converged = (done.status == int(FitStatus.CONVERGED)).double().view(cells, -1).mean(-1)
    return {"phase": superposition_phases(W), "capacity": capacity(W), "loss": loss, "converged": converged}


def superposition_phases(W: Tensor) -> Tensor:
    """Codes of `SuperpositionPhase` for rows `[n_cells, n_features, d_hidden]`."""
    size = W.norm(dim=-1)
    others, last = W[:, :-1], W[:, -1:]
    overlap = (others * last).sum(-1).abs() > LEAST * size[:, :-1] * size[:, -1:]
    partners = (overlap & (size[:, :-1] > LEAST)).sum(-1)
    return torch.where(size[:, -1] > LEAST, SuperpositionPhase.OWN_DIMENSION + partners, 0)


def _importance(ratio: Tensor, n_features: int) -> Tensor:
    """Equal importances but for the last feature's, the largest 1 `[n_cells, n_features]`."""
    last = ratio[:, None]
    return torch.cat([torch.ones_like(last).expand(-1, n_features - 1), last], -1) / last.clamp(min=1)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _built(p: Tensor, importance: Tensor, config: SuperpositionConfig) -> tuple[Tensor, Tensor]:
    """Losses and phases `[n_configurations, n_cells]` of what is built by hand."""
    variance = SparseUniform(p).variance
    none = torch.full_like(p, SuperpositionPhase.NOT_REPRESENTED, dtype=torch.int64)
    own = torch.full_like(p, SuperpositionPhase.OWN_DIMENSION, dtype=torch.int64)
    with_last, rows = _best(PAIRS, p, importance[:, [0, -1]], config)
    # A pair may shrink to one feature as it is trained, which its rows tell.
    losses = [importance[:, -1] * variance, importance[:, 0] * variance, with_last]
    phases = [none, own, superposition_phases(rows)]
    if config.n_features == 3:
        without_last = _pair_of_equals(p, config) * importance[:, 0]
        triangle, rows = _best([TRIANGLE], p, importance, config)
        # Where the best triangle is no minimum, training leaves it for something that was not built.
        losses += [without_last, torch.where(_isosceles(rows), triangle, torch.inf)]
        phases += [own, superposition_phases(rows)]
    return torch.stack(losses), torch.stack(phases)


def _best(
    starts: list[list[list[float]]], p: Tensor, importance: Tensor, config: SuperpositionConfig
) -> tuple[Tensor, Tensor]:
    """Loss and rows in every cell of the best that training reaches from some starts."""
    rows = torch.tensor(starts)
    model = TiedAutoencoder(*rows.shape[1:], n_inst=len(p) * len(rows))
    with torch.no_grad():
        model.W.copy_(rows.repeat(len(p), 1, 1))
    return _ends(_train(model, p, importance, config.adam_steps), len(p))


def _pair_of_equals(p: Tensor, config: SuperpositionConfig) -> Tensor:
    """Loss in every cell of the best pair of equal importance 1, which the feature probability alone decides."""
    once = p[: config.n_probability]  # the same for every ratio
    loss, _ = _best(PAIRS, once, torch.ones(len(once), 2, dtype=p.dtype), config)
    return loss.repeat(config.n_ratio)


def _isosceles(W: Tensor) -> Tensor:
    """Whether the first two rows have the same length, and the same product with the third."""
    G = W @ W.mT
    return ((G[:, 0, 0] - G[:, 1, 1]).abs() < LEAST) & ((G[:, 0, 2] - G[:, 1, 2]).abs() < LEAST)


def _train(start: TiedAutoencoder, p: Tensor, importance: Tensor, adam_steps: int) -> Fit:
    """Fit a stack that holds as many starts of each cell as it has instances for."""
    p, importance = (cells.repeat_interleave(start.n_inst // len(p), 0) for cells in (p, importance))
    features = SparseUniform(p[:, None].expand_as(importance))
    return fit(start, features, importance, FitConfig(adam_steps=adam_steps))


def _ends(done: Fit, cells: int) -> tuple[Tensor, Tensor]:
    """Loss and rows of the best start of each cell."""
    loss, best = done.loss.view(cells, -1).min(1)
    rows = done.model.embedding.detach()
    return loss, rows.view(cells, -1, *rows.shape[1:])[torch.arange(cells), best]
