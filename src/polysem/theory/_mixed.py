"""Cells in which some features have increasing returns (1 < F < 3): the global optimum by enumeration.

The loss of such a falling feature is concave in its capacity, so of any two fractional ones it pays to move
capacity from one to the other: at most one falling feature, k, is fractional. Moving a whole dimension from a
pure falling feature to an ignored one changes the loss by the difference of their gains (F − 1) v²: the pure
ones are the m largest gains besides k. What is left to choose:

- no k: `loss(m)` is convex in m, as the rising features' loss is convex in their budget;
- k: at equal marginal benefit, C_k too is linear in t, and the total `m + C_k(t) + Σ rising` is linear between
  breakpoints, so every stationary point is the root of a linear equation. With m* the best number of pure ones
  without k, the same convexity leaves m* − 1 and m*, and few segments: the rising features then hold between
  total − m* − 1 and total − m* + 1.

Source: ours.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from polysem.theory._quadratic import weighted_loss
from polysem.theory._rising import Rising, chunks


@dataclass(frozen=True)
class Falling:
    """The falling features of each cell, ranked by gain.

    Attributes:
        rank: place `[cells, n_features]` by gain, largest first; rising features come after all falling ones.
        missed: loss `[cells, n_features + 1]` of the falling features when the first m of them are pure.
        count: number of falling features `[cells]`.
    """

    rank: Int64[Tensor, "cells n_features"]
    missed: Float[Tensor, "cells n_prefixes"]
    count: Int64[Tensor, " cells"]

    @classmethod
    def of(cls, v: Float[Tensor, "cells n_features"], kurtosis: Float[Tensor, "cells n_features"]) -> "Falling":
        """Rank the features with v > 0 and 1 < F < 3."""
        falling = (v > 0) & (kurtosis > 1) & (kurtosis < 3)
        root_gain = torch.where(falling, v * (kurtosis - 1).sqrt(), -1.0)  # its square may underflow to a tie
        ordered, order = root_gain.sort(dim=-1, descending=True, stable=True)
        gain = torch.nn.functional.pad(ordered.clamp(min=0).square(), (0, 1))
        return cls(order.argsort(-1), gain.flip(-1).cumsum(-1).flip(-1), falling.sum(-1))


@dataclass
class Best:
    """The best candidate found so far in every cell."""

    capacity: Float[Tensor, "cells n_features"]
    t: Float[Tensor, " cells"]
    loss: Float[Tensor, " cells"]

    def consider(
        self,
        cell: Int64[Tensor, " rows"],
        capacity: Float[Tensor, "rows n_features"],
        t: Float[Tensor, " rows"],
        loss: Float[Tensor, " rows"],
    ) -> None:
        """Take over every row that is better than its cell's best; the first of equals."""
        lowest = self.loss.scatter_reduce(0, cell, loss, "amin")
        winners = ((loss < self.loss[cell]) & (loss == lowest[cell])).nonzero().squeeze(-1)
        first = torch.full_like(self.loss, len(cell), dtype=torch.int64)
        first = first.scatter_reduce(0, cell[winners], winners, "amin")
        row = first[first < len(cell)]
        self.capacity[cell[row]] = capacity[row]
        self.t[cell[row]] = t[row]
        self.loss[cell[row]] = loss[row]


