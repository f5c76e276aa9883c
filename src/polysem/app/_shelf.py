"""The files that pages may open: those below one folder, and what they have brought themselves."""

import asyncio
import re
import secrets
import shutil
import stat
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from time import monotonic
from typing import IO, Literal

from polysem._checks import require
from polysem.app._walk import walk
from polysem.app._work import Works
from polysem.networks import is_weight_name, load, read_labels

UPLOADED = "upload:"
"""What names of uploads begin with; the others are paths below the folder."""

MOST_LISTED = 2000
MOST_VISITED = 50_000
MOST_UPLOADS = 8
MOST_ARRIVING = 4
LARGEST_LABELS = 40 * 2**20
"""Bytes of labels: reading them takes tens of times as much memory."""

PATIENCE = 60.0
"""Seconds without a byte after which an upload is given up."""

SLOWEST = 10_000
"""Bytes a second that an upload must bring beyond its first `PATIENCE` seconds."""

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

    Attributes:
        opening: files are opened one after the other: some formats must be read whole, and others take long.
    """

    def __init__(self, folder: Path | None, largest_upload: int) -> None:
        self.folder = None if folder is None else folder.resolve(strict=True)
        self.largest_upload = largest_upload
        self.opening = Works(at_once=1, waiting=2 * MOST_UPLOADS)
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
        for name, path in tuple(self._uploads.items()):
            if (kind := _kind(path)) and path.is_file():
                found.append(Entry(name, kind, _size(path)))
        return Listing(tuple(found), left_out)

    def find(self, name: str) -> Path:
        """Where a file or store lies.

        Raises:
            ValueError: there is none of that name below the folder or among the uploads.
        """
        brought = self._uploads.get(name)  # once: another thread may make room
        if brought is not None:
            return brought
        gone = " (uploads are kept until the explorer ends or others need their place)"
        if self.folder is None or name.startswith(UPLOADED):
            raise ValueError(f"file must be one of those listed, got {name!r}{gone}")
        path = self._inside(name)
        if path is None:
            raise ValueError(f"file must be a path below {self.folder}, which links do not lead out of, got {name!r}")
        return path

    def labels(self, name: str) -> tuple[str, ...]:
        """The labels in a file.

        Raises:
            ValueError: there is no such file, or it is too large or holds none.
        """
        return _read_labels(self.find(name))

    def close(self) -> None:
        """Remove the uploads."""
        self._uploads.clear()
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)

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
        clean = re.sub(r"[^\w.+-]", "-", PurePosixPath(name.replace("\\", "/")).name)[-60:].lstrip(".-")
        allowed = "that of a weight file (.safetensors, .npz, ...) or of labels (.txt, .json)"
        require(_kind(Path(clean)) is not None, "name", name, allowed)
        require(self._arriving < MOST_ARRIVING, "uploads at once", self._arriving + 1, f"at most {MOST_ARRIVING}")
        self._arriving += 1
        try:
            own = Path(tempfile.mkdtemp(dir=self._folder_of_uploads()))
            path = own / clean
            try:
                with path.open("wb") as file:
                    await self._write(file, content, self.largest_upload if is_weight_name(clean) else LARGEST_LABELS)
                await self.opening.once(lambda: _open(path))
            except BaseException:
                shutil.rmtree(own, ignore_errors=True)
                raise
        except OSError as error:
            raise ValueError(f"the upload cannot be kept ({error.strerror})") from error
        finally:
            self._arriving -= 1
        key = f"{UPLOADED}{secrets.token_hex(4)}/{clean}"
        self._uploads[key] = path
        self._make_room()
        return key

    async def _write(self, file: IO[bytes], content: AsyncIterator[bytes], most: int) -> None:
        size, began, chunks = 0, monotonic(), aiter(content)
        most = min(most, self.largest_upload)
        while chunk := await self._next(chunks, began + PATIENCE + size / SLOWEST):
            size += len(chunk)
            require(size <= most, "size in bytes", size, f"at most {most:,}")
            if size > shutil.disk_usage(file.name).free:
                raise ValueError("the upload would take more than half of the free space of the temporary folder")
            await asyncio.to_thread(file.write, chunk)

    @staticmethod
    async def _next(chunks: AsyncIterator[bytes], end: float) -> bytes:
        """The next bytes that are not none; none at the end."""
        try:
            while (chunk := await asyncio.wait_for(anext(chunks, None), min(PATIENCE, end - monotonic()))) == b"":
                pass
        except TimeoutError:
            said = f"the upload must go on, and for {PATIENCE:g} seconds nothing has come, or too little"
            raise ValueError(said) from None
        return chunk or b""

    def _make_room(self) -> None:
        sizes = {name: _size(path) for name, path in self._uploads.items()}
        while len(self._uploads) > MOST_UPLOADS or sum(sizes.values()) > 2 * self.largest_upload:
            name, path = self._uploads.popitem(last=False)
            del sizes[name]
            shutil.rmtree(path.parent, ignore_errors=True)

    def _folder_of_uploads(self) -> Path:
        if self._place is None:
            self._place = Path(tempfile.mkdtemp(prefix="polysem-"))
            weakref.finalize(self, shutil.rmtree, self._place, ignore_errors=True)
        return self._place

    def _inside(self, name: str) -> Path | None:
        """Where a file or folder of that name lies, if that is below the folder; the last part may be a link."""
        assert self.folder is not None
        asked = PurePosixPath(name)
        if asked.is_absolute() or ".." in asked.parts or not asked.name:
            return None
        try:
            path = (self.folder / asked).parent.resolve(strict=True) / asked.name
            target = path.resolve(strict=True)
            mode = target.stat().st_mode
        except (OSError, ValueError, RuntimeError):  # also names that are too long, and links in a circle
            return None
        inside = all(place.is_relative_to(self.folder) for place in (path, target)) and target != self.folder
        return path if inside and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) else None

    def _below(self) -> Iterator[Entry | None]:
        """Everything below the folder in order; `None` for what cannot be opened."""
        assert self.folder is not None
        for here, folders, others in walk(self.folder):
            stores = {name for name in folders if _is_file(here / name / "zarr.json")}
            folders[:] = [name for name in folders if name not in stores and not name.startswith(".")]
            for name in sorted([*stores, *(entry.name for entry in others)]):
                kind: Kind | None = "sweep" if name in stores else _kind(here / name)
                path = self._inside(str((here / name).relative_to(self.folder))) if kind else None
                listed = path is not None and (kind == "sweep" or _is_file(path))
                size = _size(here / name) if kind != "sweep" else 0
                yield Entry(str((here / name).relative_to(self.folder)), kind, size) if listed and kind else None
            yield from (None for _ in folders)


def _kind(path: Path) -> Kind | None:
    """What a file is by its name; `None` if it is nothing that pages open."""
    if is_weight_name(path.name):
        return "weights"
    return "labels" if path.suffix.lower() in LABEL_SUFFIXES else None


def _open(path: Path) -> None:
    """Raise a ValueError unless an upload is what its name says."""
    try:
        load(path) if is_weight_name(path.name) else _read_labels(path)
    except ValueError as error:
        raise ValueError(str(error).replace(f"{path.parent}/", "")) from None


def _read_labels(path: Path) -> tuple[str, ...]:
    if not is_weight_name(path.name):
        require(_size(path) <= LARGEST_LABELS, "size of labels in bytes", _size(path), f"at most {LARGEST_LABELS:,}")
    return read_labels(path)


def _size(path: Path) -> int:
    """In bytes; 0 for what is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
