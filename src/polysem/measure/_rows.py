"""What can be measured: a tensor, or anything that hands out its rows block by block."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

BLOCK_BYTES = 8 * 2**20
"""Size of a block, counted in float64: small enough for the processor's cache, large enough for full speed."""

LARGEST_BLOCK_BYTES = 4 * BLOCK_BYTES
"""Size that no block exceeds by more than a row, so that memory stays bounded however long the rows are."""


@runtime_checkable
class RowBlocks(Protocol):
    """A matrix whose rows are features and that can be read block by block, as often as needed.

    Attributes:
        shape: `(n_features, d_hidden)`.
        dtype: floating-point dtype of the stored rows.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n_features, d_hidden)`."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point dtype of the stored rows."""
        ...

    def blocks(self) -> Iterator[Tensor]:
        """Yield consecutive blocks of rows `[n_rows, d_hidden]` from the first row to the last."""
        ...


@dataclass(frozen=True)
class TensorRows:
    """The rows of a tensor `[*batch, n_features, d_hidden]` in blocks of bounded size, without a copy."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the tensor."""
        return self.tensor.dtype

    def blocks(self) -> Iterator[Tensor]:
        """Yield views of consecutive rows."""
        *batch, n_features, d_hidden = self.tensor.shape
        step = block_rows(torch.Size(batch).numel() * d_hidden, d_hidden)
        for start in range(0, n_features, step):
            yield self.tensor[..., start : start + step, :]


def ahead(blocks: Iterator[Tensor]) -> Generator[Tensor, None, None]:
    """The same blocks, from the third on each of them made in another thread while the one before is used."""
    yield from islice(blocks, 2)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, blocks, None)
        while (block := waiting.result()) is not None:
            waiting = pool.submit(next, blocks, None)
            yield block


def block_rows(elements_per_row: int, d_hidden: int) -> int:
    """How many rows make a block: `BLOCK_BYTES` of float64, or twice `d_hidden` where that is more and still fits."""
    row_bytes = max(1, 8 * elements_per_row)
    return max(1, min(max(BLOCK_BYTES // row_bytes, 2 * d_hidden), LARGEST_BLOCK_BYTES // row_bytes))
