"""Folders of weight files: which of them is meant, and the index of one that was saved in shards."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from polysem.networks._bytes import FileBytes, WeightFileError, first_line, parse_json
from polysem.networks._recognise import SUFFIXES

INDEX_SUFFIX = ".index.json"
_MODELS = ("model.safetensors", "pytorch_model.bin")  # what transformers calls a whole model, best first
_SHOWN = 5


@dataclass(frozen=True)
class Index:
    """Which shard holds which tensor.

    Attributes:
        shards: file name of each tensor's shard, in the order of the index.
        metadata: what the index says besides, numbers as text.
    """

    shards: dict[str, str]
    metadata: dict[str, str]


def is_weight_name(name: str) -> bool:
    """Whether a file of this name could be one that `load` opens: a weight file, or the index of shards.

    Args:
        name: of the file, with or without its path.

    Returns:
        What the suffix says; `load` looks at the content.

    Example:
        >>> is_weight_name("model.safetensors"), is_weight_name("model.bin.index.json"), is_weight_name("notes.md")
        (True, True, False)

    Source: ours.
    """
    return name.endswith(INDEX_SUFFIX) or PurePosixPath(name).suffix.lower() in SUFFIXES


def weights_in(folder: Path) -> Path:
    """The weight file, or the index of shards, that stands for a folder."""
    try:
        names = [inner.name for inner in folder.iterdir()]
    except OSError as error:
        raise WeightFileError(f"{folder}: a folder that cannot be listed ({error.strerror})") from error
    return beneath(folder, preferred(names, f"{folder}: a folder"), folder)


def preferred(names: Collection[str], what: str) -> str:
    """The file that stands for a folder with files of these names; an error where several could."""
    weights = sorted(name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES)
    indexes: list[str] = []
    for model in _MODELS:
        suffix = f"{PurePosixPath(model).suffix}{INDEX_SUFFIX}"
        here = sorted(name for name in names if name.endswith(suffix))
        for standard in (model, f"{model}{INDEX_SUFFIX}"):
            if standard in names:
                return standard
        if len(here) == 1:
            return here[0]
        indexes += here
    if len(weights) == 1:
        return weights[0]
    found = indexes + weights
    if not found:
        raise WeightFileError(f"{what}, without weight files in it")
    rest = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise WeightFileError(f"{what}; the weight files in it are {', '.join(found[:_SHOWN])}{rest}")


def read_index(path: Path) -> Index:
    """The index of a model that was saved in shards (`*.index.json`)."""
    text = FileBytes.of(path).whole("an index")
    try:
        content = parse_json(text)
    except ValueError as error:
        raise WeightFileError(f"{path}: a damaged or truncated index ({first_line(error)})") from error
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict) or not shards or not all(isinstance(shard, str) for shard in shards.values()):
        raise WeightFileError(f"{path}: an index must have a 'weight_map' from names of tensors to names of files")
    metadata = content.get("metadata")
    said = metadata.items() if isinstance(metadata, dict) else ()
    return Index(shards, {key: value if isinstance(value, str) else json.dumps(value) for key, value in said})


def beneath(folder: Path, name: str, named_by: Path) -> Path:
    """A file that another file names: it must lie in the folder, and links must not lead out of it.

    Links from a snapshot in the cache of `huggingface_hub` to the files that the cache keeps for it may.
    """
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or "\\" in name or "\0" in name:
        raise WeightFileError(f"{named_by}: it names the file {name!r}, which is no path beneath its folder")
    path = folder / name
    try:
        root, target = folder.resolve(), path.resolve()
    except (OSError, RuntimeError) as error:
        raise WeightFileError(f"{path}: cannot be read (a loop of links)") from error
    if not any(target.is_relative_to(allowed) for allowed in (root, *_kept_by_hub(root))):
        raise WeightFileError(f"{path}: a link that leaves the folder; open the file itself, or copy it here")
    return path


def _kept_by_hub(folder: Path) -> list[Path]:
    """`models--owner--name/blobs`, if the folder is `models--owner--name/snapshots/revision` or in it."""
    return [
        cache.parent / "blobs"
        for cache in folder.parents
        if cache.name == "snapshots" and cache.parent.name.startswith("models--")
    ]
