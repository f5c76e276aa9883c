"""A damped Newton method on a stack of independent objectives, which does not stop on saddles."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polysem.zoo import Objective

BLOCK_BYTES = 2**28
FLAT = 1e-8
"""Curvature, relative to the largest, below whose negative a stationary point is a saddle."""
FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-3, 1e-12, 1e12
ROUNDING = 1e-14


@dataclass(frozen=True)
class Polished:
    """Where the Newton method ended.

    Attributes:
        theta: parameters.
        gradient_norm: largest entry of the gradient, relative to largest curvature times largest parameter.
        converged: whether the gradient is within tolerance and no curvature is negative.
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
    negative curvature to the lowest loss on a geometric grid. Instances that have converged leave the stack.

    Args:
        objective: what to minimise.
        theta: where to begin `[n_inst, n_parameters]`.
        max_steps: most steps of an instance, 0 or more.
        tolerance: relative gradient that counts as stationary.
        start: parameters that set the least scale of gradients, if another method has come here from them.

    Returns:
        End points and how they were reached.

    Source: Levenberg 1944; steps by the size of eigenvalues after Dauphin et al. 2014; moves off saddles are ours.
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
    """The state of one block of instances: results of all, working copies of those still under way."""

    def __init__(self, objective: Objective, theta: Tensor, tolerance: float, start: Tensor) -> None:
        self.tolerance = tolerance
        self.theta = theta.clone()
        self.gradient_norm = torch.full_like(theta[:, 0], torch.inf)
        self.converged = torch.zeros(len(theta), dtype=torch.bool, device=theta.device)
        self.n_steps = torch.zeros(len(theta), dtype=torch.int64, device=theta.device)
        self.where = torch.arange(len(theta), device=theta.device)
        self.objective = objective
        self.damping = torch.full_like(theta[:, 0], FIRST_DAMPING)
        curvature = largest_curvature(objective, start)
        # A minimum of quartic order (no importance at all) has no curvature of its own to compare with.
        self.least_scale = ROUNDING * curvature * start.abs().amax(-1)

    def run(self, max_steps: int) -> Polished:
        for step in range(max_steps + 1):
            theta = self.theta[self.where]
            gradient, H = self.objective.gradient(theta), self.objective.hessian(theta)
            curvature = H.diagonal(dim1=-2, dim2=-1).abs().amax(-1)
            size = theta.abs().amax(-1)
            scale = torch.maximum(curvature * size, self.least_scale)
            steepest = gradient.abs().amax(-1)
            stationary = steepest <= self.tolerance * scale
            saddle = stationary & ~_positive_definite(H, curvature, stationary)
            done = stationary & ~saddle
            self.gradient_norm[self.where] = torch.where(steepest > 0, steepest / scale, steepest)
            self.converged[self.where] = done
            self.n_steps[self.where] = step
            if step == max_steps or bool((done | (self.damping > MOST_DAMPING)).all()):
                break
            theta = self._step(theta, gradient, H, curvature, saddle)
            self.theta[self.where[~done]] = theta[~done]
            self._keep(~done & (self.damping <= MOST_DAMPING))
        return Polished(self.theta, self.gradient_norm, self.converged, self.n_steps)

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
        self.least_scale = self.least_scale[staying]
        self.objective = self.objective.select(staying.nonzero()[:, 0])


def largest_curvature(objective: Objective, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, " n_inst"]:
    """The largest diagonal entry of each matrix of second derivatives, by size."""
    return objective.hessian(theta).diagonal(dim1=-2, dim2=-1).abs().amax(-1)


def _lowest_along(direction: Tensor, theta: Tensor, objective: Objective) -> Tensor:
    """The lowest of `theta` and the points at geometric distances from it along unit directions, both ways."""
    size = theta.abs().amax(-1, keepdim=True)
    direction = direction * torch.where(size > 0, size, 1.0)
    best, lowest = theta, objective.loss(theta)
    for exponent in range(5, -16, -1):
        for distance in (4.0**exponent, -(4.0**exponent)):
            trial = theta + distance * direction
            loss = objective.loss(trial)
            best = torch.where((loss < lowest)[:, None], trial, best)
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
