"""Capacity of directions in the space of the inputs, of which features are one basis among many."""

import torch
from jaxtyping import Float
from torch import Tensor

from polysem._checks import floating, matrix, require


def direction_capacity(
    response: Float[Tensor, "*batch n n"], directions: Float[Tensor, "*batch n_directions n"]
) -> Float[Tensor, "*batch n_directions"]:
    """How much of a dimension each direction of the inputs owns.

    `C_u = (uᵀRu)² / |Rᵀu|²`: the capacity that `u` has as a feature, in any orthonormal basis of the inputs that
    contains it. Along an axis it is the feature's own; every eigenvector of a symmetric `R` that is not ignored has 1.

    Args:
        response: `R`, how far readout i moves per unit of input j.
        directions: `u` as rows, of any length but 0.

    Returns:
        Capacities in [0, 1]; 0 where the readout along `u` sees nothing. Differentiable.

    Raises:
        TypeError: something that is no floating-point tensor.
        ValueError: shapes that do not fit, values that are not finite.

    Example:
        Two features that share a dimension evenly, and their sum, which is all that it holds:

        >>> R = torch.ones(2, 2)
        >>> direction_capacity(R, torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, -1.0]]))
        tensor([0.5000, 1.0000, 0.0000])

    Source: ours.
    """
    R, u = matrix("response", response), floating("directions", directions)
    n = R.shape[-1]
    require(R.shape[-2] == n, "shape of response", tuple(R.shape), "[..., n, n]")
    fits = u.ndim >= 2 and u.shape[-1] == n
    require(fits, "shape of directions", tuple(u.shape), f"[..., n_directions, n = {n}]")
    u = u / torch.linalg.vector_norm(u, dim=-1, keepdim=True)
    row = u @ R
    spent = row.square().sum(-1)
    sees = spent > 0
    return torch.where(sees, (row * u).sum(-1).square() / torch.where(sees, spent, 1.0), 0.0).clamp(max=1)
