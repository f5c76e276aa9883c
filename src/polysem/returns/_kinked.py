"""ReLU and absolute-value readouts: the global minimum over slope and offset from sums in sorted order."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from polysem.returns._minima import Minima

SINGULAR = 1e-10
"""Determinants below this share of their diagonal's product are rounding."""
ROUNDING = 1e-9
"""How far, relative to `E y²`, the loss at the minimum may be from the sums that found it."""


def kinked_minima(
    own: Float[Tensor, "n n_samples"],
    interference: Float[Tensor, "n n_samples"],
    target: Float[Tensor, "n n_samples"],
    weight: Float[Tensor, "n n_samples"],
    C: Float[Tensor, " n_points"],
    t: Float[Tensor, " n_points"],
    *,
    slopes: tuple[float, float],
) -> Minima:
    r"""Minimise `E (act(a u + b) - y)²` with `u = x + t ν`, for ReLU (slopes 1 and 0) or the absolute value (1 and -1).

    In the plane of `(a, b)` every point has a line on which its kink lies. Between neighbouring lines the loss is
    quadratic, with coefficients that are sums over the points on either side of the kink: after one sort, cumulative
    sums give all of them. Every local minimum is either that of a quadratic, inside its own cell, or on a line. All of
    these are compared.

    Source: ours.
    """
    u = own[:, None] + t[:, None] * interference[:, None]
    centre = (weight[:, None] * u).sum(-1, keepdim=True)
    ordered, order = (u - centre).sort(-1)
    w, y = (values[:, None].expand_as(order).gather(-1, order) for values in (weight, target))
    wu, wy = w * ordered, w * y
    sides = [_left_and_right(terms) for terms in (w, wu, wu * ordered, wy, wy * ordered)]

    above, below = slopes
    mean = (weight * target).sum(-1)[:, None]
    constant = mean.clamp(min=0)
    gain = constant * (2 * mean - constant)
    best = torch.stack([torch.zeros_like(constant), constant]).expand(2, -1, len(C))
    gain = gain.expand(-1, len(C))
    for positive, (right_slope, left_slope) in ((True, (above, below)), (False, (below, above))):
        squares = [_combined(left, right, left_slope**2, right_slope**2) for left, right in sides[:3]]
        products = [_combined(left, right, left_slope, right_slope) for left, right in sides[3:]]
        for found, at in _candidates(ordered, squares, products, positive):
            better = found > gain
            gain, best = torch.where(better, found, gain), torch.where(better, at, best)

    slope, shifted = best
    offset = shifted - slope * centre[..., 0]
    z = slope[..., None] * u + offset[..., None]
    local = torch.where(z > 0, above, below)
    error = local * z - target[:, None]
    weighted = weight[:, None] * error
    loss = (weighted * error).sum(-1)
    steer = weighted * local
    push = (steer * interference[:, None]).sum(-1)
    # At a minimum on a line, the point whose kink it is holds against the pull of all others.
    held = interference[:, None].expand_as(z).gather(-1, z.abs().argmin(-1, keepdim=True))[..., 0]
    push = 2 * slope * (push - steer.sum(-1) * held)
    inside = (C > 0) & (C < 1)
    benefit = torch.where(inside, push / torch.where(inside, 2 * C.square() * t, 1.0), 0.0)
    size = (weight * target.square()).sum(-1)[:, None]
    converged = (loss - (size - gain)).abs() <= ROUNDING * size
    alone = C > 0
    loss = torch.where(alone, loss, size - mean.square() + (mean - constant).square())
    return Minima(
        loss, benefit, torch.where(alone, slope, 0.0), torch.where(alone, offset, constant), converged | ~alone
    )


def _left_and_right(terms: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the points before and from each place on, `[..., n_samples + 1]`."""
    left = torch.nn.functional.pad(terms.cumsum(-1), (1, 0))
    return left, left[..., -1:] - left


def _combined(left: Tensor, right: Tensor, left_factor: float, right_factor: float) -> Tensor:
    """Sum of both sides with their factors; nothing is computed for the factors 0 and 1."""
    terms = [side if c == 1 else c * side for side, c in ((left, left_factor), (right, right_factor)) if c]
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


def _candidates(
    u: Tensor, squares: list[Tensor], products: list[Tensor], positive: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """How much of `E y²` the best minimum inside a cell removes, and the best on a line; `(a, b)` of each."""
    one, lean, bent = squares
    level, tilt = products

    size = bent * one
    det = torch.addcmul(size, lean, lean, value=-1)
    regular = det > SINGULAR * size
    det = torch.where(regular, det, 1.0)
    a = torch.addcmul(one * tilt, lean, level, value=-1).div_(det)
    b = torch.addcmul(bent * level, lean, tilt, value=-1).div_(det)
    # The kink is right of the last point before it and left of the first after it.
    after, before = torch.addcmul(b[..., :-1], a[..., :-1], u), torch.addcmul(b[..., 1:], a[..., 1:], u)
    valid = regular & (a > 0 if positive else a < 0)
    valid[..., :-1] &= after >= 0 if positive else after <= 0
    valid[..., 1:] &= before <= 0 if positive else before >= 0
    gain = torch.where(valid, torch.addcmul(a * tilt, b, level), 0.0)
    most, place = gain.max(-1, keepdim=True)
    yield most[..., 0], torch.stack([a.gather(-1, place), b.gather(-1, place)])[..., 0]

    one, lean, bent, level, tilt = (sums[..., :-1] for sums in (one, lean, bent, level, tilt))
    pull = torch.addcmul(2 * lean, u, one, value=-1)
    spread = torch.addcmul(bent, u, pull, value=-1)
    lift = torch.addcmul(tilt, u, level, value=-1)
    usable = (spread > SINGULAR * torch.addcmul(bent, u * u, one)) & (lift > 0 if positive else lift < 0)
    gain = torch.where(usable, lift.square().div_(spread), 0.0)
    most, place = gain.max(-1, keepdim=True)
    a = torch.where(most > 0, lift.gather(-1, place) / spread.gather(-1, place), 0.0)
    yield most[..., 0], torch.stack([a, -a * u.gather(-1, place)])[..., 0]
