"""Matrices of weight files: read whole, or block by block with rows or columns as features."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from polysem._checks import require
from polysem.measure import RowBlocks, block_rows
from polysem.networks._bytes import ByteSource, FileBytes, Read

DTYPES = frozenset(
    {
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.float8_e4m3fnuz,
        torch.float8_e5m2,
        torch.float8_e5m2fnuz,
    }
)
"""The real floating-point types that are read."""

Entry = tuple[str, "StoredMatrix | NoMatrix"]
"""A name in a file, and its matrix or what it is instead."""

_GROUP = 2**20
"""Bytes of lines that are read at once to cut columns from."""

_SKIP = 8 * 2**10
"""A gap of fewer bytes is read through rather than jumped over: a jump costs about as much as 6 KiB."""


@dataclass(frozen=True)
class Content:
    """What a reader finds in a file: its entries in order, and what the file says about itself."""

    entries: Iterable[Entry]
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class NoMatrix:
    """An entry that is no matrix that can be read: why, and how to read it whole if it holds floating-point numbers."""

    reason: str
    read: Callable[[], Tensor] | None = None


@dataclass(frozen=True, eq=False)
class StoredMatrix(ABC):
    """A matrix in a weight file, not yet in memory.

    Attributes:
        name: its name in the file.
        shape: `(n_rows, n_columns)` as stored; which of the two are features is for the caller to say.
        dtype: its floating-point type.
    """

    name: str
    shape: tuple[int, int]
    dtype: torch.dtype

    @abstractmethod
    def tensor(self) -> Float[Tensor, "n_rows n_columns"]:
        """The whole matrix in memory, as stored.

        Returns:
            A tensor `[n_rows, n_columns]` of the matrix's own dtype.

        Raises:
            WeightFileError: the file cannot be read any more, or has changed since it was loaded.

        Source: ours.
        """

    @abstractmethod
    def _pieces(self, across: bool, step: int) -> Iterator[Tensor]:
        """Consecutive groups of `step` rows, or of `step` columns as rows if `across`."""

    def rows_of(self, features: Literal["rows", "columns"]) -> RowBlocks:
        """The features one below the other, block by block, in memory bounded whatever the size of the file.

            "rows": W = stored          "columns": W = storedᵀ

        Args:
            features: which of the stored rows or columns are features.

        Returns:
            Blocks `[n, d_hidden]` of the matrix `W[n_features, d_hidden]`; `blocks()` may be called again.

        Raises:
            ValueError: `features` is neither.
            WeightFileError: on reading, if the file cannot be read any more or has changed.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> import numpy as np
            >>> from polysem.networks import load
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = Path(folder) / "W.npy"
            ...     np.save(path, np.arange(6.0).reshape(2, 3))
            ...     columns = load(path)["W"].rows_of("columns")
            ...     columns.shape, next(columns.blocks()).tolist()
            ((3, 2), [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]])

        Source: ours.
        """
        require(features in ("rows", "columns"), "features", features, "'rows' or 'columns'")
        return _FeatureRows(self, across=features == "columns")


@dataclass(frozen=True, eq=False)
class _FeatureRows:
    """The rows, or the columns if `across`, of a stored matrix as features."""

    matrix: StoredMatrix
    across: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n_features, d_hidden)`."""
        return self.matrix.shape[::-1] if self.across else self.matrix.shape

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point dtype of the stored rows."""
        return self.matrix.dtype

    def blocks(self) -> Iterator[Tensor]:
        """Yield consecutive blocks of rows `[n_rows, d_hidden]` from the first row to the last."""
        d_hidden = self.shape[1]
        yield from self.matrix._pieces(self.across, block_rows(d_hidden, d_hidden))


@dataclass(frozen=True, eq=False)
class HeldMatrix(StoredMatrix):
    """A matrix that a library has already opened as a tensor, in memory or mapped from the file."""

    held: Tensor
    source: FileBytes

    def tensor(self) -> Float[Tensor, "n_rows n_columns"]:
        """The whole matrix in memory, as stored."""
        return copied(self.held, self.source)

    def _pieces(self, across: bool, step: int) -> Iterator[Tensor]:
        rows = self.held.mT if across else self.held
        for start in range(0, len(rows), step):
            yield copied(rows[start : start + step], self.source)


@dataclass(frozen=True, eq=False)
class RawMatrix(StoredMatrix):
    """A matrix stored as plain numbers, one line after the other, from an offset on.

    Attributes:
        source: the bytes.
        offset: where the first number begins.
        column_major: whether the lines are the columns, not the rows.
        big_endian: whether the most significant byte comes first.
    """

    source: ByteSource
    offset: int
    column_major: bool = False
    big_endian: bool = False

    def tensor(self) -> Float[Tensor, "n_rows n_columns"]:
        """The whole matrix in memory, as stored."""
        with self.source.reader() as read:
            lines = self._read_lines(read, 0, self._lines[0])
        return lines.mT if self.column_major else lines

    def _pieces(self, across: bool, step: int) -> Iterator[Tensor]:
        cut = across != self.column_major
        n_pieces = self._lines[1 if cut else 0]
        take = self._cut_lines if cut else self._read_lines
        with self.source.reader() as read:
            for start in range(0, n_pieces, step):
                yield take(read, start, min(start + step, n_pieces))

    @property
    def _lines(self) -> tuple[int, int]:
        """Number of lines and numbers in a line."""
        n_rows, n_columns = self.shape
        return (n_columns, n_rows) if self.column_major else (n_rows, n_columns)

    def _read_lines(self, read: Read, start: int, stop: int) -> Tensor:
        """Lines from `start` to `stop`: one contiguous read."""
        length = self._lines[1]
        lines = np.empty((stop - start, length), self._stored)
        read(self.offset + start * length * self.dtype.itemsize, _bytes_of(lines))
        native = lines if lines.dtype.isnative else lines.byteswap(inplace=True).view(_native(lines))
        return torch.from_numpy(native).view(self.dtype)

    def _cut_lines(self, read: Read, start: int, stop: int) -> Tensor:
        """The numbers from `start` to `stop` of every line, transposed: groups of lines are read and cut."""
        n_lines, length = self._lines
        itemsize = self.dtype.itemsize
        jump = (length - (stop - start)) * itemsize >= _SKIP
        first, last = (start, stop) if jump else (0, length)
        width = (last - first) * itemsize
        group = np.empty((max(1, min(n_lines, _GROUP // width)), last - first), self._stored)
        buffer = _bytes_of(group)
        result = np.empty((stop - start, n_lines), _native(group))
        for line in range(0, n_lines, len(group)):
            n = min(len(group), n_lines - line)
            where = self.offset + (line * length + first) * itemsize
            if jump:
                for i in range(n):
                    read(where + i * length * itemsize, buffer[i * width : (i + 1) * width])
            else:
                read(where, buffer[: n * width])
            result[:, line : line + n] = group[:n, start - first : stop - first].T
        return torch.from_numpy(result).view(self.dtype)

    @property
    def _stored(self) -> np.dtype[Any]:
        """Whole numbers of the stored size and byte order: NumPy moves them without knowing their meaning."""
        return np.dtype(f"{'>' if self.big_endian else '<'}i{self.dtype.itemsize}")


def _native(array: npt.NDArray[Any]) -> np.dtype[Any]:
    return array.dtype.newbyteorder("=")


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def copied(held: Tensor, source: FileBytes) -> Tensor:
    """A copy of what a library holds, if the file is still the one that was opened: it may be mapped."""
    with source.open():
        return held.clone(memory_format=torch.contiguous_format)


def raw_entry(
    name: str,
    shape: tuple[int, ...],
    dtype: torch.dtype | None,
    dtype_name: str,
    source: ByteSource,
    offset: int,
    *,
    column_major: bool = False,
    big_endian: bool = False,
) -> Entry:
    """The entry of an array stored as plain numbers, the last axis (the first if `column_major`) running fastest."""
    reason = no_matrix(shape, dtype, dtype_name)
    if dtype is None or dtype not in DTYPES:
        return name, NoMatrix(reason or dtype_name)
    if reason is None:
        return name, RawMatrix(name, (shape[0], shape[1]), dtype, source, offset, column_major, big_endian)
    line = RawMatrix(name, (1, math.prod(shape)), dtype, source, offset, big_endian=big_endian)

    def read() -> Tensor:
        if column_major:
            return line.tensor().reshape(shape[::-1]).permute(*reversed(range(len(shape))))
        return line.tensor().reshape(shape)

    return name, NoMatrix(reason, read)


def no_matrix(shape: tuple[int, ...], dtype: torch.dtype | None, dtype_name: str) -> str | None:
    """The reason why an array is no matrix that can be read, if it is none."""
    reasons = []
    if len(shape) != 2:
        reasons.append(f"{len(shape)}-D of shape {shape}")
    if dtype not in DTYPES:
        reasons.append(dtype_name)
    return ", ".join(reasons) or None
