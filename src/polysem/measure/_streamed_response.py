"""Response capacity of two matrices that are read block by block."""

import torch
from jaxtyping import Float
from torch import Tensor

from polysem._checks import require
from polysem.measure._capacity import Norm, warn_beyond
from polysem.measure._frame import LIMIT_DOUBLE, LIMIT_FACTOR, Spectrum, spectrum
from polysem.measure._prepared import PreparedRows, side_by_side
from polysem.measure._rows import RowBlocks


def streamed_response_capacity(
    embedding: Float[Tensor, "n_features d_hidden"] | RowBlocks,
    readout: Float[Tensor, "n_features d_hidden"] | RowBlocks,
    *,
    norm: Norm = "raw",
    scale: Tensor | None = None,
) -> Float[Tensor, " n_features"]:
    """Capacity of features that are embedded by one matrix and read by another, neither of them in memory.

    `C_i = R_ii² / Σ_j R_ij²` with `R = V Wᵀ`, as `response_capacity`: a pass over the embedding for `M = WᵀW`, then one
    over both; `O(N D²)` time, `O(D²)` memory beyond the result. Where float64 products are not enough the embedding is
    read once more for its triangular factor.

    Args:
        embedding: `W`, features as rows: a tensor or a source of row blocks.
        readout: `V`, readouts as rows; their scales do not matter.
        norm: policy for the embedding's rows.
        scale: activation scale of each feature `[n_features]`, multiplied to the embedding's rows after `norm`.

    Returns:
        Capacities in [0, 1], float64; 0 for zero rows of either.

    Raises:
        TypeError: an argument is neither.
        ValueError: shapes differ, or a NaN or infinity.

    Example:
        >>> W = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> V = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
        >>> [round(C, 12) for C in streamed_response_capacity(W, V).tolist()]
        [1.0, 0.8]

    Source: ours.
    """
    W, V = PreparedRows.of(embedding, norm, scale), PreparedRows.of(readout, "unit")
    require(V.shape == W.shape, "readout", V.shape, f"of the embedding's shape {W.shape}")
    result, condition = _measure(W, V, spectrum(W))
    beyond = ~(condition <= LIMIT_DOUBLE)
    if bool(beyond.any()):
        exact, condition = _measure(W, V, spectrum(W, exact=True))
        result = torch.where(beyond, exact, result)
        warn_beyond(beyond & ~(condition <= LIMIT_FACTOR), LIMIT_FACTOR)
    return result


def _measure(W: PreparedRows, V: PreparedRows, frame: Spectrum) -> tuple[Tensor, Tensor]:
    """Capacity of each readout, and its condition (0 for zero readouts, of which nothing needs to be known)."""
    results = [torch.zeros(0, dtype=torch.float64)]
    conditions = [torch.zeros(0, dtype=torch.float64)]
    for embedded, units in side_by_side(W, V):
        coordinates = frame.coordinates(units)
        results.append(frame.capacity(torch.linalg.vecdot(units, embedded), coordinates))
        conditions.append(torch.where((units != 0).any(-1), frame.condition(coordinates), 0.0))
    return torch.cat(results), torch.cat(conditions)


def row_cosines(
    first: Float[Tensor, "n_features d_hidden"] | RowBlocks, second: Float[Tensor, "n_features d_hidden"] | RowBlocks
) -> Float[Tensor, " n_features"]:
    """Cosine between each row of one matrix and the same row of another, both read block by block.

    Args:
        first: a tensor or a source of row blocks.
        second: of the same shape.

    Returns:
        Cosines in [-1, 1], float64; 0 where either row is zero.

    Raises:
        TypeError: an argument is neither.
        ValueError: shapes differ, or a NaN or infinity.

    Example:
        >>> row_cosines(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [0.6, 0.0]

    Source: ours.
    """
    one, other = PreparedRows.of(first, "unit"), PreparedRows.of(second, "unit")
    require(one.shape == other.shape, "second", other.shape, f"of the first's shape {one.shape}")
    pairs = (torch.linalg.vecdot(a, b) for a, b in side_by_side(one, other))
    return torch.cat([torch.zeros(0, dtype=torch.float64), *pairs]).clamp(-1, 1)
