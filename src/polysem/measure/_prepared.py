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
