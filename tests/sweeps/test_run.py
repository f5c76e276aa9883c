"""Sweeps: every cell as if computed on its own, once, and read back by anyone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import sweep_tasks
from polysem.sweeps import Grid, SweepStatus, run, status
from sweep_stores import GRID, TASK, contents, seed_of


def by_loop(grid: Grid) -> dict[str, np.ndarray]:
    """What the sweep of `draws` should hold, cell by cell."""
    largest = max(grid.axes["n_features"])
    result = {
        "draw": np.full(grid.shape, np.nan),
        "rows": np.full((*grid.shape, largest, 2), np.nan, np.float32),
        "code": np.full(grid.shape, -1),
    }
    for index in np.ndindex(*grid.shape):
        cell = {axis: values[k] for (axis, values), k in zip(grid.axes.items(), index, strict=True)}
        generator = torch.Generator().manual_seed(seed_of(grid.fixed["seed"], *index))
        rows = torch.randn(cell["n_features"], 2, generator=generator).numpy()
        result["rows"][index][: cell["n_features"]] = rows
        result["draw"][index] = cell["scale"] * np.float64(rows[0, 0])
        result["code"][index] = len(cell["name"])
    return result


def test_every_cell_as_if_computed_alone(tmp_path: Path) -> None:
    results = run(GRID, TASK, tmp_path / "s.zarr").load()
    for name, wanted in by_loop(GRID).items():
        np.testing.assert_array_equal(results[name].values, wanted)
        assert results[name].dtype == wanted.dtype
    assert (results.status == 1).all()
    assert (results.message == "").all()
    assert (results.threads == 1).all()
    assert results.sel(scale=2.0, name="abc").draw.dims == ("n_features",)
    assert results.attrs["task"] == "sweep_tasks:draws"
    assert Grid.from_json(results.attrs["grid"]) == GRID
    assert results.attrs["versions"]["torch"] == torch.__version__


def test_threads_are_given_back(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    try:
        assert (run(GRID, TASK, tmp_path / "s.zarr").threads == 1).all()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("consolidated", [None, True, False])
def test_half_finished_stores_read_without_this_library(tmp_path: Path, consolidated: bool | None) -> None:
    store = tmp_path / "s.zarr"
    wanted = run(GRID, TASK, tmp_path / "whole.zarr").load()
    interrupt_after(3, store)
    half = xr.open_zarr(store, consolidated=consolidated).load()
    done = half.status == 1
    assert int(done.sum()) == 9  # three stacks of three cells
    assert half.done.values.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    xr.testing.assert_equal(half.draw, wanted.draw.where(done))
    assert (half.code.where(~done, -1) == -1).all()


def interrupt_after(stacks: int, store: Path) -> None:
    """Ctrl-C when that many stacks are finished."""

    def stop(now: SweepStatus) -> None:
        if now.n_done == stacks:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=rf"{stacks} of \d+ stacks are finished and kept in .*; the same call"):
        run(GRID, TASK, store, progress=stop)


def test_resuming_computes_what_is_missing_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, store = tmp_path / "log", tmp_path / "s.zarr"
    run(GRID, TASK, tmp_path / "whole.zarr")
    monkeypatch.setenv("SWEEP_LOG", str(log))
    interrupt_after(2, store)
    assert status(store).n_done == 2
    assert status(store).n_missing == GRID.n_cells - status(store).n_ok > 0
    interrupt_after(7, store)
    run(GRID, TASK, store)
    run(GRID, TASK, store)
    seeds = log.read_text().split()
    assert len(seeds) == len(set(seeds)) == GRID.n_cells
    assert contents(store) == contents(tmp_path / "whole.zarr")


def test_progress_and_status(tmp_path: Path) -> None:
    seen: list[SweepStatus] = []
    grid = Grid({"width": [1.0, 2.0, 3.0], "height": [1.0, 5.0, 7.0]})
    results = run(grid, sweep_tasks.rectangle, tmp_path / "s.zarr", progress=seen.append)
    assert results.area.values.tolist() == [[1, 5, 7], [2, 10, 14], [3, 15, 21]]
    assert [(now.n_done, now.n_ok, now.n_missing) for now in seen] == [(0, 0, 9), (1, 3, 6), (2, 6, 3), (3, 9, 0)]
    assert [now.complete for now in seen] == [False, False, False, True]
    assert np.isnan(seen[0].eta)
    assert seen[1].eta > 0 == seen[3].eta
    assert seen[0].n_stacks == 3
    last = status(tmp_path / "s.zarr")
    assert replace(last, rate=seen[-1].rate) == seen[-1]
    assert last.rate == pytest.approx(9 / float(results.seconds.sum()))
    run(grid, "sweep_tasks:rectangle", tmp_path / "s.zarr", progress=seen.append)
    assert len(seen) == 5
    assert seen[-1] == last
    assert last.line == f"9/9 cells, 0 failed, 3/3 stacks, {last.rate:,.3g} cells/s"
    halfway = replace(last, n_ok=6, n_done=2, rate=0.02)
    assert halfway.line == "6/9 cells, 0 failed, 2/3 stacks, 0.02 cells/s, 0:02:30 to go"
    assert seen[0].line == "0/9 cells, 0 failed, 0/3 stacks"


def test_zipped_axes_are_coordinates_of_one_dimension(tmp_path: Path) -> None:
    grid = Grid({"width": [1.0, 2.0], "height": [3.0, 5.0], "seed": [1, 2]}, zipped=[("width", "height")])
    results = run(grid, sweep_tasks.rectangle, tmp_path / "s.zarr")
    assert results.area.dims == ("width+height", "seed")
    assert results.area.values.tolist() == [[3, 3], [10, 10]]
    assert results.height.values.tolist() == [3, 5]
