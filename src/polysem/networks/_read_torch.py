"""Files written by `torch.save`: tensors only, and code in their pickle is refused, never run."""

import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import Tensor

from polysem.networks._bytes import FileBytes, WeightFileError, first_line
from polysem.networks._stored import DTYPES, Content, Entry, HeldMatrix, NoMatrix, copied, no_matrix


def read_torch(source: FileBytes) -> Content:
    """The tensors of a file, nested dictionaries flattened with dots; zipped files are mapped, not loaded."""
    with source.open() as file:
        zipped = file.read(2) == b"PK"
    try:
        content = torch.load(str(source.path), map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # a damaged or hostile pickle can fail in any way
        raise WeightFileError(f"{source.path}: {_problem(error)}") from error
    leaves = list(_flatten(source.path.stem, content))
    if zipped:
        _check_storages(source, (leaf for _, leaf in leaves if isinstance(leaf, Tensor)))
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


def _flatten(root: str, content: object) -> Iterator[tuple[str, Tensor | str]]:
    """Tensors, and the types of all else, in order; content that is not nested is called `root`."""
    visited: set[int] = set()
    waiting: list[tuple[str, object]] = [("", content)]
    while waiting:
        name, value = waiting.pop()
        nested = _nested(value)
        if nested is None:
            yield name or root, value if isinstance(value, Tensor) else type(value).__name__
        elif id(value) in visited:
            yield name or root, f"{type(value).__name__} that occurs twice"
        else:
            visited.add(id(value))
            prefix = f"{name}." if name else ""
            waiting += [(f"{prefix}{key}", inner) for key, inner in reversed(nested)]


def _nested(value: object) -> list[tuple[object, object]] | None:
    """The entries of a dictionary, or of a sequence that holds tensors or further containers."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list | tuple) and any(isinstance(v, Tensor | dict | list | tuple) for v in value):
        return list(enumerate(value))
    return None


def _check_storages(source: FileBytes, tensors: Iterable[Tensor]) -> None:
    """Every storage must be as long as a record of the archive: the pickle declares lengths of its own."""
    with source.open() as file, zipfile.ZipFile(file) as archive:
        records = Counter(info.file_size for info in archive.infolist() if "/data/" in f"/{info.filename}")
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in tensors
        if tensor.layout is torch.strided and not tensor.is_meta and tensor.untyped_storage().nbytes()
    }
    if Counter(storages.values()) - records:
        raise WeightFileError(f"{source.path}: the pickle declares tensors of other sizes than the archive holds")


def _problem(error: Exception) -> str:
    """What is wrong, without the library's advice to load the file unsafely."""
    called = re.search(r"(?:Unsupported global:|unsupported) GLOBAL (\S+)", str(error))
    if called:
        return (
            f"its pickle calls {called[1]}, and code in a file is never run; "
            "save the state_dict() alone, or as safetensors"
        )
    said = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
    return f"a damaged or truncated PyTorch file ({said[1] if said else first_line(error)})"
