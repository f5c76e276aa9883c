"""What curves of marginal returns are, and what kind of returns they show."""

from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polysem import _checks

NO_BENEFIT = 1e-12
"""Share of the loss at the least capacity below which what capacity saves is rounding."""


class Returns(IntEnum):
    """How the benefit of more capacity changes with capacity."""

    INCREASING = 0
    CONSTANT = 1
    DIMINISHING = 2


class CurveStatus(IntEnum):
    """How the minimisation of a point of a curve ended."""

    CONVERGED = 0
    """At a minimum over slope and offset: the global one for linear, ReLU and absolute-value readouts."""
    NOT_CONVERGED = 1
    """No step lowers the loss enough any more, or out of steps: the loss is an upper bound."""


@dataclass(frozen=True)
class Curves:
    r"""Loss of every feature against its capacity.

    A batch axis `n_inst` comes first where a stack of models was given.

    Attributes:
        C_grid: capacities `[n_points]`, increasing.
        losses: `L_i(C)` at the best slope and offset `[*batch, n_features, n_points]`, in the unit of the model's loss.
        marginal_benefit: `-dL_i/dC` of the same shape. At C = 0 and C = 1 it is the limit from within for curves in
            closed form; for sampled ones it is the slope of the chord to the neighbouring point, since they may jump.
        curvature: how far the curve from `C_min` on bends below its chord `[*batch, n_features]`, as the area between
            them over the area of the triangle under the chord: 0 straight, 1 all benefit at once at `C_min`, -1 all of
            it at C = 1; 0 where capacity saves nothing.
        kind: a `Returns` for each feature: by `curvature`, constant within the tolerance.
        slope: best `a` at each point; `a x_i` is what is left of the feature.
        offset: best `b` at each point.
        status: a `CurveStatus` for each point.
        copied: whether the feature's interference is a copy of itself, `[*batch, n_features]`: because `pattern` says
            so, or because its own vanishes.
    """

    C_grid: Float[Tensor, " n_points"]
    losses: Float[Tensor, "*batch n_features n_points"]
    marginal_benefit: Float[Tensor, "*batch n_features n_points"]
    curvature: Float[Tensor, "*batch n_features"]
    kind: Int[Tensor, "*batch n_features"]
    slope: Float[Tensor, "*batch n_features n_points"]
    offset: Float[Tensor, "*batch n_features n_points"]
    status: Int[Tensor, "*batch n_features n_points"]
    copied: Bool[Tensor, "*batch n_features"]

    def benefit_at(self, capacity: Float[Tensor, "*batch n_features"]) -> Float[Tensor, "*batch n_features"]:
        """Benefit `b` of each feature at a capacity of its own, from `C_grid`.

        Between two points of positive benefit `1/√b` is interpolated, elsewhere `b`: for the quadratic model `1/√b` is
        linear in capacity. Beyond the ends of the grid the value there holds. Capacities may have further axes before
        `n_features`.
        """
        low, high, share = self._around(self.marginal_benefit, capacity)
        positive = (low > 0) & (high > 0)
        start, end = (torch.where(positive, value, 1.0).rsqrt() for value in (low, high))
        root = torch.lerp(start, end, share)
        return torch.where(positive, root.square().reciprocal(), torch.lerp(low, high, share))

    def loss_at(self, capacity: Float[Tensor, "*batch n_features"]) -> Float[Tensor, "*batch n_features"]:
        """Loss of each feature at a capacity of its own, along the chord between the two points of `C_grid` around it.

        Capacities may have further axes before `n_features`.
        """
        return torch.lerp(*self._around(self.losses, capacity))

    def _around(self, values: Tensor, capacity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values at the points below and above each capacity, and its place between them, from 0 to 1."""
        C, values = self.C_grid.to(capacity), values.to(capacity)
        right = torch.searchsorted(C, capacity.contiguous()).clamp(1, len(C) - 1)
        more = capacity.ndim + 1 - values.ndim
        values = values.reshape(*values.shape[:-2], *[1] * more, *values.shape[-2:]).expand(*capacity.shape, len(C))
        low, high = (values.gather(-1, at[..., None])[..., 0] for at in (right - 1, right))
        return low, high, ((capacity - C[right - 1]) / (C[right] - C[right - 1])).clamp(0, 1)

    def require_ends(self) -> None:
        """Raise a ValueError unless the curves reach from C = 0 to C = 1."""
        ends = (float(self.C_grid[0]), float(self.C_grid[-1]))
        _checks.require(ends == (0.0, 1.0), "ends of curves", ends, "0 and 1")


def bend(C: Float[Tensor, " n_points"], losses: Float[Tensor, "*batch n_points"]) -> Float[Tensor, "*batch"]:
    """Area between a curve and its chord over that of the triangle under the chord, positive below the chord."""
    first, last = losses[..., :1], losses[..., -1:]
    saved = (first - last)[..., 0]
    share = (C - C[0]) / (C[-1] - C[0])
    area = torch.trapezoid(first + (last - first) * share - losses, share, dim=-1)
    counts = saved.abs() > NO_BENEFIT * first[..., 0].abs()
    return torch.where(counts, 2 * area / torch.where(counts, saved, 1.0), 0.0)


def kind_of(curvature: Float[Tensor, "*batch"], tolerance: float) -> Int[Tensor, "*batch"]:
    """Code of `Returns`."""
    kind = torch.full_like(curvature, Returns.CONSTANT, dtype=torch.int64)
    kind[curvature > tolerance] = Returns.DIMINISHING
    kind[curvature < -tolerance] = Returns.INCREASING
    return kind
