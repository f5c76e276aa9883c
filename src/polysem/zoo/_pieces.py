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
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

Powers = tuple[int | None, ...]
"""An exponent for each free variable; None for those held at the ends of their range, on all the parallel faces."""


class _Term(NamedTuple):
    """A summand `weight · factor · moment`, the moment at one end of the range of a variable that it holds, or whole.

    Attributes:
        variable: which one the weight belongs to.
        weight: 0 for its distance from the low end, 1 from the high end, 2 for its coordinate.
        source: the moment.
        at: the moment's axis that is held, and the end, 0 or 1; None for the whole moment.
        factor: a number.
    """

    variable: int
    weight: int
    source: Powers
    at: tuple[int, int] | None
    factor: float


def side(slopes: Sequence[Tensor], b: Tensor, low: float) -> Tensor:
    """`E[u_i u_k 1(z >= 0)]` for `z = Σ_i slopes_i x_i + b`, by the `pairs` of `u = (x_1, ..., x_d, 1)`."""
    d = len(slopes)
    wanted = tuple(_powers(d, pair) for pair in pairs(d))
    moments = _moments(_Cut(slopes, b, low), _plan(wanted, low))
    return torch.stack([moments[powers] for powers in wanted])


def edge(slopes: Sequence[Tensor], b: Tensor, low: float) -> Tensor:
    """`E[x_1 u_i u_k δ(z)]` for the same z and pairs; an edge along the border counts nothing.

    What flows into the part through its edge, in the directions `s` of the signs of the slopes, leaves through facets.
    With `Δ_k` for "at 1 less at low",

        Σ_k |slopes_k| E[f δ(z)] = Σ_k s_k (Δ_k E_k[f 1(z >= 0)] / (1 - low) - E[∂_k f 1(z >= 0)])
    """
    d, cut = len(slopes), _Cut(slopes, b, low)
    flows = _flows(d, low)
    moments = _moments(cut, _plan(tuple(term.source for terms in flows for term in terms), low))
    least, span = cut.range((True,) * d)
    crossed = (least < 0) & (least + span > 0)
    scale = torch.where(crossed, 1 / torch.where(crossed, span, 1.0), 0.0)
    return scale * torch.stack([_sum(terms, [(sign,) for sign in cut.signs], moments) for terms in flows])


def pairs(d: int) -> list[tuple[int, int]]:
    """Places `(i, k)`, `i <= k`, of the moments of d variables."""
    return [(i, k) for i in range(d + 1) for k in range(i, d + 1)]


class _Cut:
    """Where z is not negative on a cube and its faces, which are named by their free variables.

    Tensors of faces have an axis of length 2 for each variable that is held, before those of the coefficients.
    """

    def __init__(self, slopes: Sequence[Tensor], b: Tensor, low: float) -> None:
        self._slopes, self._low, self._width = slopes, low, 1 - low
        sizes = [slope.abs() for slope in slopes]
        self._spans = [self._width * size if low else size for size in sizes]
        self._least = [-size if low else slope.clamp(max=0) for slope, size in zip(slopes, sizes, strict=True)]
        self._falls = [(slope < 0).to(slope) for slope in slopes]
        self.signs = [1.0 - 2.0 * falls for falls in self._falls]
        self._offsets = {(True,) * len(slopes): b.expand_as(slopes[0])}

    def offset(self, free: tuple[bool, ...]) -> Tensor:
        """Value of z where the free variables are 0."""
        if free not in self._offsets:
            k = free.index(False)
            offset = self.offset((*free[:k], True, *free[k + 1 :]))
            ends = (offset + self._low * self._slopes[k] if self._low else offset, offset + self._slopes[k])
            self._offsets[free] = torch.stack(ends)
        return self._offsets[free]

    def range(self, free: tuple[bool, ...]) -> tuple[Tensor, Tensor]:
        """The least value of z, and how far it ranges from there."""
        least, (span, *others) = self.offset(free), itertools.compress(self._spans, free)
        for lower in itertools.compress(self._least, free):
            least = least + lower
        for other in others:
            span = span + other
        return least, span

    def point(self, free: tuple[bool, ...]) -> list[tuple[Tensor, ...]]:
        """A point on the cut, or in the corner nearest to it: on the diagonal from the lowest to the highest corner.

        For each variable, if free, the distances from its ends, relative to that of the ends, and the coordinate.
        """
        least, span = self.range(free)
        along = (least / span).nan_to_num_(nan=0.0).neg_().clamp_(0, 1)
        point: list[tuple[Tensor, ...]] = []
        for falls, sign, is_free in zip(self._falls, self.signs, free, strict=True):
            u = torch.addcmul(falls, sign, along) if is_free else along
            point.append((u, 1.0 - u, self._low + self._width * u if self._low else u) if is_free else ())
        return point


