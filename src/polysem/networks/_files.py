"""Opening a weight file, or a folder of them: which format it is, and what it holds."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

from torch import Tensor

from polysem.networks._bytes import FileBytes, WeightFileError
from polysem.networks._folder import INDEX_SUFFIX, beneath, read_index, weights_in
from polysem.networks._hub import is_address, local
from polysem.networks._read_numpy import read_npy, read_npz
from polysem.networks._read_onnx import read_onnx
from polysem.networks._read_safetensors import read_safetensors
from polysem.networks._read_torch import read_torch
from polysem.networks._recognise import Format, recognise
from polysem.networks._stored import Content, NoMatrix, StoredMatrix

_READERS: dict[Format, Callable[[FileBytes], Content]] = {
    "safetensors": read_safetensors,
    "torch": read_torch,
    "npy": read_npy,
    "npz": read_npz,
    "onnx": read_onnx,
}


_COMPARED = 1_000_000  # characters of names that are searched for one like a name that is none


class _NoSuchMatrixError(WeightFileError, KeyError):
    """So that `in` and `get` of a mapping work."""

    __str__ = Exception.__str__


@dataclass(frozen=True, eq=False, repr=False)
class WeightFile(Mapping[str, StoredMatrix]):
    """The matrices of a file by name, in the file's order, none of them in memory yet.

    Attributes:
        path: where the file lies, or the folder of a model saved in shards.
        format: "safetensors", "torch", "npy", "npz" or "onnx".
        matrices: every 2-D tensor of a real floating-point type.
        metadata: what the file says about itself, as text (`__metadata__` of safetensors, `metadata_props` of ONNX,
            `metadata` of an index); empty where a format has none.
    """

    path: Path
    format: Format
    matrices: dict[str, StoredMatrix]
    metadata: dict[str, str]
    _others: dict[str, NoMatrix]

    @property
    def skipped(self) -> dict[str, str]:
        """The name of every other entry, and why it is no such matrix."""
        return {name: entry.reason for name, entry in self._others.items()}

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
        if name in self._others:
            raise _NoSuchMatrixError(
                f"{self.path}: {name!r} is not a matrix of floating-point numbers: {self._others[name].reason}"
            )
        raise self._missing(name, f"matrix {name!r} among the {_count(len(self))} of the file", self.matrices)

    def tensor(self, name: str) -> Tensor:
        """Any tensor of floating-point numbers, of whatever rank, whole in memory: biases, convolution kernels.

        Args:
            name: as stored in the file.

        Returns:
            A tensor of the shape and dtype as stored, the caller's own.

        Raises:
            WeightFileError: the file has no such tensor, or cannot be read any more, or has changed since it was
                loaded.

        Example:
            >>> import tempfile
            >>> import numpy as np
            >>> from polysem.networks import load
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     np.savez(f"{folder}/model.npz", conv=np.ones((8, 3, 5, 5)))
            ...     file = load(f"{folder}/model.npz")
            ...     file.skipped, file.tensor("conv").flatten(1).shape
            ({'conv': '4-D of shape (8, 3, 5, 5)'}, torch.Size([8, 75]))

        Source: ours.
        """
        if name in self.matrices:
            return self.matrices[name].tensor()
        if name not in self._others:
            raise self._missing(name, f"tensor {name!r} in the file", [*self.matrices, *self._others])
        read = self._others[name].read
        if read is None:
            raise _NoSuchMatrixError(
                f"{self.path}: {name!r} is no tensor of floating-point numbers: {self._others[name].reason}"
            )
        return read()

    def _missing(self, name: str, what: str, names: Iterable[str]) -> WeightFileError:
        known = list(names)
        few = sum(map(len, known)) <= _COMPARED
        close = difflib.get_close_matches(str(name), known, n=3) if few else []
        hint = f"; close to it: {', '.join(map(repr, close))}" if close else ""
        return _NoSuchMatrixError(f"{self.path}: no {what}{hint}")

    def __getitem__(self, name: str) -> StoredMatrix:
        return self.matrix(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.matrices)

    def __len__(self) -> int:
        return len(self.matrices)

    def __repr__(self) -> str:
        return f"WeightFile({str(self.path)!r}: {self.format}, {_count(len(self))}, {len(self._others)} skipped)"


def load(path: str | PathLike[str]) -> WeightFile:
    """Open a weight file, or a folder with one, and list its matrices, without reading their numbers.

    The format is told from the content, and the suffix must not contradict it: `.safetensors`; `.pt`, `.pth`
    and `.bin` (`torch.save`); `.npy`; `.npz`; `.onnx` (initialisers and constants
    of its main graph, whose numbers may lie in files beneath its folder). Code in a pickle is refused, never run.
    A single array without a name is called after the file.

    A model saved in shards is opened by its index (`*.safetensors.index.json`, `*.bin.index.json`) as one file, which
    must agree with every shard on what is where. A folder stands for the first of these that it has:
    `model.safetensors`, a `*.safetensors.index.json`, `pytorch_model.bin`, a `*.bin.index.json` (safetensors first:
    both hold the same model), or else its only weight file. Shards and links must not lead out of the folder.

    `hf://owner/name/path@revision` is a file or folder on the Hugging Face hub (path and revision if need be): what is
    needed of it is downloaded to the hub's cache. This needs `huggingface_hub` (extra `[networks]`).

    Args:
        path: the file, folder or index, or where it is on the hub.

    Returns:
        A mapping from name to matrix, with what else the file holds in `skipped`.

    Raises:
        TypeError: `path` is not a path.
        ImportError: the path is one on the hub, and `huggingface_hub` is not installed.
        WeightFileError: the file cannot be read or is not a whole weight file, or the folder could mean several
            files; one line says why.

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
        address = fspath(path)
        location = Path(address)
    except TypeError as error:
        raise TypeError(f"path must be a str or os.PathLike[str], got {path!r}") from error
    if is_address(address):
        location = local(address)
    found = weights_in(location) if _is_folder(location) else location
    return _open_shards(location, found) if found.name.endswith(INDEX_SUFFIX) else _open(found)


