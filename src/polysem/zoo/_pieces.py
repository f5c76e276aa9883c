"""Means over the part of an interval, a square or a cube where a linear function is not negative, and over its edge.

All inputs are uniform on `[low, 1]`; functions work elementwise on tensors of coefficients. By the divergence theorem a
moment over a polytope P of dimension d is a sum over its facets F at distances `h_F` from any point p of it:

    (d + Σ_k α_k) ∫_P x^α = Σ_F h_F ∫_F x^α + Σ_k α_k p_k ∫_P x^α / x_k

With p on the cut, the cut itself has distance 0 and only facets of the cube remain. They are cut cubes of one dimension
less, and so on down to corners, which belong to the part or do not. No distance is negative and no slope divides alone:
nothing cancels, however flat or steep the function is. (Moments over the edge are differences between facets, good to
rounding relative to `1 / Σ_k |slopes_k|`.) A face that several others share is computed once.

Source: Lasserre 1983 (An analytical expression and an algorithm for the volume of a convex polyhedron); the choice of p
is ours.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

Powers = tuple[int | None, ...]
"""An exponent for each free variable; None for those held at the ends of their range, on all the parallel faces."""


def side(slopes: Sequence[Tensor], b: Tensor, low: float) -> Tensor:
    """`E[u_i u_k 1(z >= 0)]` for `z = Σ_i slopes_i x_i + b`, by the `pairs` of `u = (x_1, ..., x_d, 1)`."""
    part = _Part(slopes, b, low)
    return torch.stack([part.moment(_powers(len(slopes), pair)) for pair in pairs(len(slopes))])


def edge(slopes: Sequence[Tensor], b: Tensor, low: float) -> Tensor:
    """`E[x_1 u_i u_k δ(z)]` for the same z and pairs; an edge along the border counts nothing."""
    part = _Part(slopes, b, low)
    return torch.stack([part.on_edge(_powers(len(slopes), (0, *pair))) for pair in pairs(len(slopes))])


def pairs(d: int) -> list[tuple[int, int]]:
    """Places `(i, k)`, `i <= k`, of the moments of d variables."""
    return [(i, k) for i in range(d + 1) for k in range(i, d + 1)]


def _powers(d: int, factors: tuple[int, ...]) -> tuple[int, ...]:
    """Exponents of the product of some of `u`."""
    return tuple(factors.count(k) for k in range(d))


def _replaced(powers: Powers, k: int, power: int | None) -> Powers:
    return (*powers[:k], power, *powers[k + 1 :])


class _Part:
    """The part of a cube, and of each of its faces, where `z >= 0`.

    Tensors of faces have an axis of length 2 for each variable that is held, before those of the coefficients.
    """

    def __init__(self, slopes: Sequence[Tensor], b: Tensor, low: float) -> None:
        self._slopes, self._low, self._width = slopes, low, 1 - low
        sizes = [slope.abs() for slope in slopes]
        self._spans = [self._width * size if low else size for size in sizes]
        self._least = [-size if low else slope.clamp(max=0) for slope, size in zip(slopes, sizes, strict=True)]
        self._falls = [(slope < 0).to(slope) for slope in slopes]
        self._signs = [1.0 - 2.0 * falls for falls in self._falls]
        self._offsets = {(True,) * len(slopes): b.expand_as(slopes[0])}
        self._points: dict[tuple[bool, ...], list[tuple[int, tuple[Tensor, Tensor, Tensor]]]] = {}
        self._moments: dict[Powers, Tensor] = {}
        self._facets: dict[tuple[Powers, int], tuple[Tensor, ...]] = {}

    def moment(self, powers: Powers) -> Tensor:
        """Means of `x^powers 1(z >= 0)` over the free variables."""
        if powers not in self._moments:
            free = tuple(power is not None for power in powers)
            offset = self._offset(free)
            self._moments[powers] = self._from_facets(powers, free) if any(free) else (offset >= 0).to(offset)
        return self._moments[powers]

    def on_edge(self, powers: tuple[int, ...]) -> Tensor:
        """`E[x^powers δ(z)]`.

        What flows into the part through its edge, in the directions `s` of the signs of the slopes, leaves through
        facets. With `Δ_k` for "at 1 less at low",

            Σ_k |slopes_k| E[f δ(z)] = Σ_k s_k (Δ_k E_k[f 1(z >= 0)] / (1 - low) - E[∂_k f 1(z >= 0)])
        """
        least, span = self._range((True,) * len(powers))
        flow = torch.zeros_like(span)
        for k, (sign, power) in enumerate(zip(self._signs, powers, strict=True)):
            at_low, at_high = self._at_ends(powers, k)
            flow.addcmul_(sign, at_high)
            if self._low**power:
                flow.addcmul_(sign, at_low, value=-(self._low**power))
            if power:
                inside = self.moment(_replaced(powers, k, power - 1))
                flow.addcmul_(sign, inside, value=-self._width * power)
        cut = (least < 0) & (least + span > 0)
        return torch.where(cut, flow / torch.where(cut, span, 1.0), 0.0)

    def _from_facets(self, powers: Powers, free: tuple[bool, ...]) -> Tensor:
        terms, order = [], 0.0
        for k, (from_low, from_high, coordinate) in self._point(free):
            power = powers[k] or 0
            order += power + 1
            at_low, at_high = self._at_ends(powers, k)
            terms.append((from_high, at_high, 1.0))
            if self._low**power:
                terms.append((from_low, at_low, self._low**power))
            if power:
                terms.append((coordinate, self.moment(_replaced(powers, k, power - 1)), power))
        total = terms[0][0] * terms[0][1]
        for distance, moment, factor in terms[1:]:
            total.addcmul_(distance, moment, value=factor)
        return total.div_(order) if order > 1 else total

    def _at_ends(self, powers: Powers, k: int) -> tuple[Tensor, ...]:
        """Moments where variable k is held at the lower and at the upper end of its range."""
        if (powers, k) not in self._facets:
            held = sum(power is None for power in powers[:k])
            self._facets[powers, k] = self.moment(_replaced(powers, k, None)).unbind(held)
        return self._facets[powers, k]

    def _point(self, free: tuple[bool, ...]) -> list[tuple[int, tuple[Tensor, Tensor, Tensor]]]:
        """A point on the cut, or in the corner nearest to it: on the diagonal from the lowest to the highest corner.

        For each free variable the distances from its ends, relative to that of the ends, and the coordinate.
        """
        if free not in self._points:
            least, span = self._range(free)
            along = (least / span).nan_to_num_(nan=0.0).neg_().clamp_(0, 1)
            point = []
            for k in (k for k, is_free in enumerate(free) if is_free):
                u = torch.addcmul(self._falls[k], self._signs[k], along)
                point.append((k, (u, 1.0 - u, self._low + self._width * u if self._low else u)))
            self._points[free] = point
        return self._points[free]

    def _range(self, free: tuple[bool, ...]) -> tuple[Tensor, Tensor]:
        """The least value of z, and how far it ranges from there."""
        least, (span, *others) = self._offset(free), itertools.compress(self._spans, free)
        for lower in itertools.compress(self._least, free):
            least = least + lower
        for other in others:
            span = span + other
        return least, span

    def _offset(self, free: tuple[bool, ...]) -> Tensor:
        """Value of z where the free variables are 0."""
        if free not in self._offsets:
            k = free.index(False)
            offset = self._offset((*free[:k], True, *free[k + 1 :]))
            ends = (offset + self._low * self._slopes[k] if self._low else offset, offset + self._slopes[k])
            self._offsets[free] = torch.stack(ends)
        return self._offsets[free]
