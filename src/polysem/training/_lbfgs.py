"""L-BFGS on a stack of independent objectives: every instance has a memory and a line search of its own."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from polysem.training._newton import Polished, newton
from polysem.training._scales import ROUNDING, gradient_scale, largest_curvature, least_scale
from polysem.zoo import Objective

MEMORY = 10
DECREASE, SLOPE = 1e-4, 0.9
"""The constants of the Wolfe conditions."""
MOST_TRIALS = 40


def lbfgs(
    objective: Objective,
    theta: Float[Tensor, "n_inst n_parameters"],
    *,
    max_steps: int,
    tolerance: float,
) -> Polished:
    """Minimise every instance along `-H⁻¹ g`, with `H⁻¹` from the last ten steps and a line search by bisection.

    A step satisfies the Wolfe conditions: the loss falls by `DECREASE` of what the slope promises (or, where rounding
    hides that, the slope says so) and the slope shrinks to `SLOPE` of itself. Instances that are stationary, or
    whose line search fails along the gradient too, leave the stack. Second derivatives serve only to judge the end.

    Args:
        objective: what to minimise.
        theta: where to begin `[n_inst, n_parameters]`.
        max_steps: most evaluations of loss and gradient of an instance.
        tolerance: relative gradient that counts as stationary.

    Returns:
        End points and how they were reached; `n_steps` counts evaluations.

    Source: Nocedal and Wright 2006, algorithms 7.4 and 7.5; bisection after Lewis and Overton 2013; conditions under
    rounding after Hager and Zhang 2005.
    """
    stack = _Stack(objective, theta, tolerance)
    for _ in range(max_steps):
        if not len(stack.where):
            break
        stack.step()
    stack.write()
    end = newton(objective, stack.result, max_steps=0, tolerance=tolerance, start=theta)
    return replace(end, n_steps=stack.n_steps)


class _Stack:
    """Results of all instances, and the state of those still under way (rows `where`)."""

    def __init__(self, objective: Objective, theta: Tensor, tolerance: float) -> None:
        self.tolerance = tolerance
        self.result = theta.clone()
        self.n_steps = torch.zeros(len(theta), dtype=torch.int64, device=theta.device)
        self.where = torch.arange(len(theta), device=theta.device)
        self.objective = objective
        self.theta, self.loss, self.gradient = theta, objective.loss(theta), objective.gradient(theta)
        self.curvature = largest_curvature(objective, theta)
        self.least_scale = least_scale(theta, self.curvature)
        self.moves, self.bends = theta.new_zeros(2, MEMORY, *theta.shape)
        self.inverse = theta.new_zeros(MEMORY, len(theta))
        self.direction = torch.zeros_like(theta)
        self.length, self.low, self.high = (torch.zeros_like(self.loss) for _ in range(3))
        self.trials = torch.zeros_like(self.n_steps)
        self._aim(torch.ones_like(self.where, dtype=torch.bool))
        self._leave(torch.zeros_like(self.where, dtype=torch.bool))

    def step(self) -> None:
        """Evaluate one trial point of every instance: take it, or narrow the bracket of its line search."""
        trial = self.theta + self.length[:, None] * self.direction
        loss, gradient = self.objective.loss(trial), self.objective.gradient(trial)
        promised, slope = (torch.linalg.vecdot(g, self.direction) for g in (self.gradient, gradient))
        size = self.theta.abs().amax(-1)
        slack = ROUNDING * torch.maximum(self.loss.abs(), self.curvature * size.square())
        lower = loss <= self.loss + DECREASE * self.length * promised
        lower |= (loss <= self.loss + slack) & (slope <= (2 * DECREASE - 1) * promised)
        taken = lower & (slope >= SLOPE * promised)
        self.low = torch.where(lower, self.length, self.low)
        self.high = torch.where(lower, self.high, self.length)
        self.length = torch.where(self.high.isfinite(), (self.low + self.high) / 2, 2 * self.length)
        self.trials += 1
        self.n_steps[self.where] += 1
        self._remember(taken, trial - self.theta, gradient - self.gradient)
        self.theta = torch.where(taken[:, None], trial, self.theta)
        self.gradient = torch.where(taken[:, None], gradient, self.gradient)
        self.loss = torch.where(taken, loss, self.loss)
        lost = self.trials >= MOST_TRIALS
        stuck = lost & (self.inverse[-1] == 0)
        self.inverse = self.inverse * ~lost
        self._aim(taken | lost)
        self._leave(stuck)

    def write(self) -> None:
        """Copy the instances under way to the results."""
        self.result[self.where] = self.theta

    def _remember(self, which: Tensor, move: Tensor, bend: Tensor) -> None:
        along = torch.linalg.vecdot(move, bend)
        which = which & (along > 0)
        self.moves = torch.where(which[:, None], torch.cat([self.moves[1:], move[None]]), self.moves)
        self.bends = torch.where(which[:, None], torch.cat([self.bends[1:], bend[None]]), self.bends)
        self.inverse = torch.where(which, torch.cat([self.inverse[1:], 1 / along[None]]), self.inverse)

    def _aim(self, which: Tensor) -> None:
        """Start a line search along the quasi-Newton direction, or the gradient where nothing is remembered."""
        direction = self.gradient
        shares = []
        for move, bend, inverse in zip(self.moves.flip(0), self.bends.flip(0), self.inverse.flip(0), strict=True):
            share = inverse * torch.linalg.vecdot(move, direction)
            direction = direction - share[:, None] * bend
            shares.append(share)
        bent = self.inverse[-1] * self.bends[-1].square().sum(-1)
        bent = torch.where(bent > 0, bent, torch.where(self.curvature > 0, self.curvature, 1.0))
        direction = direction / bent[:, None]
        for move, bend, inverse, share in zip(self.moves, self.bends, self.inverse, shares[::-1], strict=True):
            direction = direction + (share - inverse * torch.linalg.vecdot(bend, direction))[:, None] * move
        self.direction = torch.where(which[:, None], -direction, self.direction)
        self.length, self.low, self.high = (
            torch.where(which, value, old)
            for value, old in ((1.0, self.length), (0.0, self.low), (torch.inf, self.high))
        )
        self.trials = torch.where(which, 0, self.trials)

    def _leave(self, stuck: Tensor) -> None:
        """Drop the stuck instances, and those whose gradient is small by the curvature where they are now."""
        steepest, size = self.gradient.abs().amax(-1), self.theta.abs().amax(-1)
        near = (steepest <= self.tolerance * self.curvature * size).nonzero()[:, 0]
        done = stuck.clone()
        if len(near):
            here = self.theta[near]
            self.curvature[near] = largest_curvature(self.objective.select(near), here)
            scale = gradient_scale(here, self.curvature[near], self.least_scale[self.where[near]])
            done[near] |= steepest[near] <= self.tolerance * scale
        if not bool(done.any()):
            return
        self.result[self.where[done]] = self.theta[done]
        kept = (~done).nonzero()[:, 0]
        self.objective = self.objective.select(kept)
        names = ("where", "theta", "loss", "gradient", "curvature", "direction", "length", "low", "high", "trials")
        for name in names:
            setattr(self, name, getattr(self, name)[kept])
        self.moves, self.bends, self.inverse = (held[:, kept] for held in (self.moves, self.bends, self.inverse))
