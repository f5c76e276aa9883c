"""What heads of attention read from the residual stream and write to it, without a basis of their own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from polysem.measure import block_rows
from polysem.networks._stored import StoredMatrix

Stream = Literal["reads", "writes"]
"""Whether features are directions that are read from the residual stream, or written to it."""


def head_directions(
    value: Float[Tensor, "d_values d_model"],
    output: Float[Tensor, "d_outputs d_model"],
    n_heads: int,
    stream: Stream,
) -> Float[Tensor, "d_outputs d_model"]:
    """The singular directions of every head's map `W_Oᵀ W_V`, scaled by its singular values, largest first.

        W_Oᵀ W_V = U Σ Vᵀ:  reads = Σ Vᵀ,  writes = Σ Uᵀ

    A head's `d_head` inner coordinates may be rotated at will, and its values made larger and its outputs smaller,
    without changing what it does; these directions stay. Both thin factors are made triangular first.

    Args:
        value: rows are what inner coordinates read, head below head; heads of values may serve several outputs.
        output: rows are what inner coordinates write, head below head.
        n_heads: number of heads of `output`.
        stream: which directions.

    Returns:
        Rows, head below head, in the wider dtype of both, at least float32.

    Source: ours; the map after Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
    """
    d_head = len(output) // n_heads
    served = n_heads * d_head // len(value)
    dtype = torch.promote_types(torch.promote_types(value.dtype, output.dtype), torch.float32)
    directions = output.new_empty(output.shape, dtype=dtype)
    for head in range(n_heads):
        rows = slice(head * d_head, (head + 1) * d_head)
        first = head // served * d_head
        q_value, r_value = torch.linalg.qr(value[first : first + d_head].double().mT)
        q_output, r_output = torch.linalg.qr(output[rows].double().mT)
        u, scale, v = torch.linalg.svd(r_output @ r_value.mT)
        basis = q_value @ v.mT if stream == "reads" else q_output @ u
        n_directions = basis.shape[1]  # fewer than d_head where d_model is smaller
        directions[rows] = 0
        directions[rows][:n_directions] = (basis * scale[:n_directions]).mT.to(dtype)
    return directions


@dataclass(frozen=True, eq=False)
class HeadRows:
    """The directions of all heads of a layer as features; computed from two matrices of a file when they are read.

    Attributes:
        value, output: the stored matrices.
        value_rows: from the stored value matrix and the size of a head to rows, head below head.
        output_features: whether the stored `"rows"` or `"columns"` of the output are the heads' inner coordinates.
        n_heads, d_head: how many heads there are, and how many directions each has.
        d_model: width of the residual stream.
        stream: which directions.
    """

    value: StoredMatrix
    output: StoredMatrix
    value_rows: Callable[[Tensor, int], Tensor]
    output_features: Literal["rows", "columns"]
    n_heads: int
    d_head: int
    d_model: int
    stream: Stream

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n_heads * d_head, d_model)`."""
        return self.n_heads * self.d_head, self.d_model

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the directions."""
        return torch.promote_types(torch.promote_types(self.value.dtype, self.output.dtype), torch.float32)

    def tensor(self) -> Tensor:
        """All directions; two matrices of the layer are in memory for it."""
        output = self.output.tensor()
        rows = output if self.output_features == "rows" else output.mT
        return head_directions(self.value_rows(self.value.tensor(), self.d_head), rows, self.n_heads, self.stream)

    def blocks(self) -> Iterator[Tensor]:
        """Yield consecutive blocks of rows `[n_rows, d_model]` from the first row to the last."""
        yield from torch.split(self.tensor(), block_rows(self.d_model, self.d_model))