def _open(path: Path) -> WeightFile:
    source = FileBytes.of(path)
    format_ = recognise(source)
    content = _READERS[format_](source)
    matrices: dict[str, StoredMatrix] = {}
    others: dict[str, NoMatrix] = {}
    for name, entry in content.entries:
        if name in matrices or name in others:
            raise WeightFileError(f"{path}: two entries have the name {name!r}")
        if isinstance(entry, NoMatrix):
            others[name] = entry
        else:
            matrices[name] = entry
    return WeightFile(path, format_, matrices, dict(content.metadata), others)


def _open_shards(path: Path, index_path: Path) -> WeightFile:
    """All shards as one file, in the order of their index."""
    index = read_index(index_path)
    shards = {
        name: _open(beneath(index_path.parent, name, index_path)) for name in dict.fromkeys(index.shards.values())
    }
    for shard, file in shards.items():
        for name in (*file.matrices, *file._others):
            if index.shards.get(name) != shard:
                elsewhere = f"attributes to {index.shards[name]}" if name in index.shards else "does not list"
                raise WeightFileError(f"{file.path}: holds {name!r}, which {index_path.name} {elsewhere}")
    matrices: dict[str, StoredMatrix] = {}
    others: dict[str, NoMatrix] = {}
    for name, shard in index.shards.items():
        file = shards[shard]
        if name in file.matrices:
            matrices[name] = file.matrices[name]
        elif name in file._others:
            others[name] = file._others[name]
        else:
            raise WeightFileError(f"{file.path}: has no {name!r}, which {index_path.name} attributes to it")
    format_, *more = sorted({file.format for file in shards.values()})
    if more:
        raise WeightFileError(f"{index_path}: its shards are of different formats ({', '.join([format_, *more])})")
    return WeightFile(path, format_, matrices, index.metadata, others)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _count(n: int) -> str:
    return f"{n} {'matrix' if n == 1 else 'matrices'}"
