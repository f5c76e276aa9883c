"""Multipliers of prescribed capacities, from the gradients of loss and capacities, and from curvature if need be."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysem.returns._augmented import Constrained

DEPENDENT = 1e-4
"""Singular value of the gradients of capacities, each of norm 1, below which they depend on each other."""
FLAT = 1e-8
"""Curvature, relative to the largest, below whose negative a point is no minimum."""
BISECTIONS = 50


def n_ways(slopes: Float[Tensor, "n_inst n n_parameters"]) -> Int[Tensor, " n_inst"]:
    """In how many ways gradients of capacities depend on each other: dimensions that their span lacks."""
    norms = slopes.norm(dim=-1)
    values = torch.linalg.svdvals(slopes / torch.where(norms > 0, norms, 1.0)[..., None])
    missing: Tensor = (norms > 0).sum(-1) - (values > DEPENDENT).sum(-1)
    return missing


def settle(
    problem: Constrained, theta: Float[Tensor, "n_inst n_parameters"], multiplier: Float[Tensor, "n_inst n"]
) -> Float[Tensor, "n_inst n"]:
    r"""Determine the multipliers at minima of the loss at prescribed capacities.

        ∂L + Σ_j λ_j ∂C_j = 0

    in the sense of least squares. Where the gradients of capacities depend on each other in one way, `Σ_j n_j ∂C_j = 0`
    with `Σ_j n_j > 0`, all `λ + s n` solve it. The least of them for which the Lagrangian has a minimum there, at
    fixed capacities, says what the loss does towards more capacity, `Σ_j n_j dC_j > 0`. Where they depend on each other
    in several ways, multipliers are as given along these.

    Args:
        problem: what was minimised.
        theta: the minima.
        multiplier: multipliers of the augmented Lagrangian there.

    Returns:
        `λ`.

    Source: ours.
    """
    slopes = problem.slopes(theta)
    rest = problem.lagrangian(multiplier).gradient(theta)
    result = multiplier.clone()
    for i in range(len(theta)):
        norms = slopes[i].norm(dim=-1)
        bound = (norms > 0).nonzero()[:, 0]
        if not len(bound):
            continue
        norms = norms[bound]
        left, values, right = torch.linalg.svd(slopes[i, bound] / norms[:, None])
        rank = int((values > DEPENDENT).sum())
        result[i, bound] -= left[:, :rank] @ (right[:rank] @ rest[i] / values[:rank]) / norms
        if len(bound) - rank == 1:
            way = torch.zeros_like(result[i])
            way[bound] = left[:, -1] / norms
            way = way * way.sum().sign()
            one = problem.select(torch.tensor([i], device=theta.device))
            H = one.lagrangian(result[i : i + 1]).hessian(theta[i : i + 1])[0]
            K = one.bend(theta[i : i + 1], way[None])[0]
            tangent = right[rank:]
            H, K = (tangent @ matrix @ tangent.mT for matrix in (H, K))
            result[i] -= _slack(H, K) * way
    return result


def _slack(H: Tensor, K: Tensor) -> float:
    """The largest `s` at which `H - s K` has no negative eigenvalue; 0 where there is none, or no largest."""
    curvature, other = (float(matrix.abs().max()) for matrix in (H, K))
    limit, unit = -FLAT * curvature, curvature / other if other > 0 else 0.0

    def fits(s: float) -> bool:
        return float(torch.linalg.eigvalsh(H - s * K)[0]) >= limit

    steps = [unit * 4.0**k for k in range(-BISECTIONS // 2, BISECTIONS // 2)]
    if fits(0.0):
        low, high = 0.0, next((s for s in steps if not fits(s)), 0.0)
    else:
        low, high = next((-s for s in steps if fits(-s)), 0.0), 0.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
