"""Map-reduce over the rows of a matrix that is too large for one process."""

import io
import os
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from polysem._checks import require, whole
from polysem.sweeps._engine import Engine
from polysem.sweeps._grid import Grid
from polysem.sweeps._layout import FAILED
from polysem.sweeps._run import run
from polysem.sweeps._status import SweepStatus
from polysem.sweeps._task import Task, load_task

PARTIAL, TOTAL, ROWS = "partial.zarr", "total.npz", "rows.zarr"


def map_reduce(
    n_rows: int,
    partial: Task | str,
    rows: Task | str,
    folder: str | PathLike[str],
    *,
    shard_rows: int,
    fixed: Mapping[str, Any] | None = None,
    engine: Engine | None = None,
    progress: Callable[[SweepStatus], None] | None = None,
) -> xr.Dataset:
    """Sum a task over shards of rows, then map every row given the sums: two sweeps over the shards.

    `total = Σ_shards partial(shard)`, in the order of the shards, whoever computes them; then `rows(shard, total)`.
    Both are `sweeps.run`: what is finished is kept in the folder, and the same call goes on from there. The partial
    sums are kept too (`D × D` numbers a shard for a frame operator), so let shards be many times longer than `D`.

    Args:
        n_rows: rows of the matrix.
        partial: what is summed; its stacks are shards, with the settings `start`, `shard_rows` and `n_rows`: rows from
            `start` on, `shard_rows` of them or up to `n_rows`.
        rows: what is computed for each row; it has the same settings and `total`, the path of an `.npz` file of the
            sums. The first dimension of each output has size `"shard_rows"`.
        folder: where both sweeps and the sums are kept; it is made if it is not there.
        shard_rows: rows of a shard.
        fixed: further settings of both tasks, such as the path of the matrix.
        engine: where shards are computed; workers elsewhere must see the folder under the same path.
        progress: called with the status of either sweep, as in `run`.

    Returns:
        The outputs of `rows`, with their first dimension running over all rows of the matrix.

    Raises:
        ValueError: an argument out of range, or what `run` refuses.
        RuntimeError: a shard failed; the message says why, and the next call computes it again.

    Source: ours.
    """
    whole("n_rows", n_rows)
    whole("shard_rows", shard_rows)
    home, by_row = Path(folder).resolve(), load_task(rows)
    for name, output in by_row.outputs.items():
        sized = [*output.dims.values()][:1] == ["shard_rows"]
        require(sized, f"the first dimension of output {name!r}", dict(output.dims), "of size 'shard_rows'")
    home.mkdir(exist_ok=True)
    settings = {**(fixed or {}), "shard_rows": shard_rows, "n_rows": n_rows}
    starts = {"start": range(0, n_rows, shard_rows)}

    def sweep(task: Task | str, name: str, settings: Mapping[str, Any]) -> xr.Dataset:
        done = run(Grid(starts, fixed=settings), task, home / name, engine=engine, retry_failed=True, progress=progress)
        failed = np.flatnonzero(done.status == FAILED)
        if len(failed):
            told = f"{len(failed)} of {done.sizes['start']} shards failed in {home / name}"
            raise RuntimeError(f"{told}, the first with {done.message.values[failed[0]]}")
        return done

    total = home / TOTAL
    _save(total, _sums(sweep(partial, PARTIAL, settings), load_task(partial)))
    mapped = sweep(by_row, ROWS, {**settings, "total": str(total)})
    return xr.Dataset({name: _flat(mapped[name], n_rows) for name in by_row.outputs})


def _sums(shards: xr.Dataset, task: Task) -> dict[str, NDArray[Any]]:
    """Sums over shards, from the first to the last, one in memory at a time."""
    result = {}
    for name in task.outputs:
        total = shards[name][0].values
        for shard in shards[name][1:]:
            total = total + shard.values
        result[name] = total
    return result


def _save(file: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write a `.npz` under a temporary name and move it into place."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    try:
        temporary.write_bytes(buffer.getvalue())
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _flat(mapped: xr.DataArray, n_rows: int) -> xr.DataArray:
    """Shards one after the other, without the padding of the last."""
    _, row, *rest = mapped.dims
    values = mapped.values
    return xr.DataArray(values.reshape(-1, *values.shape[2:])[:n_rows], dims=(row, *rest))
