"""Six situations of two features and one dimension: where their marginal-benefit curves meet."""

from dataclasses import dataclass

import torch
from torch import Tensor

from polysem import _checks
from polysem.features import SparseSign
from polysem.measure import capacity
from polysem.studies._configs import PointsConfig
from polysem.theory import Allocation, allocate, marginal_benefit
from polysem.training import Fit, FitConfig, fit
from polysem.zoo import QuadraticModel


@dataclass(frozen=True)
class Point:
    """A place in the phase diagram.

    Attributes:
        name: its letter.
        kurtosis: kurtosis F of both features.
        ratio: relative importance `v_2 / v_1`, with `v_1 = 1`.
        says: what happens there, in a few words.
        reads: why, in a few sentences.
        look: what of that its two curves show.
    """

    name: str
    kurtosis: float
    ratio: float
    says: str
    reads: str
    look: str


POINTS = (
    Point(
        "A",
        2.0,
        0.8,
        "increasing returns, unequal importance: the more important feature takes all",
        "Two features want the same dimension, and both are dense: their kurtosis F is below 3. Then every further bit "
        "of capacity saves more than the bit before it, so half a dimension is worth less than half of a whole one. "
        "The more important feature takes all, and the other is ignored.",
        "Each curve rises towards the end where its feature owns everything. Where they cross is the worst division "
        "there is: a step to either side pays, and the next step pays more. The optimum lies at the end of feature 1.",
    ),
    Point(
        "B",
        2.0,
        1.0,
        "increasing returns, equal importance: one of them takes all",
        "Now both features matter the same, and returns still increase. To share would be fair, but half each is the "
        "most expensive division of all. One feature wins the whole dimension, and nothing but chance says which.",
        "The curves are mirror images and cross in the middle, at the worst place. The optimum lies at an end, and "
        "both ends cost the same.",
    ),
    Point(
        "C",
        3.0,
        1.0,
        "constant returns, equal importance: every division costs the same",
        "At F = 3, the kurtosis of a Gaussian, the next bit of capacity saves the same however much a feature has "
        "already. Between two equally important features every division then costs the same. This is the border "
        "between one winner and sharing.",
        "Both curves are flat and lie on each other: no trade gains or loses anything, and every place is an optimum. "
        "Unequal importances would put them at different heights, and the higher one would take all.",
    ),
    Point(
        "D",
        6.0,
        1.0,
        "diminishing returns, equal importance: half each",
        "Features that are mostly silent and then strong have a kurtosis above 3. For them the first bit of capacity "
        "saves the most and the last the least, so whoever has much gains little from more. Both features share the "
        "dimension, half each: superposition pays.",
        "Each curve now falls as its feature gets more, and the crossing has turned from the worst place into the "
        "best. To move away from it loses more on one feature than it gains on the other.",
    ),
    Point(
        "E",
        6.0,
        0.6,
        "diminishing returns, unequal importance: shared unequally",
        "The second feature matters less, but the first bit of capacity still saves more on it than the last bit does "
        "on feature 1. So it gets a share, only a smaller one. The rule is not that the most important feature takes "
        "all, but that the next bit must save the same on both.",
        "The second curve has sunk, and the crossing has moved to the right, to C₁ = 0.79. Its height is the price of "
        "capacity: what a little more of the dimension would save, on either feature.",
    ),
    Point(
        "F",
        6.0,
        0.3,
        "diminishing returns, past the boundary: one pure, one ignored",
        "Here the second feature matters so little that even its first bit of capacity saves less than the last bit "
        "does on feature 1. No trade is worth making: feature 1 is pure and feature 2 ignored, although returns "
        "diminish. At F = 6 that begins where v₂/v₁ = 2/(F − 1) = 0.4.",
        "The curves do not meet any more: feature 1's stays above feature 2's to the right end, where the optimum "
        "lies. Between E and F they touch just there, and that is the boundary between sharing and ignoring.",
    ),
)


@dataclass(frozen=True)
class Points:
    """Marginal benefits against the first feature's capacity, with theory's optimum and the trained one.

    Attributes:
        points: the situations.
        first_capacity: grid `[n_grid]` of `C_1`; the second feature owns `1 − C_1`.
        benefit: `−dL_i/dC_i` `[n_points, 2, n_grid]` on that grid.
        optimum: the optimal allocation, batch `[n_points]`.
        optimum_benefit: marginal benefits `[n_points, 2]` there.
        trained_capacity: capacities `[n_points, 2]` of the best trained start.
        trained_benefit: marginal benefits `[n_points, 2]` there.
        trained_loss: its loss `[n_points]`.
    """

    points: tuple[Point, ...]
    first_capacity: Tensor
    benefit: Tensor
    optimum: Allocation
    optimum_benefit: Tensor
    trained_capacity: Tensor
    trained_benefit: Tensor
    trained_loss: Tensor


