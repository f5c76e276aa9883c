"""NumPy's `.npy` files and `.npz` archives, read where the numbers lie; nothing is unpickled."""

import math
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import FileIO
from typing import IO, Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.lib import format as npy

from polysem.networks._bytes import ByteSource, FileBytes, UnpackedBytes, WeightFileError, first_line
from polysem.networks._stored import Content, Entry, NoMatrix, raw_entry
from polysem.networks._zip import open_zip, unzipping

_DTYPES = {2: torch.float16, 4: torch.float32, 8: torch.float64}
_HARMLESS = 64 * 2**20
_LARGEST_RATIO = 100
_PICKLED = "pickled Python objects, which are never unpickled"
_LOCAL_HEADER = struct.Struct("<26x2H")  # of a zip member; the lengths of its name and of its extra field follow it


@runtime_checkable
class _Stream(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...

    def tell(self) -> int: ...


@dataclass(frozen=True)
class _Header:
    """What the header of an `.npy` stream declares; `length` is the header's own, in bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    column_major: bool
    length: int


def read_npy(source: FileBytes) -> Content:
    """The one array of an `.npy` file, named after the file."""
    what = str(source.path)
    with source.open() as file:
        header = _header(file, what)
    if header.dtype.hasobject:
        raise WeightFileError(f"{what}: holds {_PICKLED}")
    return Content([_entry(source.path.stem, header, source, 0, source.size, what)])


def read_npz(source: FileBytes) -> Content:
    """The arrays of an `.npz` archive; compressed ones are unpacked when they are first read."""
    return Content(_arrays(source))


def _arrays(source: FileBytes) -> Iterator[Entry]:
    with open_zip(source) as archive, source.open() as file:
        for info in archive.infolist():
            name, what = info.filename.removesuffix(".npy"), f"{source.path}: the array {info.filename!r}"
            if name == info.filename:
                yield name, NoMatrix("not an .npy array")
                continue
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise WeightFileError(f"{what} is compressed by a method that NumPy never uses")
            with unzipping(what), archive.open(info) as stream:
                header = _header(stream, what)
            if header.dtype.hasobject:
                yield name, NoMatrix(_PICKLED)
            elif info.compress_type == zipfile.ZIP_STORED:
                start = _start(file, info)
                if start + info.file_size > source.size or info.compress_size != info.file_size:
                    raise WeightFileError(f"{what} declares more bytes than the archive has")
                yield _entry(name, header, source, start, info.file_size, what)
            else:
                unpacked = UnpackedBytes(source.path, partial(_unzipped, source, info, what), info.file_size)
                yield _entry(name, header, unpacked, 0, info.file_size, what)


def _header(stream: _Stream, what: str) -> _Header:
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, column_major, dtype = read(stream)
        if min(shape, default=0) < 0:
            raise ValueError(f"negative shape {shape}")
    except Exception as error:  # the header is parsed as a Python literal; a damaged one can fail in any way
        raise WeightFileError(f"{what}: a damaged or truncated .npy header ({first_line(error)})") from error
    return _Header(shape, dtype, column_major, stream.tell())


def _entry(name: str, header: _Header, source: ByteSource, start: int, size: int, what: str) -> Entry:
    """The array whose header begins at `start`: header and numbers together must be `size` bytes long."""
    declared, present = math.prod(header.shape) * header.dtype.itemsize, size - header.length
    if declared != present:
        raise WeightFileError(
            f"{what}: the header declares {header.dtype} of shape {header.shape}, {declared} bytes, "
            f"but {present} follow{' (truncated)' if present < declared else ''}"
        )
    dtype = _DTYPES.get(header.dtype.itemsize) if header.dtype.kind == "f" else None
    return raw_entry(
        name,
        header.shape,
        dtype,
        header.dtype.name,
        source,
        start + header.length,
        column_major=header.column_major,
        big_endian=header.dtype == header.dtype.newbyteorder(">"),
    )


def _start(file: FileIO, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a stored member begin."""
    file.seek(info.header_offset)
    name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return info.header_offset + _LOCAL_HEADER.size + int(name) + int(extra)


@contextmanager
def _unzipped(source: FileBytes, info: zipfile.ZipInfo, what: str) -> Iterator[IO[bytes]]:
    """The stream of a compressed member: weights hardly shrink when they are compressed, bombs a thousand times."""
    if info.file_size > max(_HARMLESS, _LARGEST_RATIO * info.compress_size):
        raise WeightFileError(
            f"{what} would unpack from {info.compress_size} to {info.file_size} bytes; beyond {_HARMLESS} bytes at "
            f"most {_LARGEST_RATIO} times as much is unpacked (numpy.savez stores it uncompressed)"
        )
    with unzipping(what), open_zip(source) as archive, archive.open(info) as stream:
        yield stream
