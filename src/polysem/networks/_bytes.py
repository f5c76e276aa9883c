"""Bytes of a file by offset, without mapping it; a file that changes under the reader is an error."""

import json
import os
import shutil
import stat
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import IO, Any

Read = Callable[[int, memoryview], None]
"""Fill the buffer with the bytes that start at the offset."""

LARGEST_DIRECTORY = 16 * 2**20
"""Most bytes that are read of what lists a file's content: a header, an index, the directory of an archive."""

_CHUNK = 2**20


class WeightFileError(ValueError):
    """A weight file cannot be used; the message is one line that names the path and what is wrong.

    Example:
        >>> from polysem.networks import load
        >>> load("no_such_model.npy")
        Traceback (most recent call last):
            ...
        polysem.networks._bytes.WeightFileError: no_such_model.npy: no such file
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


@dataclass(frozen=True)
class FileBytes:
    """The bytes of a regular file as they were when it was first looked at.

    Attributes:
        path: where the file lies.
        size: its length in bytes.
        modified: its time of modification in nanoseconds.
    """

    path: Path
    size: int
    modified: int

    @classmethod
    def of(cls, path: Path) -> "FileBytes":
        """Look at a file; whatever is not a regular file is an error."""
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            raise _cannot_read(path, error) from error
        if not stat.S_ISREG(status.st_mode):
            raise WeightFileError(f"{path}: not a regular file")
        return cls(path, status.st_size, status.st_mtime_ns)

    def whole(self, what: str) -> bytes:
        """All of a small file: `what` may have `LARGEST_DIRECTORY` bytes."""
        if self.size > LARGEST_DIRECTORY:
            raise WeightFileError(
                f"{self.path}: {what} of {self.size} bytes, where at most {LARGEST_DIRECTORY} are read"
            )
        content = bytearray(self.size)
        with self.reader() as read:
            read(0, memoryview(content))
        return bytes(content)

    @contextmanager
    def open(self) -> Iterator[FileIO]:
        """The open file; an error if it is no longer the one that was looked at."""
        try:
            file = self.path.open("rb", buffering=0)
        except OSError as error:
            raise _cannot_read(self.path, error) from error
        with file:
            status = os.fstat(file.fileno())
            if (status.st_size, status.st_mtime_ns) != (self.size, self.modified):
                raise WeightFileError(f"{self.path}: the file has changed since it was loaded; load it again")
            yield file

    @contextmanager
    def reader(self) -> Iterator[Read]:
        """Open the bytes for reading."""
        with self.open() as file:

            def read(offset: int, buffer: memoryview) -> None:
                _fill(file, offset, buffer, self.path)

            yield read


class UnpackedBytes:
    """Bytes that are stored compressed: unpacked once, at the first reading, to a file that has no name.

    They may take half of the free space of the temporary folder, no more.

    Args:
        path: the file that holds them, for messages.
        stream: opens the stream of unpacked bytes.
        size: how many bytes the stream must give.
    """

    def __init__(self, path: Path, stream: Callable[[], AbstractContextManager[IO[bytes]]], size: int) -> None:
        self._path = path
        self._stream = stream
        self._size = size
        self._file: FileIO | None = None
        self._lock = Lock()

    @contextmanager
    def reader(self) -> Iterator[Read]:
        """Open the bytes for reading."""
        with self._lock:
            if self._file is None:
                self._file = self._unpack()
            file = self._file

        def read(offset: int, buffer: memoryview) -> None:
            with self._lock:
                _fill(file, offset, buffer, self._path)

        yield read

    def _unpack(self) -> FileIO:
        try:
            free = shutil.disk_usage(tempfile.gettempdir()).free
            if self._size > free // 2:
                raise WeightFileError(
                    f"{self._path}: a compressed array of {self._size} bytes, more than half of the {free} that are "
                    f"free in {tempfile.gettempdir()}; TMPDIR can name another folder"
                )
            file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        except OSError as error:
            raise _cannot_unpack(self._path, error) from error
        closing = weakref.finalize(self, file.close)
        try:
            with self._stream() as stream:
                length = 0
                while length <= self._size and (chunk := stream.read(_CHUNK)):
                    length += _write(file, chunk, self._path)
            if length != self._size:
                raise WeightFileError(
                    f"{self._path}: a compressed array does not unpack to the {self._size} bytes it declares"
                )
        except WeightFileError:
            closing()
            raise
        return file


def parse_json(text: bytes) -> Any:
    """What JSON says; a name that occurs twice in an object is a ValueError, and so is nesting beyond all use."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"two entries have the name {twice!r}")
    return unique


ByteSource = FileBytes | UnpackedBytes
"""Bytes that can be read from any offset, as often as needed."""


def first_line(error: Exception) -> str:
    """What another library says is wrong, shortened to its first line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _write(file: FileIO, chunk: bytes, path: Path) -> int:
    view = memoryview(chunk)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise _cannot_unpack(path, error) from error
    return len(chunk)


def _fill(file: FileIO, offset: int, buffer: memoryview, path: Path) -> None:
    try:
        file.seek(offset)
        done = 0
        while done < len(buffer):
            got = file.readinto(buffer[done:])
            if not got:
                raise WeightFileError(f"{path}: the file ends before byte {offset + len(buffer)}")
            done += got
    except OSError as error:
        raise _cannot_read(path, error) from error


def _cannot_unpack(path: Path, error: OSError) -> WeightFileError:
    return WeightFileError(f"{path}: cannot be unpacked to a temporary file ({error}); TMPDIR can name another folder")


def _cannot_read(path: Path, error: Exception) -> WeightFileError:
    if isinstance(error, FileNotFoundError):
        return WeightFileError(f"{path}: no such file")
    if isinstance(error, PermissionError):
        return WeightFileError(f"{path}: no permission to read it")
    if isinstance(error, OSError):
        return WeightFileError(f"{path}: cannot be read ({error.strerror})")
    return WeightFileError(f"{str(path)!r}: not a path ({error})")
