"""Zip archives, opened in bounded memory whatever their directory claims."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO

from polysem.networks._bytes import LARGEST_DIRECTORY, FileBytes, WeightFileError, first_line


class BoundedReader(BufferedReader):
    """A file of which no more than `LARGEST_DIRECTORY` bytes are read at once."""

    def __init__(self, file: FileIO, source: FileBytes) -> None:
        super().__init__(file)
        self._source = source

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does."""
        if size is not None and size > LARGEST_DIRECTORY:
            raise WeightFileError(
                f"{self._source.path}: a directory or name of {size} bytes, where at most {LARGEST_DIRECTORY} are read"
            )
        return super().read(size)


@contextmanager
def open_zip(source: FileBytes) -> Iterator[zipfile.ZipFile]:
    """The archive; members that share bytes are an error."""
    with source.open() as file, BoundedReader(file, source) as bounded, zipfile.ZipFile(bounded) as archive:
        if sum(info.compress_size for info in archive.infolist()) > source.size:
            raise WeightFileError(f"{source.path}: the members of the archive overlap")
        yield archive


@contextmanager
def unzipping(what: str) -> Iterator[None]:
    """Whatever a damaged member makes of its reader, down to a name that is no text, in one line."""
    try:
        yield
    except WeightFileError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise WeightFileError(f"{what} cannot be unpacked ({first_line(error)})") from error
