"""The row of a matrix that points most nearly along each row of another, found block by block."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysem._checks import require
from polysem.measure._prepared import ChosenRows, PreparedRows
from polysem.measure._rows import RowBlocks

_HELD_BYTES = 2**25
"""Rows that are searched for at once: the other matrix is read once for each such group."""


@dataclass(frozen=True)
class Nearest:
    """The nearest row of another matrix, or another row of the same, by |cosine|.

    Attributes:
        feature: the rows that were searched for `[n]`, ascending.
        index: the nearest row of each; -1 for a zero row, and where there is no other.
        cosine: between the two, with its sign; 0 where there is none.
    """

    feature: Int[Tensor, " n"]
    index: Int[Tensor, " n"]
    cosine: Float[Tensor, " n"]


def nearest(
    W: Float[Tensor, "n_features d_hidden"] | RowBlocks,
    others: Float[Tensor, "n_others d_hidden"] | RowBlocks | None = None,
    *,
    features: Sequence[int] | Int[Tensor, " n"] | None = None,
) -> Nearest:
    """Find the row that points most nearly along each row, or against it.

        index_i = argmax_j |cos(W_i, others_j)|

    Every pair is looked at: `O(n n_others D)` time, in float32 unless both are stored in float64; memory of bounded
    size, whatever the matrices (a group of rows of at most 32 MiB, a block, and the cosines between them).

    Args:
        W: directions as rows; a tensor or a source of row blocks.
        others: where to look; by default among the other rows of `W`.
        features: the rows of `W` to search for; by default all.

    Returns:
        The nearest row of each, and the cosine.

    Raises:
        TypeError: an argument is neither a tensor nor a source of row blocks.
        ValueError: rows of different lengths, rows that `W` does not have, or a NaN or infinity.

    Example:
        >>> found = nearest(torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0]]))
        >>> found.index.tolist(), found.cosine.tolist()
        ([1, 0, 0], [-1.0, -1.0, 0.0])

    Source: ours.
    """
    rows, targets = PreparedRows.of(W, "unit"), PreparedRows.of(W if others is None else others, "unit")
    require(targets.shape[1] == rows.shape[1], "others", targets.shape, f"with rows of length {rows.shape[1]}")
    wanted = torch.arange(rows.shape[0]) if features is None else torch.as_tensor(features).reshape(-1)
    known = not wanted.is_floating_point() and bool(((wanted >= 0) & (wanted < rows.shape[0])).all())
    require(known, "features", features, f"rows from 0 to {rows.shape[0] - 1}")
    keep = torch.zeros(rows.shape[0], dtype=torch.bool)
    keep[wanted] = True
    wanted = keep.nonzero()[:, 0]
    both = {rows.dtype, targets.dtype} == {torch.float64}
    dtype = torch.float64 if both else torch.float32
    indices, cosines = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, dtype=dtype)]
    start = 0
    for held in _held(ChosenRows(rows, keep), dtype):
        own = wanted[start : start + len(held)] if others is None else None
        index, cosine = _search(held, targets, own)
        indices.append(index)
        cosines.append(cosine)
        start += len(held)
    return Nearest(wanted, torch.cat(indices), torch.cat(cosines).clamp(-1, 1).double())


def _held(rows: RowBlocks, dtype: torch.dtype) -> Iterator[Tensor]:
    """The rows in groups of bounded size."""
    most = max(1, _HELD_BYTES // (dtype.itemsize * max(1, rows.shape[1])))
    group: list[Tensor] = []
    for block in rows.blocks():
        for start in range(0, len(block), most):
            part = block[start : start + most].to(dtype)
            if group and sum(map(len, group)) + len(part) > most:
                yield torch.cat(group)
                group = []
            group.append(part)
    if group:
        yield torch.cat(group)


def _search(held: Tensor, targets: RowBlocks, own: Tensor | None) -> tuple[Tensor, Tensor]:
    """The nearest target of each row of a group, `own` being the rows' places among the targets."""
    index = torch.full((len(held),), -1)
    best, cosine, start = held.new_full((len(held),), -0.5), held.new_zeros(len(held)), 0
    for block in filter(len, targets.blocks()):
        overlap = held @ block.to(held).mT
        size = overlap.abs()
        size[:, (block == 0).all(-1)] = -1.0  # a zero row points nowhere
        if own is not None:
            here = ((own >= start) & (own < start + len(block))).nonzero()[:, 0]
            size[here, own[here] - start] = -1.0  # nobody is nearest to itself
        size, place = size.max(-1)
        better = size > best
        index = torch.where(better, place + start, index)
        cosine = torch.where(better, overlap.gather(-1, place[:, None])[:, 0], cosine)
        best = torch.maximum(best, size)
        start += len(block)
    there = (held != 0).any(-1)
    return torch.where(there, index, -1), cosine
