"""What capacity would be without structure: random matrices with the same norms, or with the same second moments."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import stdtrit
from torch import Tensor

from polysem.measure._frame import FrameSum, ratio
from polysem.measure._rows import ahead, block_rows
from polysem.measure._work import Work

Kind = Literal["isotropic", "covariance"]


@dataclass(frozen=True)
class Null:
    """Total capacity of random matrices, for comparison with an observed total.

    Attributes:
        kind: `"isotropic"` (random directions, observed norms) or `"covariance"` (Gaussian rows with second moment
            `M / n_features`).
        analytic: plug-in value of the total: a guide that can be tens of percent off, not a judge.
        totals: total capacity of each random matrix, `[n_draws]`.
        confidence: level of the interval.
        histogram: mean number of features per bin of capacity over the draws, `[n_bins]`.
    """

    kind: Kind
    analytic: float
    totals: Tensor
    confidence: float
    histogram: Tensor

    @property
    def mean(self) -> float:
        """Mean total over the draws."""
        return float(self.totals.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Prediction interval for the total of one more such matrix: `mean ± t s √(1 + 1/n)` (Student's t)."""
        return prediction_interval(self.totals, self.confidence)


def prediction_interval(draws: Float[Tensor, " n_draws"], confidence: float = 0.95) -> tuple[float, float]:
    """Where one more draw of the same kind is to be expected: `mean ± t s √(1 + 1/n)` (Student's t).

    Args:
        draws: at least two.
        confidence: level of the interval.

    Returns:
        Its ends.

    Example:
        >>> [round(end, 3) for end in prediction_interval(torch.tensor([1.0, 2.0, 3.0]))]
        [-2.968, 6.968]

    Source: textbook.
    """
    n = len(draws)
    quantile = float(stdtrit(n - 1, (1 + confidence) / 2))
    half_width = quantile * float(draws.std()) * (1 + 1 / n) ** 0.5
    mean = float(draws.mean())
    return mean - half_width, mean + half_width


def isotropic_total(row_norm: Float[Tensor, " n_features"], d_hidden: int) -> float:
    """Plug-in total for random directions with given norms: a guide that costs nothing.

    `Σ_i a_i / (a_i + Σ_{j≠i} a_j / D)` with `a_i = |W_i|²`. Biased low (Jensen), by tens of percent for very unequal
    norms or small `D`: `report` draws what a total is to be judged by.

    Args:
        row_norm: norms of the rows, in any unit.
        d_hidden: dimension `D` of the rows.

    Returns:
        The total, in dimensions.

    Example:
        >>> round(isotropic_total(torch.ones(100), 10), 4)  # N D / (N + D - 1)
        9.1743

    Source: ours.
    """
    squared_norm = relative(row_norm).square()
    others = squared_norm.sum() - squared_norm
    return float(ratio(squared_norm, squared_norm * (squared_norm + others / max(d_hidden, 1))).sum())


def covariance_total(singular_values: Float[Tensor, " d_hidden"], n_features: int) -> float:
    """Plug-in total for Gaussian rows with covariance `S ∝ M`: `N r / (N + r − 1)`, `r = E[(wᵀw)² / wᵀSw]`.

    To second order in the spread of both quadratic forms, with power sums `s_k = tr S^k`:
    `r ≈ s_1²/s_2 + 2 − 4 s_1 s_3 / s_2² + 2 s_1² s_4 / s_2³`, which is `D` for equal variances.
    """
    if not bool(singular_values.any()):
        return 0.0
    variances = relative(singular_values).square()
    s1, s2, s3, s4 = (float(variances.pow(k).sum()) for k in (1, 2, 3, 4))
    r = s1**2 / s2 + 2 - 4 * s1 * s3 / s2**2 + 2 * s1**2 * s4 / s2**3
    return n_features * r / (n_features + r - 1)


def relative(values: Tensor) -> Tensor:
    """Non-negative values divided by the largest; zeros stay zeros."""
    return values / values.max() if bool(values.any()) else values


