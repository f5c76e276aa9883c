"""An explicit embedding that attains an allocation: one dimension for each pure feature, a tight frame for the rest."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks
from polysem.theory._allocation import Allocation

ROUNDING = 1e-9
"""Largest distance from a whole number, and from equal scales, that counts as rounding."""

END = 1e-12
"""Capacities closer than this to 0 or 1 count as 0 or 1."""


def embed(allocation: Allocation, d_hidden: int) -> Float[Tensor, "n_features d_hidden"]:
    """An embedding whose capacities are those of the allocation.

        |W_i|² = a_i,   |W_i|⁴ / Σ_j (W_i · W_j)² = C_i

    Each pure feature takes a dimension of its own. The impure ones, whose optimal `a_i = λ C_i` share one λ,
    span `k = Σ impure C_i` dimensions as a tight frame, `W_blockᵀ W_block = λ I`: a projection of rank k with
    diagonal C, made from the diagonal (1, ..., 1, 0, ..., 0) by a chain of n − 1 plane rotations, each of which
    gives one row its norm. Ignored features have zero rows. Time and memory are those of the result.

    Args:
        allocation: one allocation (no batch axes) whose impure capacities sum to a whole number, as at a whole
            total. Without squared norms, as from curves, `a_i = C_i`.
        d_hidden: number of dimensions, at least the total capacity.

    Returns:
        Float64 embedding `[n_features, d_hidden]`, features as rows.

    Raises:
        ValueError: a batch of allocations, a total that is not whole, `d_hidden` below it, or squared norms that
            are not in proportion to the capacities of the impure features.

    Example:
        >>> from polysem.theory import allocate, embed
        >>> W = embed(allocate([1.0, 1.0], kurtosis=5.0, total=1), d_hidden=1)
        >>> W.square()
        tensor([[0.6667],
                [0.6667]], dtype=torch.float64)

    Source: ours, by the Schur–Horn theorem; the chain of rotations after Dhillon, Heath, Sustik and Tropp 2005.
    """
    capacity = allocation.capacity
    if capacity.ndim != 1:
        raise ValueError(f"allocation must be a single one, got batch axes {list(capacity.shape[:-1])}")
    d_hidden = _checks.whole("d_hidden", d_hidden, minimum=0)
    squared_norm = capacity if allocation.squared_norm is None else allocation.squared_norm
    pure = capacity >= 1 - END
    impure = (capacity > END) & ~pure

    shared = capacity[impure].sum().item()
    rank = round(shared)
    whole = abs(shared - rank) <= ROUNDING * max(1, rank)
    _checks.require(whole, "total capacity of allocation", capacity.sum().item(), "a whole number")
    n_pure = int(pure.sum())
    _checks.require(d_hidden >= n_pure + rank, "d_hidden", d_hidden, f"at least the total, {n_pure + rank}")

    W = torch.zeros(len(capacity), d_hidden, dtype=torch.float64, device=capacity.device)
    own = pure.nonzero().squeeze(-1)
    W[own, torch.arange(n_pure, device=W.device)] = squared_norm[pure].sqrt()
    if rank:
        scale = squared_norm[impure] / capacity[impure]
        common = bool((scale.max() - scale.min()) <= ROUNDING * scale.max())
        _checks.require(common, "squared_norm / capacity of allocation", scale, "equal for impure features")
        diagonal = capacity[impure] + (rank - shared) / int(impure.sum())
        frame = _tight_frame(diagonal.cpu().numpy(), rank)
        rows = torch.from_numpy(frame).to(W.device) * scale.sqrt().unsqueeze(-1)
        W[impure, n_pure : n_pure + rank] = rows
    return W


def _tight_frame(diagonal: np.ndarray, rank: int) -> np.ndarray:
    """Orthonormal columns `[n, rank]` whose rows have the given squared norms, which sum to `rank`.

    One row is carried along. At each step it meets a fresh row, a unit vector while it is too short for the next
    place and a zero row when it is too long, both orthogonal to it; a rotation of the two gives one of them the
    norm of that place, and the other is carried on. What is left always suffices, as the sums agree.
    """
    frame = np.zeros((len(diagonal), rank))
    carried = np.zeros(rank)
    carried[0] = 1.0
    length, used, zeros = 1.0, 1, len(diagonal) - rank
    for row, wanted in enumerate(diagonal[:-1]):
        lengthen = used < rank and (length <= wanted or zeros == 0)
        fresh = np.zeros(rank)
        if lengthen:
            fresh[used] = 1.0
            used += 1
        else:
            zeros -= 1
        other = float(lengthen)
        cosine_squared = min(1.0, max(0.0, (wanted - other) / (length - other)))
        cosine, sine = cosine_squared**0.5, (1 - cosine_squared) ** 0.5
        frame[row] = cosine * carried + sine * fresh
        carried = cosine * fresh - sine * carried
        length = length + other - wanted
    frame[-1] = carried
    return frame
