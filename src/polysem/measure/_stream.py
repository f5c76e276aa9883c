"""Capacity of matrices that come in shards: sum the frame operator first, map rows afterwards."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from polysem._checks import matrix, require, whole
from polysem.measure._capacity import Norm, prepare, warn_beyond
from polysem.measure._frame import (
    LIMIT_DOUBLE,
    LIMIT_SINGLE,
    frame_operator,
    largest_eigenvalue_bound,
    polar,
    ratio,
)
from polysem.measure._rows import TensorRows


class CapacityStream:
    """Accumulates `M = Wᵀ W` over shards of rows, then gives the capacity of any rows among them.

    `C_i = |W_i|² / (u_iᵀ M u_i)` with `u_i = W_i / |W_i|`. Memory is `O(d_hidden²)` whatever the number of rows. The
    result does not depend on the sharding beyond rounding; `merge` is associative and commutative in the same sense,
    so that partial streams of several processes can be summed in any order.

    Accumulation error: an entry of `M` is off by at most `accumulation_error · Σ_i |W_ia W_ib|`; a capacity by about
    that times `κ_i = λ_max(M) |W_i|² / (W_iᵀ M W_i)` (`condition`). Rows with `κ_i > 1e8` (32 for a float32 stream)
    are counted in a RuntimeWarning: for those hold the matrix whole and use `capacity`.

    Args:
        d_hidden: length of a row.
        norm: `"raw"` takes rows as they are, `"unit"` divides each by its norm first.
        dtype: accumulation dtype, float64 or float32.
        device: where `M` is kept.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> W = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0]])
        >>> stream = CapacityStream(2)
        >>> for shard in W.split(1):
        ...     stream.update(shard)
        >>> stream.capacity(W).tolist()
        [0.5, 0.5, 1.0]

    Source: ours.
    """

    def __init__(
        self,
        d_hidden: int,
        *,
        norm: Norm = "raw",
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        self.d_hidden = whole("d_hidden", d_hidden, 0)
        require(dtype in (torch.float32, torch.float64), "dtype", dtype, "torch.float64 or torch.float32")
        self.norm = norm
        self.n_features = 0
        self._longest_sum = 0
        self._additions = 0
        self._operator = torch.zeros(self.d_hidden, self.d_hidden, dtype=dtype, device=device)
        prepare(self._operator, norm, None)  # names a wrong norm now, not at the first shard

    @property
    def frame_operator(self) -> Tensor:
        """A copy of `M = Σ W_iᵀ W_i` over the rows so far, `[d_hidden, d_hidden]`."""
        return self._operator.clone()

    @property
    def accumulation_error(self) -> float:
        """Bound on the error of an entry of `M`, relative to `Σ_i |W_ia W_ib|`: `u (longest block + additions)`."""
        return (self._longest_sum + self._additions) * torch.finfo(self._operator.dtype).eps / 2

    def update(self, rows: Float[Tensor, "n_rows d_hidden"], *, scale: Tensor | None = None) -> None:
        """Add a shard of rows; `scale` (`[n_rows]`) is multiplied to them, as in `capacity`."""
        for block in self._blocks(rows, scale):
            self._operator += frame_operator([block])
            self._longest_sum = max(self._longest_sum, len(block))
            self._additions += 1
        self.n_features += len(rows)
        if not bool(self._operator.diagonal().isfinite().all()):
            raise ValueError(f"rows must have squares that {self._operator.dtype} can hold: M overflowed")

    def merge(self, other: "CapacityStream") -> "CapacityStream":
        """Add what another stream has seen, and return this one; the other is left as it is."""
        for name in ("d_hidden", "norm"):
            mine, theirs = getattr(self, name), getattr(other, name)
            require(mine == theirs, f"other.{name}", theirs, f"equal to this stream's {mine!r}")
        self._operator += other._operator.to(self._operator)
        self.n_features += other.n_features
        self._longest_sum = max(self._longest_sum, other._longest_sum)
        self._additions += other._additions + 1
        return self

    def capacity(
        self, rows: Float[Tensor, "n_rows d_hidden"], *, scale: Tensor | None = None
    ) -> Float[Tensor, " n_rows"]:
        """Capacity of rows, among all the rows that were added; dtype at least float32."""
        limit = LIMIT_DOUBLE if self._operator.dtype == torch.float64 else LIMIT_SINGLE
        top = largest_eigenvalue_bound(self._operator)
        results, beyond = [rows.new_zeros(0)], [torch.zeros(0, dtype=torch.bool, device=rows.device)]
        for block in self._blocks(rows, scale):
            norm, spent = self._spent(block)
            results.append(ratio(norm, spent))
            beyond.append(~(top <= limit * spent) & (norm > 0))
        warn_beyond(torch.cat(beyond), limit)
        return torch.cat(results).to(torch.promote_types(rows.dtype, torch.float32))

    def condition(
        self, rows: Float[Tensor, "n_rows d_hidden"], *, scale: Tensor | None = None
    ) -> Float[Tensor, " n_rows"]:
        """`κ_i`, from above, within a factor `rank^(1/8)`: how much the error of `M` grows; infinite for zero rows."""
        top = largest_eigenvalue_bound(self._operator)
        empty = self._operator.new_zeros(0)
        return top / torch.cat([empty, *(self._spent(block)[1] for block in self._blocks(rows, scale))])

    def state_dict(self) -> dict[str, Any]:
        """Everything the stream holds, as tensors, numbers and strings."""
        return {
            "frame_operator": self.frame_operator,
            "n_features": self.n_features,
            "longest_sum": self._longest_sum,
            "additions": self._additions,
            "norm": self.norm,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state of another stream of the same `d_hidden` and `norm`."""
        operator = state["frame_operator"]
        require(
            operator.shape == self._operator.shape,
            "frame_operator",
            tuple(operator.shape),
            "of this d_hidden",
        )
        require(state["norm"] == self.norm, "norm", state["norm"], f"this stream's {self.norm!r}")
        self._operator = operator.to(self._operator).clone()
        self.n_features = state["n_features"]
        self._longest_sum = state["longest_sum"]
        self._additions = state["additions"]

    def _blocks(self, rows: Tensor, scale: Tensor | None) -> Iterator[Tensor]:
        """The rows in blocks of the accumulation dtype, after the norm policy."""
        shape = tuple(matrix("rows", rows).shape)
        require(shape[1:] == (self.d_hidden,), "rows", shape, f"of shape [n_rows, {self.d_hidden}]")
        start = 0
        for block in TensorRows(rows.detach()).blocks():
            part = None if scale is None else scale[start : start + len(block)]
            yield prepare(block.to(self._operator), self.norm, part)
            start += len(block)

    def _spent(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """`|W_i|` and `u_iᵀ M u_i`."""
        norm, units = polar(block)
        return norm, torch.linalg.vecdot(units @ self._operator, units)
