"""Readouts with any loss: batched Newton minimisations of two parameters, from several starts."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polysem.returns._minima import Minima

Loss = Callable[[Tensor, Tensor], Tensor]
"""From readouts and targets of one shape, the loss of each readout, entry by entry, in that shape."""

START_SCALES = (-3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0)
"""Starting slopes and offsets, for standardised readouts, in units of the feature's standard deviation."""
SCREENED = 64
"""Number of points on which starts are compared."""
MAX_STEPS = 60
ENOUGH = 1e-13
"""A step that promises to lower the loss by less than this share of it is the last."""
LARGEST_DAMPING = 1e9
ROUNDS = 4
"""How often minima are started again from those of neighbouring capacities."""
LOWER = 1e-10
"""By what share of the loss a neighbour's minimum must be lower to be worth a start."""


def smooth_minima(
    own: Float[Tensor, "n n_samples"],
    interference: Float[Tensor, "n n_samples"],
    target: Float[Tensor, "n n_samples"],
    weight: Float[Tensor, "n n_samples"],
    C: Float[Tensor, " n_points"],
    t: Float[Tensor, " n_points"],
    *,
    loss: Loss,
) -> Minima:
    r"""Minimise `E ℓ(a (x + t ν) + b, y)` by damped Newton steps in `(a, b)`, with derivatives of `ℓ` by autograd.

    Starts on a coarse grid are compared on some of the points, the best of either sign of `a` are minimised, and then
    minima of neighbouring capacities serve as starts wherever they are lower: local minima are searched, not excluded.

    Source: ours.
    """
    n, k = len(own), len(C)
    u = own[:, None] + t[:, None] * interference[:, None]
    centre = (weight[:, None] * u).sum(-1, keepdim=True)
    width = (weight[:, None] * (u - centre).square()).sum(-1, keepdim=True).sqrt()
    width = torch.where(width > 0, width, 1.0)
    alone = (C == 0)[None, :, None]
    standard = torch.where(alone, 0.0, (u - centre) / width).flatten(0, 1)
    problem = _Problem(loss, standard, target, weight, torch.arange(n, device=own.device).repeat_interleave(k))

    unit = (weight * (own - (weight * own).sum(-1, keepdim=True)).square()).sum(-1).sqrt()
    unit = torch.where(unit > 0, unit, 1.0).repeat_interleave(k)
    theta, value, converged = _best_of(problem, *(problem.minimise(start) for start in _starts(problem, unit)))
    width, centre = width[..., 0], centre[..., 0]
    for _ in range(ROUNDS):
        lowered = torch.zeros_like(converged)
        slope, offset = _unscaled(theta.reshape(n, k, 2), centre, width)
        for shift in (1, -1):
            near_slope, near_offset = slope.roll(shift, 1), offset.roll(shift, 1)
            trial = torch.stack([near_slope * width, near_offset + near_slope * centre], -1).flatten(0, 1)
            found = problem.value(trial)
            better = found < value - LOWER * value.abs()
            theta, value = torch.where(better[:, None], trial, theta), torch.where(better, found, value)
            lowered |= better
        if not bool(lowered.any()):
            break
        again = lowered.nonzero()[:, 0]
        theta[again], value[again], converged[again] = problem.select(again).minimise(theta[again])

    slope, offset = _unscaled(theta.reshape(n, k, 2), centre, width)
    inside = (C > 0) & (C < 1)
    first = problem.first_derivative(theta).reshape(n, k, -1) * weight[:, None]
    push = slope * (first * interference[:, None]).sum(-1)
    benefit = torch.where(inside, push / torch.where(inside, 2 * C.square() * t, 1.0), 0.0)
    slope = torch.where(C > 0, slope, 0.0)
    offset = torch.where(C > 0, offset, theta.reshape(n, k, 2)[..., 1])
    return Minima(value.reshape(n, k), benefit, slope, offset, converged.reshape(n, k))


