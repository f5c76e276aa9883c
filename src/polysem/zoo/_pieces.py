"""Means over the part of an interval or a square where a linear function is not negative, and over its edge.

All inputs are uniform on `[low, 1]`; functions work elementwise on tensors of coefficients. In two dimensions the inner
range ends at the clipped kink, and the outer range is split where the kink crosses the ends of the inner one. On each
of the three pieces the integrands are cubic polynomials, for which two Gauss-Legendre nodes are exact. The inner
variable is the one with the larger coefficient, so that no kink is steep.
"""

import torch
from torch import Tensor

NODES = (0.5 - 12**-0.5, 0.5 + 12**-0.5)


def interval(a: Tensor, b: Tensor, low: float) -> tuple[Tensor, Tensor, Tensor]:
    """`E[f 1(a x + b >= 0)]` for `f = 1, x, x²`."""
    return _powers(a, _kink(a, b), low)


def interval_edge(a: Tensor, b: Tensor, low: float) -> tuple[Tensor, Tensor]:
    """Where `a x + b = 0`, and the mass `E δ(a x + b)` there: 0 unless it is strictly inside."""
    return _on_edge(a, _kink(a, b), low)


def square(a: Tensor, c: Tensor, b: Tensor, low: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`E[f 1(a x + c y + b >= 0)]` for `f = 1, x, y, x², x y, y²`."""
    swap, inner, outer_nodes, weights, kink = _nodes(a, c, b, low)
    zeroth, first, second = (weights * power for power in _powers(inner[..., None], kink, low))
    along = zeroth * outer_nodes
    o, oo = along.sum(-1), (along * outer_nodes).sum(-1)
    i, ii, oi = first.sum(-1), second.sum(-1), (first * outer_nodes).sum(-1)
    x, y = torch.where(swap, i, o), torch.where(swap, o, i)
    return zeroth.sum(-1), x, y, torch.where(swap, ii, oo), oi, torch.where(swap, oo, ii)


def square_edge(a: Tensor, c: Tensor, b: Tensor, low: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`E[x f δ(a x + c y + b)]` for `f = 1, x, y, x², x y, y²`; edges along the border count nothing."""
    swap, inner, outer_nodes, weights, kink = _nodes(a, c, b, low)
    inner_nodes, mass = _on_edge(inner[..., None], kink, low)
    x = torch.where(swap[..., None], inner_nodes, outer_nodes)
    y = torch.where(swap[..., None], outer_nodes, inner_nodes)
    one = weights * mass * x
    along_x, along_y = one * x, one * y
    moments = one, along_x, along_y, along_x * x, along_x * y, along_y * y
    zeroth, x1, y1, xx, xy, yy = (moment.sum(-1) for moment in moments)
    return zeroth, x1, y1, xx, xy, yy


def _nodes(a: Tensor, c: Tensor, b: Tensor, low: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Whether x is the inner variable, its coefficient, nodes and weights of the outer one, and the kink at each."""
    swap = a.abs() > c.abs()
    outer, inner = torch.where(swap, c, a), torch.where(swap, a, c)
    at_low, at_high = _kink(outer, b + inner * low).clamp(low, 1), _kink(outer, b + inner).clamp(low, 1)
    first, second = torch.minimum(at_low, at_high), torch.maximum(at_low, at_high)
    starts = torch.stack([torch.full_like(first, low), first, second], -1)
    lengths = torch.stack([first - low, second - first, 1 - second], -1)
    nodes = torch.cat([starts + node * lengths for node in NODES], -1)
    weights = torch.cat([lengths, lengths], -1) / (2 * (1 - low))
    return swap, inner, nodes, weights, _kink(inner[..., None], outer[..., None] * nodes + b[..., None])


def _kink(slope: Tensor, offset: Tensor) -> Tensor:
    """Where `slope x + offset = 0`; for slope 0 so far out that the sign of the constant holds throughout."""
    x = -offset / (slope + 0.0)  # -0 becomes 0, for which the quotient has the sign of -offset
    return x.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)


def _powers(slope: Tensor, kink: Tensor, low: float) -> tuple[Tensor, Tensor, Tensor]:
    """Means of `1, x, x²` over `[low, 1]` where a line of this slope through the kink is not negative."""
    end, falls = kink.clamp(low, 1), slope < 0
    start, stop = torch.where(falls, low, end), torch.where(falls, end, 1.0)
    length = (stop - start) / (1 - low)
    return length, length * (start + stop) / 2, length * (start * start + start * stop + stop * stop) / 3


def _on_edge(slope: Tensor, kink: Tensor, low: float) -> tuple[Tensor, Tensor]:
    inside = (kink > low) & (kink < 1)
    mass = 1 / (torch.where(inside, slope, 1.0).abs() * (1 - low))
    return torch.where(inside, kink, 0.0), torch.where(inside, mass, 0.0)