def _moments(cut: _Cut, plan: dict[Powers, tuple[_Term, ...]]) -> dict[Powers, Tensor]:
    """Means of `x^powers 1(z >= 0)` over the free variables, for all powers of a plan."""
    moments: dict[Powers, Tensor] = {}
    points: dict[tuple[bool, ...], list[tuple[Tensor, ...]]] = {}
    for powers, terms in plan.items():
        free = tuple(power is not None for power in powers)
        if not any(free):
            offset = cut.offset(free)
            moments[powers] = (offset >= 0).to(offset)
            continue
        if free not in points:
            points[free] = cut.point(free)
        order = float(sum(power + 1 for power in powers if power is not None))
        moments[powers] = _sum(terms, points[free], moments)
        if order > 1:
            moments[powers].div_(order)
    return moments


def _sum(terms: Sequence[_Term], weights: Sequence[tuple[Tensor, ...]], moments: dict[Powers, Tensor]) -> Tensor:
    total: Tensor | None = None
    for variable, which, source, at, factor in terms:
        moment = moments[source] if at is None else moments[source].select(*at)
        weight = weights[variable][which]
        total = weight * moment if total is None else total.addcmul_(weight, moment, value=factor)
    assert total is not None
    return total


@cache
def _plan(wanted: tuple[Powers, ...], low: float) -> dict[Powers, tuple[_Term, ...]]:
    """The moments that are needed, each after those that it is a sum of."""
    plan: dict[Powers, tuple[_Term, ...]] = {}

    def add(powers: Powers) -> None:
        if powers in plan:
            return
        terms = []
        for k, power in enumerate(powers):
            if power is not None:
                terms += [_Term(k, end, source, at, factor) for end, source, at, factor in _facets(powers, k, low)]
                if power:
                    terms.append(_Term(k, 2, _replaced(powers, k, power - 1), None, power))
        for term in terms:
            add(term.source)
        plan[powers] = tuple(terms)

    for powers in wanted:
        add(powers)
    return plan


@cache
def _flows(d: int, low: float) -> list[list[_Term]]:
    """What flows out through facets for each of the pairs, with the signs of slopes as weights."""
    flows = []
    for pair in pairs(d):
        powers, terms = _powers(d, (0, *pair)), []
        for k, power in enumerate(powers):
            for end, source, at, factor in _facets(powers, k, low):
                terms.append(_Term(k, 0, source, at, factor if end else -factor))
            if power:
                terms.append(_Term(k, 0, _replaced(powers, k, power - 1), None, (low - 1) * power))
        flows.append(terms)
    return flows


def _facets(powers: Powers, k: int, low: float) -> list[tuple[int, Powers, tuple[int, int], float]]:
    """Facets with variable k at its high and its low end, unless it is 0 there: end, moment, place in it, factor."""
    held, axis, power = _replaced(powers, k, None), powers[:k].count(None), powers[k] or 0
    return [(end, held, (axis, end), value**power) for end, value in ((1, 1.0), (0, low)) if value**power]


def _powers(d: int, factors: tuple[int, ...]) -> tuple[int, ...]:
    """Exponents of the product of some of `u`."""
    return tuple(factors.count(k) for k in range(d))


def _replaced(powers: Powers, k: int, power: int | None) -> Powers:
    return (*powers[:k], power, *powers[k + 1 :])
