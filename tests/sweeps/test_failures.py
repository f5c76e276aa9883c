"""What goes wrong in a task is data; what goes wrong outside is an error that says so and loses nothing."""

from pathlib import Path

import numpy as np
import pytest

import sweep_tasks
from polysem.sweeps import Grid, run, status


def test_failing_cells_are_found_and_told(tmp_path: Path) -> None:
    grid = Grid({"x": [1.0, 4.0, -9.0, 16.0, -1.0, -2.0, 25.0]})
    results = run(grid, sweep_tasks.fragile, tmp_path / "s.zarr").load()
    np.testing.assert_array_equal(results.root.values, [1, 2, np.nan, 4, np.nan, np.nan, 5])
    assert results.status.values.tolist() == [1, 1, 2, 1, 2, 2, 1]
    assert results.message.values[2].startswith("ArithmeticError: no root of -9.0 (sweep_tasks.py:")
    assert [bool(message) for message in results.message.values] == [False, False, True, False, True, True, False]
    assert status(tmp_path / "s.zarr").n_failed == 3
    assert status(tmp_path / "s.zarr").complete


def test_a_stack_is_tried_again_as_a_whole(tmp_path: Path) -> None:
    grid = Grid({"x": [100.0, 4.0, 9.0]}, fixed={"folder": str(tmp_path)})
    results = run(grid, sweep_tasks.fragile, tmp_path / "s.zarr")
    assert results.root.values.tolist() == [10, 2, 3]
    grid = Grid({"x": [100.0, 4.0, 9.0]}, fixed={"folder": str(tmp_path / "none")})
    results = run(grid, sweep_tasks.fragile, tmp_path / "t.zarr", retries=0)
    assert results.status.values.tolist() == [2, 1, 1]


def test_failed_cells_are_computed_again_only_when_asked(tmp_path: Path) -> None:
    grid, store = Grid({"x": [200.0, 4.0, 9.0, 16.0, 25.0]}, fixed={"folder": str(tmp_path)}), tmp_path / "s.zarr"
    assert run(grid, sweep_tasks.fragile, store).status.values.tolist() == [2, 1, 1, 1, 1]
    (tmp_path / "200.0").touch()
    assert run(grid, sweep_tasks.fragile, store).status.values.tolist() == [2, 1, 1, 1, 1]
    results = run(grid, sweep_tasks.fragile, store, retry_failed=True).load()
    assert results.status.values.tolist() == [1, 1, 1, 1, 1]
    assert results.message.values.tolist() == [""] * 5
    assert results.root.values[0] == np.sqrt(200)


@pytest.mark.bad_input
def test_results_that_were_not_declared(tmp_path: Path) -> None:
    grid = Grid({"kind": ["good", "list", "name", "cells", "size", "dtype", "exit", "unicode"]})
    results = run(grid, sweep_tasks.wrong, tmp_path / "s.zarr").load()
    assert results.status.values.tolist() == [1] + [2] * 7
    for message, said in zip(
        results.message.values[1:],
        (
            "what sweep_tasks:wrong returns must be ['a', 'b'], got 'list'",
            "what sweep_tasks:wrong returns must be ['a', 'b'], got ['a']",
            "the shape of a must be (1,), or less but for the cells, got (2,)",
            "the shape of b must be (1, 2), or less but for the cells, got (1, 3)",
            "the dtype of a must be like float64, got dtype('complex128')",
            "SystemExit: 3",
            "ValueError: ?xxx",
        ),
        strict=True,
    ):
        assert said in message
        assert len(message) <= 2000


def test_an_engine_that_loses_a_stack(tmp_path: Path) -> None:
    class Lossy:
        def run(self, function, items):  # type: ignore[no-untyped-def]
            for index, item in items:
                yield index, RuntimeError("killed") if index == 1 else function(item)

    grid = Grid({"x": [1.0, 4.0, 9.0, 16.0, 25.0]})
    results = run(grid, sweep_tasks.fragile, tmp_path / "s.zarr", engine=Lossy()).load()
    np.testing.assert_array_equal(results.root.values, [1, 2, 3, np.nan, np.nan])
    assert results.message.values[3] == "the worker was lost: RuntimeError: killed"
    assert run(grid, sweep_tasks.fragile, tmp_path / "s.zarr", retry_failed=True).status.values.tolist() == [1] * 5
