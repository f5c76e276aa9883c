"""The store: one zarr directory, one chunk of every array a stack, `done` written last."""

import errno
import json
import os
import platform
import secrets
import shutil
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import google_crc32c
import numpy as np
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from polysem._checks import require
from polysem.sweeps._attempt import Outcome
from polysem.sweeps._declared import require_arrays, require_group
from polysem.sweeps._grid import Grid
from polysem.sweeps._layout import FAILED, FILLS, OF_STACKS, Field, Tiling, fields, identity
from polysem.sweeps._lock import locked
from polysem.sweeps._task import Task

SCHEMA = 1
"""Version of the layout below; a store of a later one is refused."""

LOCK = "done/.lock"  # beside an array's chunks, where zarr does not look for arrays
LIBRARIES = ("polysem", "torch", "numpy", "scipy", "xarray", "zarr")


@dataclass(frozen=True)
class Checked:
    """What was found in the chunks of a store.

    Attributes:
        done: stacks that are finished and whole.
        failed: those among them with failed cells → how many.
        corrupted: stacks with a chunk that is not what was written.
        axes: axes whose values are not what was written.
        seconds: of each finished stack, NaN where unknown.
    """

    done: frozenset[int]
    failed: dict[int, int]
    corrupted: tuple[int, ...]
    axes: tuple[str, ...]
    seconds: dict[int, float]

    def without(self, stacks: list[int]) -> "Checked":
        """The same, were these stacks not finished."""
        return replace(self, done=self.done.difference(stacks))


@dataclass(frozen=True)
class Store:
    """A store on disk, and what it holds.

    Attributes:
        path: its directory.
        grid: its grid.
        task: name of its task.
        tiles: how the grid is cut into stacks.
        versions: library → version, of when it was begun.
        group: its arrays.
    """

    path: Path
    grid: Grid
    task: str
    tiles: Tiling
    versions: dict[str, str]
    group: zarr.Group = field(repr=False, compare=False)

    @classmethod
    def create(cls, path: Path, grid: Grid, task: Task, tiles: Tiling) -> None:
        """Make a store without results: all of it, or nothing; also nothing if something came there meanwhile.

        Raises:
            ValueError: there is no directory to make it in.
        """
        require(path.parent.is_dir(), "store", path, "in a directory that exists")
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            group = zarr.create_group(temporary, attributes=_attributes(grid, task, tiles))
            for axis in grid.axes:
                _write_axis(group, grid, axis)
            for name, array in fields(grid, task, tiles).items():
                _create(group, name, array)
            group["status"].attrs.update({"flag_values": [0, 1, 2], "flag_meanings": "missing ok failed"})
            group["seconds"].attrs["units"] = "s"
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*[Cc]onsolidated metadata is currently not part")
                zarr.consolidate_metadata(temporary)  # now, as it never changes: a half-finished store opens like any
            temporary.rename(path)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if not (isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST)):
                raise

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open a store that exists.

        Raises:
            ValueError: it is not a store, or one written by a later version.
        """
        require_group(path)
        try:
            mode: Literal["r", "r+"] = "r+" if os.access(path, os.W_OK) else "r"
            group = zarr.open_group(path, mode=mode, zarr_format=3, use_consolidated=False)
            attributes: dict[str, Any] = dict(group.attrs)
            schema = attributes["schema_version"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"store must be a sweep's, or a path where nothing is yet, got {path}") from error
        require(
            isinstance(schema, int) and schema <= SCHEMA,
            "store",
            path,
            f"of schema {SCHEMA} or earlier, and this one is of schema {schema}, written by a later polysem",
        )
        try:
            grid = Grid.from_json(str(attributes["grid"]))
            task, tile = str(attributes["task"]), tuple(int(step) for step in attributes["tile"])
            versions = dict(attributes["versions"])
            damaged = identity(grid, task) != attributes["hash"] or len(tile) != len(grid.shape) or min(tile) < 1
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"store must have its metadata whole, got {path} ({error})") from error
        require(not damaged, "store", path, "one whose metadata fit its hash")
        tiles = Tiling(grid.shape, tile)
        require_arrays(path, grid, tiles)
        return cls(path, grid, task, tiles, versions, group)

    def require_same(self, grid: Grid, task: Task) -> None:
        """Raise a ValueError that names the first difference, if the store is of another grid or task."""
        mine, theirs = identity(grid, task.name), identity(self.grid, self.task)
        if mine != theirs:
            raise ValueError(
                f"store {self.path} holds another sweep ({theirs[:12]}, not {mine[:12]}): it has "
                f"{_difference(self, grid, task.name)}; choose another path, or ask for what it holds"
            )
        expected = fields(grid, task, self.tiles)
        for name, array in self.arrays.items():
            dims, dtype = getattr(array.metadata, "dimension_names", ()), np.dtype(array.dtype)
            found = Field(tuple(dims), array.shape, array.chunks, "str" if dtype.kind == "T" else dtype.name)
            wanted = expected.pop(name, None)
            if wanted != found:
                raise ValueError(f"store {self.path} was written when {task.name} had other outputs: {name} differs")
        if expected:
            raise ValueError(f"store {self.path} was written when {task.name} had no output {next(iter(expected))}")

    @cached_property
    def arrays(self) -> dict[str, zarr.Array[Any]]:
        """The arrays but for the coordinates; padding is written like anything else, so that a lost chunk is seen."""
        found = self.group.arrays()
        return {n: a.with_config({"write_empty_chunks": True}) for n, a in found if n not in self.grid.axes}

    def sizes(self, task: Task) -> dict[str, tuple[int, ...]]:
        """Output → sizes of its dimensions besides those of the grid."""
        return {name: self.arrays[name].shape[len(self.grid.shape) :] for name in task.outputs}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only one who writes here; see `locked`."""
        with locked(self.path / LOCK, f"store {self.path}"):
            for leftover in self.path.rglob("*.partial"):  # of a driver that was killed while it wrote a chunk
                leftover.unlink(missing_ok=True)
            yield

    def write_axes(self, axes: Iterable[str]) -> None:
        """Write the values of axes again: the grid has them."""
        for axis in axes:
            _write_axis(self.group, self.grid, axis)

    def write(self, i: int, outcome: Outcome) -> None:
        """Store what came of stack i; unless `done` is there, nothing of it counts."""
        place, slices, extent = self.tiles.place(i), self.tiles.slices(i), self.tiles.extent(i)
        self._chunk("done", (i,)).unlink(missing_ok=True)
        per_cell = {**outcome.results, "status": outcome.status}
        for name, values in per_cell.items():
            self.arrays[name][slices] = values.reshape(*extent, *values.shape[1:])
        message = self._chunk("message", place)
        message.unlink(missing_ok=True)
        if any(outcome.messages):
            self.arrays["message"][slices] = np.array(outcome.messages, dtype=object).reshape(extent)
        self.arrays["seconds"][i : i + 1] = np.array([outcome.seconds])
        self.arrays["worker"][i : i + 1] = np.array([outcome.worker], dtype=object)
        written = [self._chunk(name, place) for name in (*per_cell, "message")]
        for file in (*written, *(self._chunk(name, (i,)) for name in OF_STACKS[:-1])):
            _sync(file)
        self.arrays["done"][i : i + 1] = np.ones(1, np.int8)
        _sync(self._chunk("done", (i,)))

    def check(self) -> Checked:
        """Read every chunk of every stack that says it is done, and compare it with its checksum."""
        done, corrupted, failed, seconds = set(), [], {}, {}
        of_cells = [name for name in self.arrays if name not in (*OF_STACKS, "message")]
        for i in range(len(self.tiles)):
            if not self._chunk("done", (i,)).exists():
                continue
            place = self.tiles.place(i)
            message = self._chunk("message", place)
            files = [self._chunk(name, place) for name in of_cells] + [self._chunk(name, (i,)) for name in OF_STACKS]
            if not all(_whole(file) for file in files) or (message.exists() and not _whole(message)):
                corrupted.append(i)
                continue
            done.add(i)
            seconds[i] = float(np.asarray(self.arrays["seconds"][i]))
            if message.exists():
                failed[i] = int(np.sum(np.asarray(self.arrays["status"][self.tiles.slices(i)]) == FAILED))
        axes = tuple(axis for axis in self.grid.axes if not _whole(self.path / axis / "c" / "0"))
        return Checked(frozenset(done), failed, tuple(corrupted), axes, seconds)

    def dataset(self) -> xr.Dataset:
        """The store as a dataset that reads what is asked for when it is asked for."""
        dataset: xr.Dataset = xr.open_zarr(self.path, chunks=None, consolidated=False)  # what was checked on opening
        return dataset

    def _chunk(self, name: str, place: tuple[int, ...]) -> Path:
        """File of a chunk."""
        array = self.arrays[name]
        return self.path / name / array.metadata.encode_chunk_key(place + (0,) * (array.ndim - len(place)))


