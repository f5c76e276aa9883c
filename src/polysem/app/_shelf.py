"""The files that pages may open: those below one folder, and what they have brought themselves."""

import asyncio
import os
import re
import secrets
import shutil
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from polysem._checks import require
from polysem.networks import is_weight_name, load, read_labels

UPLOADED = "upload:"
"""What names of uploads begin with; the others are paths below the folder."""

MOST_LISTED = 2000
MOST_VISITED = 50_000
MOST_UPLOADS = 8
PATIENCE = 60.0
"""Seconds without a byte after which an upload is given up."""

LABEL_SUFFIXES = (".txt", ".json")
Kind = Literal["weights", "labels", "sweep"]


@dataclass(frozen=True)
class Entry:
    """A file, or the store of a sweep, that can be opened.

    Attributes:
        name: path below the folder, or the name of an upload.
        kind: what it is, by its name.
        size: in bytes; 0 for stores.
    """

    name: str
    kind: Kind
    size: int


@dataclass(frozen=True)
class Listing:
    """What can be opened.

    Attributes:
        entries: in the order of their paths, uploads last.
        left_out: whether there is more than is listed.
    """

    entries: tuple[Entry, ...]
    left_out: bool


class Shelf:
    """Weight files, vocabularies and sweeps below a folder, and uploads.

    Nothing outside of the folder is opened, whatever a name says and wherever links lead. Uploads lie in a temporary
    folder that goes with the explorer; the oldest make room for new ones.

    Args:
        folder: may be opened from; none without it.
        largest_upload: bytes of one upload; all together may be twice as large.
    """

    def __init__(self, folder: Path | None, largest_upload: int) -> None:
        self.folder = None if folder is None else folder.resolve(strict=True)
        self.largest_upload = largest_upload
        self._uploads: OrderedDict[str, Path] = OrderedDict()
        self._arriving = 0
        self._place: Path | None = None

    def listing(self) -> Listing:
        """What can be opened now."""
        found: list[Entry] = []
        left_out = False
        for number, entry in enumerate(self._below() if self.folder else ()):
            left_out = number >= MOST_VISITED or len(found) >= MOST_LISTED
            if left_out:
                break
            if entry is not None:
                found.append(entry)
        for name, path in self._uploads.items():
            if kind := _kind(path):
                found.append(Entry(name, kind, path.stat().st_size))
        return Listing(tuple(found), left_out)

    def find(self, name: str) -> Path:
        """Where a file or store lies.

        Raises:
            ValueError: there is none of that name below the folder or among the uploads.
        """
        if name in self._uploads:
            return self._uploads[name]
        gone = " (uploads are kept until the explorer ends or others need their place)"
        if self.folder is None or name.startswith(UPLOADED):
            raise ValueError(f"file must be one of those listed, got {name!r}{gone}")
        try:
            path = (self.folder / name).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            path = None
        if path is None or path == self.folder or not path.is_relative_to(self.folder):
            raise ValueError(f"file must be a path below {self.folder}, which links do not lead out of, got {name!r}")
        return path

    async def keep(self, name: str, content: AsyncIterator[bytes]) -> str:
        """Take an upload in; nothing of it is left unless it is whole and can be opened.

        Args:
            name: as its owner calls it.
            content: its bytes.

        Returns:
            The name under which it can be found.

        Raises:
            ValueError: too many come at once, it is too large or stops coming, or it is neither a weight file nor
                labels.
        """
        clean = re.sub(r"[^\w.+-]", "-", PurePosixPath(name.replace("\\", "/")).name)[-100:].lstrip(".-")
        allowed = "that of a weight file (.safetensors, .npz, ...) or of labels (.txt, .json)"
        require(_kind(Path(clean)) is not None, "name", name, allowed)
        require(self._arriving < MOST_UPLOADS, "uploads at once", self._arriving + 1, f"at most {MOST_UPLOADS}")
        self._arriving += 1
        own = Path(tempfile.mkdtemp(dir=self._folder_of_uploads()))
        path = own / clean
        try:
            with path.open("wb") as file:
                await self._write(file, content)
            await asyncio.to_thread(_open, path)
        except BaseException:
            shutil.rmtree(own, ignore_errors=True)
            raise
        finally:
            self._arriving -= 1
        key = f"{UPLOADED}{secrets.token_hex(4)}/{clean}"
        self._uploads[key] = path
        self._make_room()
        return key

    async def _write(self, file: IO[bytes], content: AsyncIterator[bytes]) -> None:
        size, left = 0, shutil.disk_usage(file.name).free // 2
        chunks = aiter(content)
        while chunk := await self._next(chunks):
            size += len(chunk)
            require(size <= self.largest_upload, "size in bytes", size, f"at most {self.largest_upload:,}")
            if size > left:
                raise ValueError("the upload would take more than half of the free space of the temporary folder")
            await asyncio.to_thread(file.write, chunk)

    @staticmethod
    async def _next(chunks: AsyncIterator[bytes]) -> bytes:
        """The next bytes that are not none; none at the end."""
        try:
            while (chunk := await asyncio.wait_for(anext(chunks, None), PATIENCE)) == b"":
                pass
        except TimeoutError:
            raise ValueError(f"the upload must go on, and nothing has come for {PATIENCE:g} seconds") from None
        return chunk or b""

    def _make_room(self) -> None:
        sizes = {name: path.stat().st_size for name, path in self._uploads.items()}
        while len(self._uploads) > MOST_UPLOADS or sum(sizes.values()) > 2 * self.largest_upload:
            name, path = self._uploads.popitem(last=False)
            del sizes[name]
            shutil.rmtree(path.parent, ignore_errors=True)

    def _folder_of_uploads(self) -> Path:
        if self._place is None:
            self._place = Path(tempfile.mkdtemp(prefix="polysem-"))
            weakref.finalize(self, shutil.rmtree, self._place, ignore_errors=True)
        return self._place

    def _below(self) -> Iterator[Entry | None]:
        """Everything below the folder in order; `None` for what cannot be opened."""
        assert self.folder is not None
        for here, folders, files in os.walk(self.folder):
            place = Path(here)
            stores = [name for name in folders if (place / name / "zarr.json").is_file()]
            folders[:] = sorted(name for name in folders if name not in stores and not name.startswith("."))
            for name in sorted([*stores, *files]):
                path = place / name
                kind: Kind | None = "sweep" if name in stores else _kind(path)
                inside = kind is not None and path.resolve().is_relative_to(self.folder) and path.exists()
                size = path.stat().st_size if inside and kind != "sweep" else 0
                yield Entry(str(path.relative_to(self.folder)), kind, size) if inside and kind else None


def _kind(path: Path) -> Kind | None:
    """What a file is by its name; `None` if it is nothing that pages open."""
    if is_weight_name(path.name):
        return "weights"
    return "labels" if path.suffix.lower() in LABEL_SUFFIXES else None


def _open(path: Path) -> None:
    """Raise a ValueError unless an upload is what its name says."""
    try:
        load(path) if is_weight_name(path.name) else read_labels(path)
    except ValueError as error:
        raise ValueError(str(error).replace(f"{path.parent}/", "")) from None
