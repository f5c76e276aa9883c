"""Rows of one matrix as they are measured: after the norm policy, in float64, checked."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from polysem._checks import finite_rows, matrix, require
from polysem.measure._capacity import Norm, prepare
from polysem.measure._rows import RowBlocks, TensorRows


@dataclass(frozen=True)
class PreparedRows:
    """Rows after the norm policy, in float64, checked block by block."""

    rows: RowBlocks
    norm: Norm
    scale: Tensor | None = None

    @classmethod
    def of(cls, W: object, norm: Norm, scale: Tensor | None = None) -> "PreparedRows":
        """The rows of a matrix, or of a source of row blocks."""
        if isinstance(W, Tensor):
            require(W.ndim == 2, "W", tuple(W.shape), "a matrix [n_features, d_hidden]")
            return cls(TensorRows(matrix("W", W)), norm, scale)
        if not isinstance(W, RowBlocks):
            raise TypeError(f"W must be a torch.Tensor or a source of row blocks, got {type(W).__name__}")
        return cls(W, norm, scale)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n_features, d_hidden)`."""
        return self.rows.shape

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point dtype of the rows before."""
        return self.rows.dtype

    def blocks(self) -> Iterator[Tensor]:
        """Yield consecutive blocks of rows `[n_rows, d_hidden]` from the first row to the last."""
        start = 0
        for block in self.rows.blocks():
            finite_rows("W", block, start)
            part = None if self.scale is None else self.scale[start : start + len(block)]
            yield prepare(block.detach().to(torch.float64), self.norm, part)
            start += len(block)


@dataclass(frozen=True)
class ChosenRows:
    """Some rows of a source, in their order.

    Attributes:
        rows: the source.
        keep: which of its rows, bool `[n_features]`.
    """

    rows: RowBlocks
    keep: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n_kept, d_hidden)`."""
        return int(self.keep.sum()), self.rows.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point dtype of the rows."""
        return self.rows.dtype

    def blocks(self) -> Iterator[Tensor]:
        """Yield what is kept of each block, as far as anything is."""
        start = 0
        for block in self.rows.blocks():
            kept = block[self.keep[start : start + len(block)]]
            start += len(block)
            if len(kept):
                yield kept


def side_by_side(first: RowBlocks, second: RowBlocks) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of equally many consecutive rows of two sources with the same number of rows."""
    others = second.blocks()
    rest = torch.zeros(0)
    for block in first.blocks():
        while len(block):
            if not len(rest):
                rest = next(others)
            n = min(len(block), len(rest))
            yield block[:n], rest[:n]
            block, rest = block[n:], rest[n:]