def _create(group: zarr.Group, name: str, array: Field) -> None:
    group.create_array(
        name,
        shape=array.shape,
        chunks=array.chunks,
        dtype=str if array.dtype == "str" else array.dtype,
        fill_value=FILLS[array.dtype],
        compressors=(ZstdCodec(), Crc32cCodec()),
        dimension_names=array.dims,
    )


def _write_axis(group: zarr.Group, grid: Grid, axis: str) -> None:
    values = grid.coordinate(axis)
    dtype = "str" if values.dtype == object else str(values.dtype)
    if axis not in group:
        dim = next(dim for dim, axes in grid.groups.items() if axis in axes)
        size = (len(values),)
        _create(group, axis, Field((dim,), size, size, dtype))
    array = group[axis]
    assert isinstance(array, zarr.Array)
    array.with_config({"write_empty_chunks": True})[:] = values


def _attributes(grid: Grid, task: Task, tiles: Tiling) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA,
        "task": task.name,
        "grid": grid.to_json(),
        "hash": identity(grid, task.name),
        "tile": list(tiles.tile),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """What computes now."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def _difference(store: Store, grid: Grid, task: str) -> str:
    """The first thing in which a store is not what is asked for, in words."""
    if store.task != task:
        return f"task {store.task}, not {task}"
    if [*store.grid.axes] != [*grid.axes]:
        return f"axes {', '.join(store.grid.axes)}, not {', '.join(grid.axes)}"
    for axis, values in store.grid.axes.items():
        if values != grid.axes[axis]:
            return f"axis {axis} with other values ({_span(values)}, not {_span(grid.axes[axis])})"
    if store.grid.zipped != grid.zipped:
        return f"zipped axes {json.dumps(store.grid.zipped)}, not {json.dumps(grid.zipped)}"
    names = sorted(store.grid.fixed.keys() | grid.fixed.keys())
    had, asked = ([json.dumps(of.fixed[n]) if n in of.fixed else "nothing" for n in names] for of in (store.grid, grid))
    return next(f"{n} fixed to {a}, not {b}" for n, a, b in zip(names, had, asked, strict=True) if a != b)


def _span(values: tuple[Any, ...]) -> str:
    return f"{len(values)} from {values[0]} to {values[-1]}"


def _whole(file: Path) -> bool:
    """Whether a chunk is there and ends in the checksum of the rest."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return False
    return len(content) > 4 and google_crc32c.value(content[:-4]) == int.from_bytes(content[-4:], "little")


def _sync(file: Path) -> None:
    """See a file onto the disk."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:  # no message, nothing failed
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
