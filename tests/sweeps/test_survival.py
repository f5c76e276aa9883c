"""Drivers that are killed: whatever the moment, the next one ends with the same store, to the bit."""

import os
import random
import signal
from pathlib import Path

import pytest

from polysem.sweeps import run, status
from sweep_stores import (
    GRID,
    TASK,
    contents,
    drive,
    killed_after,
    killed_in_first_stack,
    killed_in_write,
    paused_in_third_stack,
    start,
    unharmed,
    wait_for,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The store of a sweep that nothing interrupted."""
    store = tmp_path_factory.mktemp("whole") / "s.zarr"
    run(GRID, TASK, store)
    return contents(store)


def test_killed_in_every_write_of_a_stack(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, log = tmp_path / "s.zarr", tmp_path / "log"
    monkeypatch.setenv("SWEEP_LOG", str(log))
    killed_before_there_was_a_store, done = 0, 0
    for number in (5, 1000):  # in making the store, and not at all
        assert drive(store, killed_in_write, number) == (-signal.SIGKILL if number == 5 else 0)
        killed_before_there_was_a_store += not store.exists()
    assert killed_before_there_was_a_store == 1
    assert contents(store) == whole
    log.unlink()
    store = tmp_path / "t.zarr"
    for number in range(8):  # four outputs, status, seconds, worker, done: of the first stack that is missing
        assert drive(store, killed_in_first_stack, number) == -signal.SIGKILL
        assert status(store).n_done == done
        assert [*store.rglob("*.partial")]
    run(GRID, TASK, store)
    assert contents(store) == whole
    assert len(log.read_text().split()) == 8 * 3 + GRID.n_cells  # what was in flight again, and nothing else


def test_killed_at_any_moment(tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    store, log, moments = tmp_path / "s.zarr", tmp_path / "log", random.Random(0)
    monkeypatch.setenv("SWEEP_LOG", str(log))
    kills = 0
    for _ in range(6):
        kills += drive(store, killed_after, moments.uniform(0.0, 0.12)) == -signal.SIGKILL
    assert kills >= 3  # or the moments are badly chosen
    assert drive(store, unharmed) == 0
    assert contents(store) == whole
    seeds = log.read_text().split()
    assert len(set(seeds)) == GRID.n_cells
    assert len(seeds) <= GRID.n_cells + 3 * kills  # a stack in flight has three cells


def test_two_drivers(tmp_path: Path, whole: dict[str, bytes]) -> None:
    store = tmp_path / "s.zarr"
    first = start(store, paused_in_third_stack, str(tmp_path / "go"))
    wait_for(tmp_path / "go.reached", first)
    with pytest.raises(BlockingIOError, match=rf"s.zarr is being computed by process {first.pid} on .* since"):
        run(GRID, TASK, store)
    assert status(store).n_done == 2  # looking is allowed
    (tmp_path / "go").touch()
    first.join()
    assert first.exitcode == 0
    assert contents(store) == whole
    assert run(GRID, TASK, store).status.min() == 1


def test_a_dead_drivers_lock_is_no_obstacle(tmp_path: Path, whole: dict[str, bytes]) -> None:
    store = tmp_path / "s.zarr"
    driver = start(store, paused_in_third_stack, str(tmp_path / "never"))
    wait_for(tmp_path / "never.reached", driver)
    assert driver.pid is not None
    os.kill(driver.pid, signal.SIGKILL)
    driver.join()
    run(GRID, TASK, store)
    assert contents(store) == whole