def draw_nulls(
    row_norm: Tensor, singular_values: Tensor, edges: Tensor, *, draws: int, seed: int, confidence: float, work: Work
) -> tuple[Null, Null]:
    """Draw random matrices, and measure them as both nulls, isotropic and covariance.

    One Gaussian matrix `G` serves both: `|W_i| G_i / |G_i|`, and `G Σ` (capacity is invariant under rotation, so these
    rows are drawn in the basis of the singular directions). It is drawn block by block, and drawn again instead of
    being kept, unless its rows are fewer than dimensions. Every draw is two passes over the rows, which `work` expects.
    """
    n_features, d_hidden = len(row_norm), len(singular_values)
    norm, deviation = relative(row_norm).float(), relative(singular_values).float()
    variance = deviation.square()
    totals = torch.zeros(2, draws, dtype=torch.float64)
    histograms = torch.zeros(2, len(edges) - 1, dtype=torch.float64, device=edges.device)
    step = block_rows(d_hidden, d_hidden)

    def gaussian(draw: int) -> Generator[Tensor, None, None]:
        stream_seed = int(np.random.SeedSequence([seed, draw]).generate_state(1, np.uint64)[0])
        generator = torch.Generator(norm.device).manual_seed(stream_seed)
        for start in range(0, n_features, step):
            rows = min(step, n_features - start)
            yield torch.randn(rows, d_hidden, generator=generator, device=norm.device)

    def by_operators(draw: int) -> Iterator[tuple[Tensor, Tensor]]:
        isotropic, covariance = FrameSum(), FrameSum()
        for start, G in zip(range(0, n_features, step), work.over(ahead(gaussian(draw))), strict=True):
            covariance.add(G)
            isotropic.add(G.mul_((norm[start : start + step] / torch.linalg.vector_norm(G, dim=-1))[:, None]))
        operators = isotropic.total(), covariance.total() * variance * variance[:, None]
        for start, G in zip(range(0, n_features, step), work.over(ahead(gaussian(draw))), strict=True):
            of_direction, spent = ((G @ operator).mul_(G).sum(-1) for operator in operators)
            length, own = (G.square_() @ torch.stack((torch.ones_like(variance), variance), -1)).unbind(-1)
            size = norm[start : start + step].square()
            yield ratio(size, size * (of_direction / length)), ratio(own, spent)

    def by_products(draw: int) -> Iterator[tuple[Tensor, Tensor]]:
        G = torch.cat(list(work.over(gaussian(draw))))
        shaped = G[:, :n_features] * deviation[:n_features]  # other deviations are 0
        units = G.div_(torch.linalg.vector_norm(G, dim=-1, keepdim=True))
        blocks = work.over(block for block in torch.split(units, step))
        for unit, rows, size in zip(blocks, torch.split(shaped, step), torch.split(norm.square(), step), strict=True):
            of_direction = (unit @ units.mT).mul_(norm).square_().sum(-1)
            own, spent = rows.square().sum(-1), (rows @ shaped.mT).square_().sum(-1)
            yield ratio(size, size * of_direction), ratio(own, spent)

    for draw in range(draws) if n_features else ():
        for capacities in by_products(draw) if n_features < d_hidden else by_operators(draw):
            for null, capacity in enumerate(capacities):
                totals[null, draw] += capacity.sum(dtype=torch.float64).cpu()
                histograms[null] += count_per_bin(capacity, edges)
    return (
        Null("isotropic", isotropic_total(row_norm, d_hidden), totals[0], confidence, histograms[0] / draws),
        Null("covariance", covariance_total(singular_values, n_features), totals[1], confidence, histograms[1] / draws),
    )


def count_per_bin(capacity: Tensor, edges: Tensor) -> Tensor:
    """Number of features per bin `[edges_k, edges_k+1)`; values outside join the outermost bins."""
    bins = len(edges) - 1
    index = torch.bucketize(capacity.to(edges), edges[1:-1], right=True)
    return torch.bincount(index, minlength=bins).to(torch.float64)