@dataclass(frozen=True)
class Mixed:
    """Cells with falling features: valid arguments, v at most 1, each with a leading axis of cells."""

    v: Float[Tensor, "cells n_features"]
    kurtosis: Float[Tensor, "cells n_features"]
    total: Float[Tensor, " cells"]
    rising: Rising
    falling: Falling

    @classmethod
    def of(
        cls,
        v: Float[Tensor, "cells n_features"],
        kurtosis: Float[Tensor, "cells n_features"],
        total: Float[Tensor, " cells"],
    ) -> "Mixed":
        """Sort out rising and falling features."""
        return cls(v, kurtosis, total, Rising.of(v, kurtosis), Falling.of(v, kurtosis))

    def solve(self) -> tuple[Float[Tensor, "cells n_features"], Float[Tensor, " cells"]]:
        """Optimal capacities and the price of the next bit of total capacity."""
        pure = self.most_pure()
        best = self.without_fraction(pure)
        self.offer_fractions(pure, best)
        # The next bit may go to an ignored falling feature. It competes where no feature is fractional and
        # cannot outbid the common price elsewhere.
        idle = (self.falling.rank < self.falling.count.unsqueeze(-1)) & (best.capacity == 0)
        bid = torch.where(idle, self.v * (self.kurtosis - 1), 0.0).amax(-1)
        return best.capacity, torch.maximum(2 / best.t.square(), bid.square() / 2)

    def most_pure(self) -> Int64[Tensor, " cells"]:
        """The number of pure falling features that is best when none is fractional."""
        low = torch.zeros_like(self.falling.count)
        high = self.falling.count.minimum(self.total.floor().to(torch.int64))
        for _ in range(self.v.shape[-1].bit_length()):
            middle = (low + high) // 2
            enough = (low == high) | (self._loss_with(middle + 1) > self._loss_with(middle))
            high = torch.where(enough, middle, high)
            low = torch.where(enough, low, middle + 1)
        return high

    def _loss_with(self, m: Int64[Tensor, " cells"]) -> Float[Tensor, " cells"]:
        capacity, _ = self.rising.fill((self.total - m).clamp(min=0))
        loss = torch.where(self.kurtosis >= 3, weighted_loss(self.v, self.kurtosis, capacity), 0.0).sum(-1)
        last = self.falling.missed.shape[-1] - 1
        return loss + self.falling.missed.gather(-1, m.clamp(max=last).unsqueeze(-1)).squeeze(-1)

    def without_fraction(self, pure: Int64[Tensor, " cells"]) -> Best:
        """The best allocation with the given numbers of pure falling features and no fractional one."""
        capacity, t = self.rising.fill(self.total - pure)
        capacity = torch.where(self.falling.rank < pure.unsqueeze(-1), 1.0, capacity)
        return Best(capacity, t, weighted_loss(self.v, self.kurtosis, capacity).sum(-1))

    def offer_fractions(self, pure: Int64[Tensor, " cells"], best: Best) -> None:
        """Offer `best` every stationary point at which one falling feature is fractional."""
        left, right = self._segments(pure)
        left_total, right_total = self._rising_totals(left, after=True), self._rising_totals(right, after=False)
        growth = torch.where(right > left, (right_total - left_total) / (right - left), torch.inf)
        fewer = torch.arange(2, device=pure.device)

        cells, features = (self.falling.rank < self.falling.count.unsqueeze(-1)).nonzero(as_tuple=True)
        for pairs in chunks(len(cells), 2 * left.shape[-1]):
            cell, k = cells[pairs], features[pairs]
            # Axes: falling feature k, number m of pure ones, segment. C_k(t) = (stop − t) · rate.
            slope = self.v[cell, k] * (self.kurtosis[cell, k] - 1)
            stop = (2 / slope)[:, None, None]
            rate = (slope / (3 - self.kurtosis[cell, k]))[:, None, None]
            m = pure[cell].unsqueeze(-1) - fewer
            possible = (m >= 0) & (m < self.falling.count[cell].unsqueeze(-1))
            missing = (self.total[cell].unsqueeze(-1) - m).unsqueeze(-1) - left_total[cell].unsqueeze(1)
            start, rise = left[cell].unsqueeze(1), growth[cell].unsqueeze(1)
            length = right[cell].unsqueeze(1) - start
            step = ((stop - start) * rate - missing) / (rate - rise)
            fraction = missing - rise * step
            slack = 1e-9 * stop  # a root at a breakpoint must not fall between two segments
            found = (
                possible.unsqueeze(-1)
                & (rise < rate)  # where the rising features gain faster, a root is a maximum
                & (step >= -slack)
                & (step <= length + slack)
                & (fraction > 0)
                & (fraction < 1)
            )
            pair, which, segment = found.nonzero(as_tuple=True)
            for rows in chunks(len(pair), self.v.shape[-1]):
                one, j, number = pair[rows], segment[rows], which[rows]
                ends = left[cell[one], j], right[cell[one], j]
                self._offer(best, cell[one], k[one], m[one, number], *ends, step[one, number, j])

    def _segments(
        self, pure: Int64[Tensor, " cells"]
    ) -> tuple[Float[Tensor, "cells n_segments"], Float[Tensor, "cells n_segments"]]:
        """Left and right ends of the segments of t in which the rising features' share can lie."""
        least, most = self.total - pure - 1, self.total - pure + 1
        count = self.rising.count
        end = 2 * count
        first = torch.where(least >= count, end, self.rising.first_above(least))
        first = torch.where(least < 0, 0, first)
        last = torch.where(most >= count, end, self.rising.first_above(most))
        edges = torch.nn.functional.pad(self.rising.points, (1, 0))
        edges = torch.nn.functional.pad(edges, (0, 1), value=torch.inf)
        n_edges = int((last - first).max()) + 2
        index = first.unsqueeze(-1) + torch.arange(n_edges, device=first.device)
        edges = edges.gather(-1, index.clamp(max=edges.shape[-1] - 1))
        return edges[:, :-1], edges[:, 1:]

    def _rising_totals(self, t: Float[Tensor, "cells n_segments"], *, after: bool) -> Float[Tensor, "cells n_segments"]:
        cells = torch.arange(t.shape[0], device=t.device).repeat_interleave(t.shape[1])
        flat = t.flatten()
        parts = [
            self.rising.select(cells[part]).at(flat[part], after=after).sum(-1)
            for part in chunks(len(flat), self.v.shape[-1])
        ]
        return torch.cat(parts).view_as(t)

    def _offer(
        self,
        best: Best,
        cell: Int64[Tensor, " rows"],
        k: Int64[Tensor, " rows"],
        m: Int64[Tensor, " rows"],
        left: Float[Tensor, " rows"],
        right: Float[Tensor, " rows"],
        step: Float[Tensor, " rows"],
    ) -> None:
        """Build the allocation of each root and offer it, if rounding has left it a fraction in (0, 1)."""
        rising = self.rising.select(cell)
        step = step.clamp(min=0).minimum(right - left)
        share = (step / (right - left)).unsqueeze(-1)
        capacity = torch.lerp(rising.at(left, after=True), rising.at(right, after=False), share)
        rank = self.falling.rank[cell]
        row = torch.arange(len(cell), device=cell.device)
        place = rank - (rank > rank[row, k].unsqueeze(-1)).to(rank.dtype)
        capacity = torch.where(place < m.unsqueeze(-1), 1.0, capacity)
        capacity[row, k] = 0.0
        fraction = self.total[cell] - capacity.sum(-1)
        capacity[row, k] = fraction.clamp(0, 1)
        loss = weighted_loss(self.v[cell], self.kurtosis[cell], capacity).sum(-1)
        sound = (fraction >= 0) & (fraction <= 1)
        best.consider(cell, capacity, left + step, torch.where(sound, loss, torch.inf))
