"""A damped Newton method on a stack of independent objectives, which does not stop on saddles, nor on kinks."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polysem.training._kinks import beyond_kinks
from polysem.training._scales import ROUNDING, gradient_scale, largest_curvature, largest_entry, least_scale
from polysem.zoo import Objective

BLOCK_BYTES = 2**28
FLAT = 1e-8
"""Curvature, relative to the largest, below whose negative a stationary point is a saddle."""
FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-3, 1e-12, 1e12
TRIALS = 2**10
"""Trial points of a line search that are evaluated together, as far as a stack is smaller than that."""


@dataclass(frozen=True)
class Polished:
    """Where the Newton method ended.

    Attributes:
        theta: parameters.
        gradient_norm: largest entry of the gradient, relative to largest curvature times largest parameter.
        converged: whether the gradient is within tolerance, no curvature is negative, and nothing lower was found
            beyond a kink.
        n_steps: steps taken.
    """

    theta: Float[Tensor, "n_inst n_parameters"]
    gradient_norm: Float[Tensor, " n_inst"]
    converged: Bool[Tensor, " n_inst"]
    n_steps: Int[Tensor, " n_inst"]


def newton(
    objective: Objective,
    theta: Float[Tensor, "n_inst n_parameters"],
    *,
    max_steps: int,
    tolerance: float,
    start: Float[Tensor, "n_inst n_parameters"] | None = None,
) -> Polished:
    """Minimise every instance by Newton steps on `H + damping · max|H_ii| · 1`.

    A step that raises the loss is rejected and the damping raised. Where the matrix is not positive definite, or
    at a saddle, the step takes the eigenvalues of `H` by their size and the instance then moves along the most
    negative curvature to the lowest loss on a geometric grid. Instances that have converged leave the stack. In the
    end they are probed for kinks of the slope, of which gradient and Hessian know one side only; an instance with a
    lower loss beyond moves there and goes on.

    Args:
        objective: what to minimise.
        theta: where to begin `[n_inst, n_parameters]`.
        max_steps: most steps of an instance, 0 or more.
        tolerance: relative gradient that counts as stationary.
        start: parameters that set the least scale of gradients, if another method has come here from them.

    Returns:
        End points and how they were reached.

    Example:
        One feature with a dimension of its own, `L = 4 (1 - W²)²`; at 0 it has a maximum:

        >>> import torch
        >>> from polysem.features import SparseSign
        >>> from polysem.training import newton
        >>> from polysem.zoo import QuadraticModel
        >>> objective = QuadraticModel(1, 1).objective(SparseSign.from_kurtosis([5.0], standardise=True), [1.0])
        >>> end = newton(objective, torch.zeros(1, 1, dtype=torch.float64), max_steps=50, tolerance=1e-10)
        >>> round(end.theta.abs().item(), 9), end.converged.item()
        (1.0, True)

    Source: Levenberg 1944; steps by the size of eigenvalues after Dauphin et al. 2014; moves off saddles and
    kinks are ours.
    """
    n_inst, n_parameters = theta.shape
    start = theta if start is None else start
    block = max(1, BLOCK_BYTES // (4 * theta.element_size() * n_parameters**2))
    parts = [
        _Stack(objective.select(instances), theta[instances], tolerance, start[instances]).run(max_steps)
        for instances in torch.split(torch.arange(n_inst, device=theta.device), block)
    ]
    return Polished(
        theta=torch.cat([part.theta for part in parts]),
        gradient_norm=torch.cat([part.gradient_norm for part in parts]),
        converged=torch.cat([part.converged for part in parts]),
        n_steps=torch.cat([part.n_steps for part in parts]),
    )


class _Stack:
    """The state of one block of instances: results of all, and for those under way (`where`) what they work with."""

    def __init__(self, objective: Objective, theta: Tensor, tolerance: float, start: Tensor) -> None:
        self.whole, self.tolerance = objective, tolerance
        self.theta = theta.clone()
        self.gradient_norm = torch.full_like(theta[:, 0], torch.inf)
        self.converged = torch.zeros(len(theta), dtype=torch.bool, device=theta.device)
        self.n_steps = torch.zeros(len(theta), dtype=torch.int64, device=theta.device)
        self.least_scale = least_scale(start, largest_curvature(objective, start))

    def run(self, max_steps: int) -> Polished:
        where = torch.arange(len(self.theta), device=self.theta.device)
        while len(where):
            self._descend(where, max_steps)
            where = self._leave_kinks(where[self.converged[where]], max_steps)
        return Polished(self.theta, self.gradient_norm, self.converged, self.n_steps)

    def _descend(self, where: Tensor, max_steps: int) -> None:
        """Step until every instance is at a minimum by gradient and Hessian, out of steps, or stuck."""
        self.where, self.objective = where, self.whole.select(where)
        self.damping = torch.full_like(self.theta[where, 0], FIRST_DAMPING)
        while len(self.where):
            theta = self.theta[self.where]
            gradient, H = self.objective.gradient(theta), self.objective.hessian(theta)
            curvature = largest_entry(H)
            scale = gradient_scale(theta, curvature, self.least_scale[self.where])
            steepest = gradient.abs().amax(-1)
            stationary = steepest <= self.tolerance * scale
            saddle = stationary & ~_positive_definite(H, curvature, stationary)
            done = stationary & ~saddle
            self.gradient_norm[self.where] = torch.where(steepest > 0, steepest / scale, steepest)
            self.converged[self.where] = done
            going = ~done & (self.n_steps[self.where] < max_steps)
            self._keep(going)
            if len(self.where):
                parts = (theta, gradient, H, curvature, saddle)
                self.theta[self.where] = self._step(*(part[going] for part in parts))
                self.n_steps[self.where] += 1
                self._keep(self.damping <= MOST_DAMPING)

    def _leave_kinks(self, where: Tensor, max_steps: int) -> Tensor:
        """Move minima on one side of a kink to what is lower beyond it, and return those that go on from there."""
        if len(where):
            lower, direction = beyond_kinks(self.whole.select(where), self.theta[where])
            where, direction = where[lower], direction[lower]
            self.converged[where] = False
            going = self.n_steps[where] < max_steps
            where, direction = where[going], direction[going]
        if len(where):
            self.theta[where] = _lowest_along(direction, self.theta[where], self.whole.select(where))
            self.n_steps[where] += 1
        return where

    def _step(self, theta: Tensor, gradient: Tensor, H: Tensor, curvature: Tensor, saddle: Tensor) -> Tensor:
        shift = self.damping * curvature
        shifted = H.clone()
        shifted.diagonal(dim1=-2, dim2=-1).add_(shift[:, None])
        factor, info = torch.linalg.cholesky_ex(shifted)
        move = torch.cholesky_solve(gradient[..., None], factor)[..., 0]
        bent = ((info != 0) | saddle).nonzero()[:, 0]
        values, vectors = torch.linalg.eigh(H[bent])
        along = (vectors.mT @ gradient[bent, :, None])[..., 0] / (values.abs() + shift[bent, None])
        move[bent] = (vectors @ along[..., None])[..., 0]
        trial = theta - move
        slack = ROUNDING * curvature * theta.abs().amax(-1).square()
        accepted = self.objective.loss(trial) <= self.objective.loss(theta) + slack
        self.damping = torch.where(accepted, self.damping / 10, self.damping * 4).clamp(min=LEAST_DAMPING)
        theta = torch.where(accepted[:, None], trial, theta)
        if len(bent):
            theta[bent] = _lowest_along(vectors[..., 0], theta[bent], self.objective.select(bent))
        return theta

    def _keep(self, staying: Tensor) -> None:
        if bool(staying.all()):
            return
        self.where, self.damping = self.where[staying], self.damping[staying]
        self.objective = self.objective.select(staying.nonzero()[:, 0])


def _lowest_along(direction: Tensor, theta: Tensor, objective: Objective) -> Tensor:
    """The lowest of `theta` and the points at geometric distances from it along unit directions, both ways."""
    size = theta.abs().amax(-1, keepdim=True)
    direction = direction * torch.where(size > 0, size, 1.0)
    instances = torch.arange(len(theta), device=theta.device)
    distances = 4.0 ** torch.arange(5, -16, -1, dtype=theta.dtype, device=theta.device)
    best, lowest = theta, objective.loss(theta)
    for some in torch.split(torch.cat([distances, -distances]), max(1, TRIALS // len(theta))):
        trials = theta + some[:, None, None] * direction
        tried = objective if len(some) == 1 else objective.select(instances.repeat(len(some)))
        losses = tried.loss(trials.flatten(0, 1)).reshape(len(some), -1)
        loss, which = torch.where(losses.isnan(), torch.inf, losses).min(0)
        best = torch.where((loss < lowest)[:, None], trials[which, instances], best)
        lowest = torch.minimum(loss, lowest)
    return best


def _positive_definite(H: Tensor, curvature: Tensor, which: Tensor) -> Tensor:
    """Whether no eigenvalue of the chosen matrices lies below `-FLAT · curvature`; False for the others."""
    result = torch.zeros_like(which)
    if bool(which.any()):
        relative = H[which] / torch.where(curvature > 0, curvature, 1.0)[which, None, None]
        relative.diagonal(dim1=-2, dim2=-1).add_(FLAT)
        result[which] = torch.linalg.cholesky_ex(relative).info == 0
    return result
