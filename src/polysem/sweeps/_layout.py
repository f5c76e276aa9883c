"""How a grid is cut into stacks, and what arrays hold the results: from the grid and the task's declaration alone."""

import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polysem._checks import require, whole
from polysem.sweeps._grid import Grid, Value
from polysem.sweeps._task import Stack, Task

MISSING, OK, FAILED = 0, 1, 2
"""What `status` says of a cell."""

FILLS: dict[str, float | int | str] = {
    "float64": math.nan,
    "float32": math.nan,
    "int64": -1,
    "int8": MISSING,
    "str": "",
}
"""What stands where there is nothing."""

OF_CELLS = ("status", "message")
OF_STACKS = ("seconds", "worker", "done")
RESERVED = (*OF_CELLS, *OF_STACKS, "stack")


@dataclass(frozen=True)
class Tiling:
    """An array of cells cut into tiles of equal shape (but at the edges): tile i is stack i and one chunk."""

    shape: tuple[int, ...]
    tile: tuple[int, ...]

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of tiles along each dimension."""
        return tuple(math.ceil(size / step) for size, step in zip(self.shape, self.tile, strict=True))

    def __len__(self) -> int:
        """Number of tiles."""
        return math.prod(self.counts)

    def place(self, i: int) -> tuple[int, ...]:
        """Where tile i lies among the tiles; the last dimension runs fastest."""
        return tuple(int(k) for k in np.unravel_index(i, self.counts))

    def slices(self, i: int) -> tuple[slice, ...]:
        """The cells of tile i."""
        steps = zip(self.place(i), self.tile, self.shape, strict=True)
        return tuple(slice(k * step, min((k + 1) * step, size)) for k, step, size in steps)

    def extent(self, i: int) -> tuple[int, ...]:
        """Shape of tile i."""
        return tuple(part.stop - part.start for part in self.slices(i))


@dataclass(frozen=True)
class Field:
    """One array of the store: its dimensions, their sizes, its chunks and what it holds."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str


def tiling(grid: Grid, task: Task) -> Tiling:
    """The largest stacks that the task allows, last dimension first, of about equal size."""
    may_vary = {*task.stacked, "seed"}
    tile, room = [], task.max_cells
    for size, axes in reversed([*zip(grid.shape, grid.groups.values(), strict=True)]):
        step = math.ceil(size / math.ceil(size / room)) if may_vary.issuperset(axes) else 1
        tile.append(step)
        room //= step
    return Tiling(grid.shape, tuple(reversed(tile)))


def check(grid: Grid, task: Task) -> None:
    """Raise a ValueError if the grid sets what the task does not read, or not what sizes come from, or names clash."""
    known = {*task.stacked, *task.shared, "seed"}
    for name in (*grid.axes, *grid.fixed):
        require(name in known, f"a setting of {task.name}", name, f"one of {', '.join(sorted(known))}")
    for seed in _settings(grid, "seed"):
        whole("seed", seed, 0)
    for name in task.stacked:
        if name in grid.fixed:
            plain = isinstance(grid.fixed[name], int | float | str)
            require(plain, f"fixed[{name!r}]", grid.fixed[name], "a number or a string")
    taken = {*RESERVED, *grid.axes, *grid.dims}
    allowed = f"named unlike the axes and unlike {', '.join(RESERVED)}"
    for name, output in task.outputs.items():
        for used in (name, *output.dims):
            require(used not in taken, f"an output or dimension of {task.name}", used, allowed)
    fields(grid, task, tiling(grid, task))


def fields(grid: Grid, task: Task, tiles: Tiling) -> dict[str, Field]:
    """The arrays of the store: outputs, what is said of cells, what is said of stacks."""
    result, known = {}, {"stack": len(tiles)}
    for name, output in task.outputs.items():
        own = {dim: _size(grid, size) for dim, size in output.dims.items()}
        for dim, size in own.items():
            same = f"of the same size, {known.setdefault(dim, size)}, in all outputs"
            require(known[dim] == size, f"dimension {dim!r} of output {name!r}", size, same)
        sizes = tuple(own.values())
        dims = (*grid.dims, *own)
        result[name] = Field(dims, (*grid.shape, *sizes), (*tiles.tile, *sizes), output.dtype)
    result["status"] = Field(grid.dims, grid.shape, tiles.tile, "int8")
    result["message"] = Field(grid.dims, grid.shape, tiles.tile, "str")
    for name, dtype in zip(OF_STACKS, ("float64", "str", "int8"), strict=True):
        result[name] = Field(("stack",), (len(tiles),), (1,), dtype)
    return result


def stack(grid: Grid, task: Task, tiles: Tiling, i: int) -> Stack:
    """The cells of tile i, the last dimension running fastest, with the values of their settings and their seeds."""
    extent, slices = tiles.extent(i), tiles.slices(i)
    n_cells = math.prod(extent)
    values: dict[str, NDArray[Any] | Value] = {}
    for position, axes in enumerate(grid.groups.values()):
        for axis in axes:
            part = grid.coordinate(axis)[slices[position]]
            if axis in (*task.stacked, "seed"):
                along = part.reshape([-1 if k == position else 1 for k in range(len(extent))])
                values[axis] = np.broadcast_to(along, extent).reshape(n_cells).copy()
            else:
                values[axis] = grid.axes[axis][slices[position].start]
    for name in task.stacked:
        if name in grid.fixed:
            fixed = grid.fixed[name]
            values[name] = np.full(n_cells, fixed, dtype=object if isinstance(fixed, str) else None)
    fixed_rest = {name: value for name, value in grid.fixed.items() if name not in values}
    return Stack(values, fixed_rest, _seeds(grid, slices))


def identity(grid: Grid, task_name: str) -> str:
    """Hash of what a store holds the results of."""
    return hashlib.sha256(json.dumps([grid.hash, task_name]).encode()).hexdigest()


def _seeds(grid: Grid, slices: Sequence[slice]) -> NDArray[np.int64]:
    """63 bits of the BLAKE2 hash of `seed,i,j,...`: the seed of the grid (of the cell, if an axis) and the indices."""
    along = next((k for k, axes in enumerate(grid.groups.values()) if "seed" in axes), None)
    own = _settings(grid, "seed") or (0,)
    result = []
    for index in itertools.product(*(range(part.start, part.stop) for part in slices)):
        text = ",".join(map(str, (own[0 if along is None else index[along]], *index)))
        result.append(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1)
    return np.array(result, dtype=np.int64)


def _settings(grid: Grid, name: str) -> tuple[Any, ...]:
    """Every value that a setting takes."""
    return grid.axes.get(name, (grid.fixed[name],) if name in grid.fixed else ())


def _size(grid: Grid, size: int | str) -> int:
    """Largest size of a dimension over the grid."""
    if not isinstance(size, str):
        return size
    values = _settings(grid, size)
    require(len(values) > 0, "the grid", [*grid.axes, *grid.fixed], f"one that sets {size!r}, the size of an output")
    return max(whole(size, value) for value in values)
