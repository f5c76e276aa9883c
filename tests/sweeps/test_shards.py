"""Sums over shards of rows, then rows given the sums."""

from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import polysem as ps
import sweep_tasks
from polysem.sweeps import InProcess, SweepStatus, map_reduce


class Backwards:
    """An engine that finishes the last item first."""

    def run(
        self, function: Callable[[Any], Any], items: Iterable[tuple[int, Any]]
    ) -> Generator[tuple[int, Any | Exception]]:
        return InProcess().run(function, reversed([*items]))


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    """1,000 rows in 12 dimensions."""
    np.save(tmp_path / "W.npy", np.random.default_rng(0).normal(size=(1000, 12)) ** 3)
    return tmp_path / "W.npy"


def capacities(matrix: Path, folder: Path, **more: Any) -> torch.Tensor:
    fixed = {"file": str(matrix), "d_hidden": 12}
    tasks = (sweep_tasks.frame, sweep_tasks.capacities)
    return torch.from_numpy(map_reduce(1000, *tasks, folder, shard_rows=128, fixed=fixed, **more).capacity.values)


def test_capacities_of_a_matrix_on_disk(matrix: Path, tmp_path: Path) -> None:
    found = capacities(matrix, tmp_path / "a")
    torch.testing.assert_close(found, ps.capacity(torch.from_numpy(np.load(matrix))), rtol=1e-12, atol=1e-12)
    backwards = capacities(matrix, tmp_path / "b", engine=Backwards())
    assert torch.equal(found, backwards)  # the sum has an order of its own


def test_shards_are_not_computed_again(matrix: Path, tmp_path: Path) -> None:
    wanted = capacities(matrix, tmp_path / "a")
    for sweep, stop in (("partial", 5), ("rows", 3)):

        def interrupt(now: SweepStatus, sweep: str = sweep, stop: int = stop) -> None:
            if now.n_done == stop and (tmp_path / "b" / "rows.zarr").exists() == (sweep == "rows"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt, match=rf"{stop} of 8 stacks are .*/{sweep}.zarr"):
            capacities(matrix, tmp_path / "b", progress=interrupt)
    seen: list[SweepStatus] = []
    assert torch.equal(capacities(matrix, tmp_path / "b", progress=seen.append), wanted)
    assert [now.n_done for now in seen] == [8, *range(3, 9)]


def test_a_failing_shard_is_an_error_and_is_computed_again(matrix: Path, tmp_path: Path) -> None:
    values = np.load(matrix)
    values[700, 3] = np.nan
    np.save(matrix, values)
    with pytest.raises(RuntimeError, match="1 of 8 shards failed in .*partial.zarr, the first with ValueError: rows"):
        capacities(matrix, tmp_path / "a")
    values[700, 3] = 1.0
    np.save(matrix, values)
    found = capacities(matrix, tmp_path / "a")
    torch.testing.assert_close(found, ps.capacity(torch.from_numpy(values)), rtol=1e-12, atol=1e-12)


@pytest.mark.bad_input
def test_what_is_no_shard(tmp_path: Path) -> None:
    for n_rows, shard_rows, rows, said in (
        (0, 1, sweep_tasks.capacities, "n_rows"),
        (1, 0, sweep_tasks.capacities, "shard_rows"),
        (1, 1, sweep_tasks.frame, "the first dimension of output 'M' must be of size 'shard_rows'"),
    ):
        with pytest.raises(ValueError, match=said):
            map_reduce(n_rows, sweep_tasks.frame, rows, tmp_path / "a", shard_rows=shard_rows)
    assert not (tmp_path / "a").exists()
