"""Opening a weight file: which format it is, and what it holds."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

from polysem.networks._bytes import FileBytes, WeightFileError
from polysem.networks._read_numpy import read_npy, read_npz
from polysem.networks._read_safetensors import read_safetensors
from polysem.networks._read_torch import read_torch
from polysem.networks._recognise import SUFFIXES, Format, recognise
from polysem.networks._stored import Entry, StoredMatrix

_READERS: dict[Format, Callable[[FileBytes], Iterator[Entry]]] = {
    "safetensors": read_safetensors,
    "torch": read_torch,
    "npy": read_npy,
    "npz": read_npz,
}
_SHOWN = 5


class _NoSuchMatrixError(WeightFileError, KeyError):
    """So that `in` and `get` of a mapping work."""

    __str__ = Exception.__str__


@dataclass(frozen=True, eq=False, repr=False)
class WeightFile(Mapping[str, StoredMatrix]):
    """The matrices of a file by name, in the file's order, none of them in memory yet.

    Attributes:
        path: where the file lies.
        format: "safetensors", "torch", "npy" or "npz".
        matrices: every 2-D tensor of a real floating-point type.
        skipped: the name of every other entry, and why it is no such matrix.
    """

    path: Path
    format: Format
    matrices: dict[str, StoredMatrix]
    skipped: dict[str, str]

    def matrix(self, name: str) -> StoredMatrix:
        """The matrix of that name; the same as `file[name]`.

        Args:
            name: as stored in the file.

        Returns:
            The matrix, not yet read.

        Raises:
            WeightFileError: the file has no such matrix; the message says what the name stands for
                instead, or which names are close.

        Example:
            >>> import tempfile
            >>> import numpy as np
            >>> from polysem.networks import load
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     np.savez(f"{folder}/model.npz", W=np.eye(4, 3), b=np.zeros(3))
            ...     file = load(f"{folder}/model.npz")
            >>> file.matrix("W").shape
            (4, 3)
            >>> file.skipped
            {'b': '1-D of shape (3,)'}

        Source: ours.
        """
        if name in self.matrices:
            return self.matrices[name]
        if name in self.skipped:
            raise _NoSuchMatrixError(
                f"{self.path}: {name!r} is not a matrix of floating-point numbers: {self.skipped[name]}"
            )
        close = difflib.get_close_matches(str(name), self.matrices, n=3)
        hint = f"; close to it: {', '.join(map(repr, close))}" if close else ""
        raise _NoSuchMatrixError(f"{self.path}: no matrix {name!r} among the {_count(len(self))} of the file{hint}")

    def __getitem__(self, name: str) -> StoredMatrix:
        return self.matrix(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.matrices)

    def __len__(self) -> int:
        return len(self.matrices)

    def __repr__(self) -> str:
        return f"WeightFile({str(self.path)!r}: {self.format}, {_count(len(self))}, {len(self.skipped)} skipped)"


def load(path: str | PathLike[str]) -> WeightFile:
    """Open a weight file and list its matrices, without reading their numbers.

    The format is told from the content, and the suffix must not contradict it: `.safetensors`; `.pt`, `.pth`
    and `.bin` (`torch.save`); `.npy`; `.npz`. Code in a pickle is refused, never run. A single array without
    a name is called after the file.

    Args:
        path: the file.

    Returns:
        A mapping from name to matrix, with what else the file holds in `skipped`.

    Raises:
        TypeError: `path` is not a path.
        WeightFileError: the file cannot be read or is not a whole weight file; one line says why.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/vectors.npy", np.arange(6.0).reshape(3, 2))
        ...     file = load(f"{folder}/vectors.npy")
        ...     list(file), file["vectors"].shape, file["vectors"].tensor()[2].tolist()
        (['vectors'], (3, 2), [4.0, 5.0])

    Source: ours.
    """
    try:
        location = Path(fspath(path))
    except TypeError as error:
        raise TypeError(f"path must be a str or os.PathLike[str], got {path!r}") from error
    if _is_folder(location):
        raise WeightFileError(_folder_problem(location))
    source = FileBytes.of(location)
    format_ = recognise(source)
    matrices: dict[str, StoredMatrix] = {}
    skipped: dict[str, str] = {}
    for name, entry in _READERS[format_](source):
        if name in matrices or name in skipped:
            raise WeightFileError(f"{location}: two entries have the name {name!r}")
        if isinstance(entry, str):
            skipped[name] = entry
        else:
            matrices[name] = entry
    return WeightFile(location, format_, matrices, skipped)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _folder_problem(path: Path) -> str:
    """What to say of a folder: the weight files in it are probably what was meant."""
    try:
        names = sorted(inner.name for inner in path.iterdir() if inner.suffix.lower() in SUFFIXES)
    except OSError as error:
        return f"{path}: a folder that cannot be listed ({error.strerror})"
    if not names:
        return f"{path}: a folder, without weight files in it"
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{path}: a folder; the weight files in it are {', '.join(names[:_SHOWN])}{rest}"


def _count(n: int) -> str:
    return f"{n} {'matrix' if n == 1 else 'matrices'}"
