"""Features with constant or diminishing returns (F ≥ 3): how they share a budget, by sorting breakpoints.

With t = √(2/μ), the inverse of the scale that all impure features share, equal marginal benefit μ reads

    C_i = clip((v_i (F_i − 1) t − 2) / (F_i − 3), 0, 1)

which rises linearly from 0 at t = 2 / (v_i (F_i − 1)) to 1 at t = 1 / v_i, and jumps there for F_i = 3. The
total is piecewise linear in t, so a binary search over the sorted breakpoints inverts it exactly.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

CHUNK = 2**17
"""Elements of an intermediate tensor: 1 MiB, which stays in the processor's cache."""


def chunks(length: int, elements: int) -> Iterator[slice]:
    """Consecutive slices of `length` items of so many elements each."""
    size = max(1, CHUNK // elements)
    return (slice(start, start + size) for start in range(0, length, size))


@dataclass(frozen=True)
class Rising:
    """The rising features of each cell as functions of t; all others hold no capacity.

    Attributes:
        start: t where capacity begins to rise `[cells, n_features]`; infinity for all others.
        end: t where it reaches 1; infinity for all others.
        width: distance between them; 0 for a jump.
        points: all starts and ends `[cells, 2 n_features]`, sorted.
        count: number of rising features `[cells]`.
    """

    start: Float[Tensor, "cells n_features"]
    end: Float[Tensor, "cells n_features"]
    width: Float[Tensor, "cells n_features"]
    points: Float[Tensor, "cells n_points"]
    count: Int64[Tensor, " cells"]

    @classmethod
    def of(cls, v: Float[Tensor, "cells n_features"], kurtosis: Float[Tensor, "cells n_features"]) -> "Rising":
        """Breakpoints of the features with v > 0 and F ≥ 3."""
        rising = (v > 0) & (kurtosis >= 3)
        end = torch.where(rising, 1 / v, torch.inf)
        start = torch.where(rising, end * (2 / (kurtosis - 1)), torch.inf)
        # (F − 3) is exact near 3, where `end − start` would keep no digit.
        width = torch.where(start < end, end * ((kurtosis - 3) / (kurtosis - 1)), 0.0)
        return cls(start, end, width, torch.cat([start, end], -1).sort(-1).values, rising.sum(-1))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Rising":
        return Rising(*map(change, (self.start, self.end, self.width, self.points, self.count)))

    def select(self, rows: Int64[Tensor, " rows"] | slice) -> "Rising":
        """Some of the cells."""
        return self._each(lambda field: field[rows])

    def expand(self, cells: int) -> "Rising":
        """One row of features for many cells, without a copy."""
        return self._each(lambda field: field.expand(cells, *field.shape[1:]))

    def at(self, t: Float[Tensor, " cells"], *, after: bool) -> Float[Tensor, "cells n_features"]:
        """Capacities at t; `after` says on which side of a jump at t itself."""
        t = t.unsqueeze(-1)
        from_start, to_end = t - self.start, self.end - t
        # Measured from the nearer end, a narrow rise is exact at both of its own breakpoints.
        near_end = to_end < from_start
        part = torch.where(near_end, to_end, from_start) / self.width
        return torch.where(near_end, 1 - part, part).nan_to_num(nan=float(after)).clamp(0, 1)

    def point(self, index: Int64[Tensor, " cells"]) -> Float[Tensor, " cells"]:
        """One breakpoint of each cell."""
        return self.points.gather(-1, index.unsqueeze(-1)).squeeze(-1)

    def first_above(self, total: Float[Tensor, " cells"]) -> Int64[Tensor, " cells"]:
        """Index of the first breakpoint after which the total capacity exceeds `total`; needs `total < count`."""
        low = torch.zeros_like(total, dtype=torch.int64)
        high = (2 * self.count - 1).clamp(min=0)
        for _ in range(self.points.shape[-1].bit_length()):
            middle = (low + high) // 2
            above = self.at(self.point(middle), after=True).sum(-1) > total
            high = torch.where(above, middle, high)
            low = torch.where(above, low, middle + 1).minimum(high)
        return high

    def fill(self, total: Float[Tensor, " cells"]) -> tuple[Float[Tensor, "cells n_features"], Float[Tensor, " cells"]]:
        """Capacities that spend `total` optimally, and the t of the next bit: infinity where all are pure."""
        index = self.first_above(total)
        here = self.point(index)
        before = self.point((index - 1).clamp(min=0))
        left = self.at(here, after=False)
        jumps: Bool[Tensor, " cells"] = left.sum(-1) <= total
        low = torch.where(jumps.unsqueeze(-1), left, self.at(before, after=True))
        high = torch.where(jumps.unsqueeze(-1), self.at(here, after=True), left)
        low_total = low.sum(-1)
        share = (total - low_total) / (high.sum(-1) - low_total)
        t = torch.where(jumps, here, before + share * (here - before))
        full = total >= self.count
        capacity = torch.lerp(low, high, share.unsqueeze(-1)).clamp(0, 1)
        everything = self.start.isfinite().to(capacity.dtype)
        return torch.where(full.unsqueeze(-1), everything, capacity), torch.where(full, torch.inf, t)