@dataclass(frozen=True)
class PairCurves:
    """Two features in one dimension at any place of the phase diagram, by theory.

    Attributes:
        kurtosis: of both; ratio: `v_2 / v_1`, with `v_1 = 1`.
        first_capacity: grid `[n_grid]` of `C_1`; the second feature owns `1 − C_1`.
        benefit: `−dL_i/dC_i` `[2, n_grid]` on that grid.
        optimum: the optimal allocation.
        optimum_benefit: marginal benefits `[2]` there.
    """

    kurtosis: float
    ratio: float
    first_capacity: Tensor
    benefit: Tensor
    optimum: Allocation
    optimum_benefit: Tensor


def pair_curves(kurtosis: float, ratio: float, *, n_grid: int = 101) -> PairCurves:
    """Marginal-benefit curves of two features that share one dimension, and where the optimum puts them.

    Args:
        kurtosis: kurtosis F of both, above 1.
        ratio: relative importance `v_2 / v_1`, non-negative.
        n_grid: points of each curve.

    Returns:
        Curves and optimum, float64.

    Raises:
        ValueError: a value out of range.

    Example:
        >>> found = pair_curves(6.0, 0.6)
        >>> [round(c, 3) for c in found.optimum.capacity.tolist()], round(float(found.optimum.price), 3)
        ([0.792, 0.208], 2.612)

    Source: Scherlis et al. 2022, the figure of two features' marginal benefits.
    """
    v = torch.tensor([1.0, ratio], dtype=torch.float64)
    first = torch.linspace(0, 1, _checks.whole("n_grid", n_grid, 2), dtype=torch.float64)
    optimum = allocate(v, kurtosis, 1.0)
    return PairCurves(
        kurtosis=kurtosis,
        ratio=ratio,
        first_capacity=first,
        benefit=marginal_benefit(v[:, None], kurtosis, torch.stack([first, 1 - first])),
        optimum=optimum,
        optimum_benefit=marginal_benefit(v, kurtosis, optimum.capacity),
    )


def points(config: PointsConfig = PointsConfig()) -> Points:
    """Curves, optimum and training at the points A to F.

    Example:
        >>> result = points(PointsConfig(n_grid=3, restarts=4))
        >>> [(p.name, round(float(c), 3)) for p, c in zip(result.points, result.trained_capacity[:, 0]) if p.name > "C"]
        [('D', 0.5), ('E', 0.792), ('F', 1.0)]

    Source: Scherlis et al. 2022, the figures of marginal benefits and of the phase diagram.
    """
    kurtosis = torch.tensor([point.kurtosis for point in POINTS], dtype=torch.float64)
    v = torch.tensor([[1.0, point.ratio] for point in POINTS], dtype=torch.float64)
    first = torch.linspace(0, 1, config.n_grid, dtype=torch.float64)
    grid = torch.stack([first, 1 - first])
    optimum = allocate(v, kurtosis[:, None], torch.ones(len(POINTS), dtype=torch.float64))
    best, loss = train_pairs(v, kurtosis, restarts=config.restarts, seed=config.seed)
    return Points(
        points=POINTS,
        first_capacity=first,
        benefit=marginal_benefit(v[..., None], kurtosis[:, None, None], grid),
        optimum=optimum,
        optimum_benefit=marginal_benefit(v, kurtosis[:, None], optimum.capacity),
        trained_capacity=best,
        trained_benefit=marginal_benefit(v, kurtosis[:, None], best),
        trained_loss=loss,
    )


def train_pairs(v: Tensor, kurtosis: Tensor, *, restarts: int, seed: int) -> tuple[Tensor, Tensor]:
    """Train two features in one dimension, several starts a case: capacities `[n_cases, 2]` and loss of the best.

    Args:
        v: importances `[n_cases, 2]`.
        kurtosis: kurtosis of both features `[n_cases]`.
        restarts: starts a case.
        seed: seeds the starts.
    """
    cases = len(v)
    features = SparseSign.from_kurtosis(kurtosis.repeat_interleave(restarts)[:, None].expand(-1, 2), standardise=True)
    start = QuadraticModel(2, 1, n_inst=cases * restarts, generator=torch.Generator().manual_seed(seed))
    done: Fit = fit(start, features, v.repeat_interleave(restarts, 0), FitConfig(adam_steps=50))
    loss, best = done.loss.view(cases, restarts).min(1)
    W = done.model.embedding.detach().view(cases, restarts, 2, 1)[torch.arange(cases), best]
    return capacity(W), loss