@dataclass(frozen=True)
class _Problem:
    """Independent minimisations over `θ = (a, b)` of `E ℓ(a u + b, y)`; `row` says whose target each has."""

    loss: Loss
    u: Float[Tensor, "q n_samples"]
    target: Float[Tensor, "n n_samples"]
    weight: Float[Tensor, "n n_samples"]
    row: Tensor

    def select(self, which: Tensor) -> "_Problem":
        return _Problem(self.loss, self.u[which], self.target, self.weight, self.row[which])

    def thinned(self, n_points: int) -> "_Problem":
        """The same on some points of equal weight, spread evenly over the cumulative weights."""
        level = (torch.arange(n_points, dtype=self.weight.dtype, device=self.weight.device) + 0.5) / n_points
        place = torch.searchsorted(self.weight.cumsum(-1), level.expand(len(self.weight), -1).contiguous())
        place = place.clamp(max=self.weight.shape[-1] - 1)
        weight = torch.full_like(place, 1 / n_points, dtype=self.weight.dtype)
        return _Problem(self.loss, self.u.gather(-1, place[self.row]), self.target.gather(-1, place), weight, self.row)

    def value(self, theta: Tensor) -> Tensor:
        z = theta[:, :1] * self.u + theta[:, 1:]
        return (self.weight[self.row] * self.loss(z, self.target[self.row])).sum(-1)

    def first_derivative(self, theta: Tensor) -> Tensor:
        with torch.enable_grad():
            z = (theta[:, :1] * self.u + theta[:, 1:]).requires_grad_()
            (first,) = torch.autograd.grad(self.loss(z, self.target[self.row]).sum(), z)
        return first

    def derivatives(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Value `[q]`, gradient `[q, 2]`, and the Hessian's entries `[q, 3]` (aa, ab, bb)."""
        weight = self.weight[self.row]
        with torch.enable_grad():
            z = (theta[:, :1] * self.u + theta[:, 1:]).requires_grad_()
            each = self.loss(z, self.target[self.row])
            (first,) = torch.autograd.grad(each.sum(), z, create_graph=True)
            second = torch.autograd.grad(first.sum(), z)[0] if first.requires_grad else torch.zeros_like(z)
        first, second = weight * first.detach(), weight * second
        bent = second * self.u
        gradient = torch.stack([torch.linalg.vecdot(first, self.u), first.sum(-1)], -1)
        hessian = torch.stack([torch.linalg.vecdot(bent, self.u), bent.sum(-1), second.sum(-1)], -1)
        return torch.linalg.vecdot(weight, each.detach()), gradient, hessian

    def minimise(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Minima `[q, 2]`, values and whether they converged."""
        theta = theta.clone()
        value, gradient, hessian = self.derivatives(theta)
        damping = torch.zeros_like(value)
        converged = torch.zeros_like(value, dtype=torch.bool)
        active = torch.arange(len(value), device=value.device)
        problem = self
        for _ in range(MAX_STEPS):
            step, promised = _step(gradient[active], hessian[active], damping[active])
            done = promised <= ENOUGH * value[active].abs()
            converged[active[done]] = True
            stay = ~done & (damping[active] < LARGEST_DAMPING)
            if not bool(stay.all()):
                active, step, problem = active[stay], step[stay], problem.select(stay.nonzero()[:, 0])
            if not len(active):
                break
            trial = theta[active] + step
            found, slope, curve = problem.derivatives(trial)
            better = found < value[active]
            taken = active[better]
            theta[taken], value[taken] = trial[better], found[better]
            gradient[taken], hessian[taken] = slope[better], curve[better]
            now = damping[active]
            damping[active] = torch.where(better, torch.where(now > 1e-6, now / 10, 0.0), (10 * now).clamp(min=1e-3))
        return theta, value, converged


def _step(gradient: Tensor, hessian: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
    """Newton step with eigenvalues made positive and damped, and the decrease that it promises."""
    aa, ab, bb = hessian.unbind(-1)
    half = (((aa - bb) / 2).square() + ab.square()).sqrt()
    low, high = (aa + bb) / 2 - half, (aa + bb) / 2 + half
    scale = torch.maximum(high.abs(), low.abs())
    scale = torch.where(scale > 0, scale, 1.0)
    shift = damping * scale + torch.where(low < 1e-12 * scale, 1e-3 * scale - 2 * low.clamp(max=0), 0.0)
    aa, bb = aa + shift, bb + shift
    det = aa * bb - ab.square()
    by_a, by_b = gradient.unbind(-1)
    step = -torch.stack([bb * by_a - ab * by_b, aa * by_b - ab * by_a], -1) / det[:, None]
    return step, -(gradient * step).sum(-1) / 2


def _starts(problem: _Problem, unit: Tensor) -> list[Tensor]:
    """The best start of either sign of the slope, on a part of the points."""
    small = problem.thinned(SCREENED)
    best: list[Tensor] = []
    for sign in (1.0, -1.0):
        lowest = torch.full_like(unit, torch.inf)
        chosen = torch.zeros_like(unit)[:, None].expand(-1, 2)
        for a in (scale for scale in START_SCALES if sign * scale > 0):
            for b in START_SCALES:
                theta = torch.stack([a * unit, b * unit], -1)
                value = small.value(theta)
                better = value < lowest
                lowest, chosen = torch.where(better, value, lowest), torch.where(better[:, None], theta, chosen)
        best.append(chosen)
    return best


def _best_of(problem: _Problem, *ends: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The lowest of several ends."""
    theta, value, converged = ends[0]
    for other, found, fine in ends[1:]:
        better = found < value
        theta = torch.where(better[:, None], other, theta)
        value, converged = torch.where(better, found, value), torch.where(better, fine, converged)
    return theta, value, converged


def _unscaled(theta: Tensor, centre: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """`(a, b)` for `x + t ν` from those for standardised readouts."""
    slope = theta[..., 0] / width
    return slope, theta[..., 1] - slope * centre
