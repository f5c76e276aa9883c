"""Slow, readable, loop-by-loop versions of what the library computes."""

import math

import torch
from torch import Tensor


def capacity(W: Tensor) -> Tensor:
    """`C_i = (W_i·W_i)² / Σ_j (W_i·W_j)²`, feature by feature, in float64."""
    return response_capacity(W, W)


def response_capacity(embedding: Tensor, readout: Tensor) -> Tensor:
    """`C_i = R_ii² / Σ_j R_ij²` with `R_ij = V_i·W_j`, feature by feature, in float64."""
    W, V = embedding.to(torch.float64), readout.to(torch.float64)
    result = torch.zeros(len(W), dtype=torch.float64)
    for i in range(len(W)):
        unit = V[i] / V[i].abs().max() if V[i].any() else V[i]
        responses = [float(unit @ W[j]) for j in range(len(W))]
        largest = max(map(abs, responses))
        if largest > 0:
            result[i] = (responses[i] / largest) ** 2 / sum((r / largest) ** 2 for r in responses)
    return result


def leverage(W: Tensor) -> Tensor:
    """`ℓ_i = W_iᵀ (WᵀW)⁺ W_i`, by the pseudo-inverse of `W`."""
    W = W.to(torch.float64)
    return torch.stack([(W @ torch.linalg.pinv(W))[i, i] for i in range(len(W))])


def condition(W: Tensor) -> Tensor:
    """`κ_i = λ_max(M) |W_i|² / (W_iᵀ M W_i)`, with every row scaled to norm 1 first."""
    W = W.to(torch.float64)
    W = W / W.abs().max()
    M = W.T @ W
    units = torch.stack([row / row.abs().max() / torch.linalg.vector_norm(row / row.abs().max()) for row in W])
    return torch.linalg.eigvalsh(M)[-1] / torch.stack([u @ M @ u for u in units])


def regular_polygon(n: int) -> Tensor:
    """The vertices of a regular polygon on the unit circle, `[n, 2]`."""
    return torch.tensor(
        [[math.cos(2 * math.pi * k / n), math.sin(2 * math.pi * k / n)] for k in range(n)],
        dtype=torch.float64,
    )


def random_rotation(d: int, generator: torch.Generator) -> Tensor:
    """A random orthogonal matrix."""
    return torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=generator)).Q


def share_at_polytopes(capacity: Tensor) -> float:
    """Share of capacities within 0.02 of 1/2, 2/3, 3/4, 2/5 or 3/8, one by one."""
    near = [any(abs(C - value) <= 0.02 for value in (1 / 2, 2 / 3, 3 / 4, 2 / 5, 3 / 8)) for C in capacity.tolist()]
    return sum(near) / len(near)
