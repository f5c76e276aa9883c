"""Kinks: points where a loss has a slope but not one curvature, so that a Hessian speaks for one side only."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from polysem.training._scales import ROUNDING, largest_entry
from polysem.zoo import Objective

NEARBY = 4.0**-7
"""How far from a minimum kinks are looked for, relative to its largest parameter."""
KINK = 1e-4
"""Deviation of a curvature from the Hessian's, relative to the largest, that betrays a kink."""


def beyond_kinks(
    objective: Objective, theta: Float[Tensor, "n_inst n_parameters"]
) -> tuple[Bool[Tensor, " n_inst"], Float[Tensor, "n_inst n_parameters"]]:
    """Which minima by gradient and Hessian have a clearly lower loss beyond a kink next to them, and where.

    At a kink of the slope the loss is to second order `dᵀ H(d) d / 2`, with a Hessian for every side. Where a pair of
    steps betrays another than `H(0)`, the lowest eigenvectors of Hessians a step away, and then of those a step along
    these, are tried both ways. The cone of lower losses can be too narrow for directions drawn at random.

    Args:
        objective: what was minimised.
        theta: the minima `[n_inst, n_parameters]`.

    Returns:
        Whether something lower was found, and the unit direction of it up to sign; 0 where nothing was.

    Source: ours.
    """
    n_inst, n_parameters = theta.shape
    size = theta.abs().amax(-1)
    size = torch.where(size > 0, size, 1.0)
    loss, gradient, H = objective.loss(theta), objective.gradient(theta), objective.hessian(theta)
    curvature = largest_entry(H) * size.square()
    probe = torch.randn(n_parameters, generator=torch.Generator().manual_seed(0), dtype=theta.dtype)
    step = NEARBY * size[:, None] * torch.nn.functional.normalize(probe, dim=-1).to(theta.device)
    smooth = torch.linalg.vecdot(step, (H @ step[..., None])[..., 0])
    bend = objective.loss(theta + step) + objective.loss(theta - step) - 2 * loss - smooth
    kinked = (bend.abs() > KINK * NEARBY**2 * curvature + ROUNDING * loss.abs()).nonzero()[:, 0]

    direction, lower = torch.zeros_like(theta), torch.zeros(n_inst, dtype=torch.bool, device=theta.device)
    if not len(kinked):
        return lower, direction
    objective, theta, step = objective.select(kinked), theta[kinked], step[kinked]
    loss, gradient, reach = loss[kinked], gradient[kinked], NEARBY * size[kinked, None]
    limit = loss - ROUNDING * torch.maximum(curvature[kinked], loss.abs())
    for side in (step, -step):
        for _ in range(2):
            H = objective.hessian(theta + side)
            # Parameters without any curvature (masked ones are such) stay where they are.
            lowest = torch.linalg.eigh(H).eigenvectors[..., 0] * (H != 0).any(-1)
            side = reach * lowest
            ahead, behind = objective.loss(theta + side), objective.loss(theta - side)
            # What the rest of the gradient explains is none of the kink's.
            found = torch.minimum(ahead, behind) < limit - torch.linalg.vecdot(gradient, side).abs()
            direction[kinked[found]] = lowest[found]
            lower[kinked] |= found
            side = torch.where((ahead < behind)[:, None], side, -side)
    return lower, direction
