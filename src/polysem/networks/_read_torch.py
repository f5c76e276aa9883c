"""Files written by `torch.save`: tensors only, and code in their pickle is refused, never run."""

import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import Tensor

from polysem.networks._bytes import LARGEST_DIRECTORY, FileBytes, WeightFileError
from polysem.networks._pickle import check_pickle, pickle_problem
from polysem.networks._stored import DTYPES, Content, Entry, HeldMatrix, NoMatrix, copied, no_matrix
from polysem.networks._zip import BoundedReader, open_zip, unzipping

_DEEPEST = 100


def read_torch(source: FileBytes) -> Content:
    """The tensors of a file, nested dictionaries flattened with dots; zipped files are mapped, not loaded."""
    with source.open() as file:
        zipped = file.read(2) == b"PK"
    (_check_archive if zipped else _check_legacy)(source)
    try:
        content = torch.load(str(source.path), map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # a damaged or hostile pickle can fail in any way
        raise WeightFileError(f"{source.path}: {pickle_problem(error)}") from error
    leaves = list(_flatten(source, content))
    tensors = [leaf for _, leaf in leaves if isinstance(leaf, Tensor)]
    _check_tensors(source, tensors)
    if zipped:
        _check_storages(source, tensors)
    return Content([_entry(name, leaf, source) for name, leaf in leaves])


def _entry(name: str, leaf: Tensor | str, source: FileBytes) -> Entry:
    if isinstance(leaf, str):
        return name, NoMatrix(leaf)
    tensor = leaf.detach()
    if tensor.layout is not torch.strided or tensor.is_meta:
        return name, NoMatrix(f"{tensor.layout} on device {tensor.device}")
    shape = tuple(tensor.shape)
    reason = no_matrix(shape, tensor.dtype, str(tensor.dtype).removeprefix("torch."))
    if reason:
        return name, NoMatrix(reason, partial(copied, tensor, source) if tensor.dtype in DTYPES else None)
    return name, HeldMatrix(name, (shape[0], shape[1]), tensor.dtype, tensor, source)


def _flatten(source: FileBytes, content: object) -> Iterator[tuple[str, Tensor | str]]:
    """Tensors, and the types of all else, in order; content that is not nested is called after the file."""
    root = source.path.stem
    visited: set[int] = set()
    waiting: list[tuple[str, int, object]] = [("", 0, content)]
    text = 0
    while waiting:
        name, depth, value = waiting.pop()
        text += len(name)
        if depth > _DEEPEST or text > LARGEST_DIRECTORY:
            raise WeightFileError(f"{source.path}: tensors nested more than {_DEEPEST} deep, or names beyond all use")
        nested = _nested(value)
        if nested is None:
            yield name or root, value if isinstance(value, Tensor) else type(value).__name__
        elif id(value) in visited:
            yield name or root, f"{type(value).__name__} that occurs twice"
        else:
            visited.add(id(value))
            prefix = f"{name}." if name else ""
            waiting += [(f"{prefix}{key}", depth + 1, inner) for key, inner in reversed(nested)]


def _nested(value: object) -> list[tuple[object, object]] | None:
    """The entries of a dictionary, or of a sequence that holds tensors or further containers."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list | tuple) and any(isinstance(v, Tensor | dict | list | tuple) for v in value):
        return list(enumerate(value))
    return None


def _check_archive(source: FileBytes) -> None:
    """Records are stored as they are, and the pickle among them does what pickles of tensors do."""
    with open_zip(source) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                raise WeightFileError(
                    f"{source.path}: its record {info.filename!r} is compressed, as torch.save never does"
                )
        names = Counter(info.filename.lower() for info in archive.infolist())
        pickles = [info for info in archive.infolist() if info.filename.lower().endswith("/data.pkl")]
        if max(names.values()) > 1 or len(pickles) != 1:
            raise WeightFileError(f"{source.path}: two records of the archive have the same name")
        if pickles[0].file_size > LARGEST_DIRECTORY:
            raise WeightFileError(
                f"{source.path}: a pickle of {pickles[0].file_size} bytes, where at most {LARGEST_DIRECTORY} are read"
            )
        with unzipping(f"{source.path}: a damaged or truncated PyTorch file: its pickle"):
            content = archive.read(pickles[0])
    check_pickle(content, source.path)


def _check_legacy(source: FileBytes) -> None:
    """The same for files before PyTorch 1.6: magic, version, machine, content and names of storages, then numbers."""
    with source.open() as file, BoundedReader(file, source) as stream:
        for _ in range(5):
            check_pickle(stream, source.path)


def _check_tensors(source: FileBytes, tensors: Iterable[Tensor]) -> None:
    """The pickle declares lengths of its own: no tensor may have more numbers than fit into the file."""
    for tensor in tensors:
        size = tensor.numel() * tensor.itemsize
        if tensor.layout is torch.strided and not tensor.is_meta and size > source.size:
            shape = tuple(tensor.shape)
            raise WeightFileError(f"{source.path}: a tensor of shape {shape}, {size} bytes, in a file of {source.size}")


def _check_storages(source: FileBytes, tensors: Iterable[Tensor]) -> None:
    """Every storage must be as long as a record of the archive."""
    with open_zip(source) as archive:
        records = Counter(info.file_size for info in archive.infolist() if "/data/" in f"/{info.filename}")
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in tensors
        if tensor.layout is torch.strided and not tensor.is_meta and tensor.untyped_storage().nbytes()
    }
    if Counter(storages.values()) - records:
        raise WeightFileError(f"{source.path}: the pickle declares tensors of other sizes than the archive holds")
