"""What the arrays of a store declare: only what a sweep writes is opened, as other codecs could run code."""

import json
from pathlib import Path
from typing import Any

from polysem._checks import require
from polysem.sweeps._grid import Grid
from polysem.sweeps._layout import OF_STACKS, Tiling

_LARGEST = 2**24  # bytes of metadata that are read
_TYPES = frozenset({"float64", "float32", "int64", "int8", "string"})
_CODECS = frozenset({"bytes", "vlen-utf8", "zstd", "crc32c"})


def require_group(path: Path) -> None:
    """Raise a ValueError unless a folder holds a group of zarr's third format, and metadata that can be read."""
    declared = _read(path / "zarr.json")
    good = declared.get("zarr_format") == 3 and declared.get("node_type") == "group"
    require(good, "store", path, "a sweep's, or a path where nothing is yet")


def require_arrays(path: Path, grid: Grid, tiles: Tiling) -> None:
    """Raise a ValueError unless all arrays fit the grid and are stored as a sweep stores them."""
    groups = {axis: shape for axes, shape in zip(grid.groups.values(), grid.shape, strict=True) for axis in axes}
    for inner in sorted(path.iterdir()):
        if not (inner / "zarr.json").exists():
            continue  # not zarr's
        name, declared = inner.name, _read(inner / "zarr.json")
        good = declared.get("node_type") == "array" and declared.get("zarr_format") == 3
        try:
            shape, chunks = declared["shape"], declared["chunk_grid"]["configuration"]["chunk_shape"]
            codecs = {codec["name"] for codec in declared["codecs"]}
            good = good and declared["data_type"] in _TYPES and codecs <= _CODECS
            good = good and all(isinstance(n, int) and n >= 0 for n in (*shape, *chunks))
            good = good and all(c <= max(n, 1) for n, c in zip(shape, chunks, strict=True))
        except (KeyError, TypeError, ValueError):
            good = False
        if good and name in groups:
            good = shape == [groups[name]]
        elif good and name in OF_STACKS:
            good = shape == [len(tiles)]
        elif good:
            n = len(grid.shape)
            good = (shape[:n], chunks[:n]) == ([*grid.shape], [*tiles.tile])
        require(good, "store", inner, "of arrays that fit its grid and are stored as a sweep stores them")


def _read(file: Path) -> dict[str, Any]:
    """Metadata as JSON; empty where there are none."""
    try:
        with file.open("rb") as opened:
            content = json.loads(opened.read(_LARGEST + 1))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
