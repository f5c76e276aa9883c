"""Stores that are damaged, of another sweep, of another time, full, or not to be written to."""

import json
import os
import pickle
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numcodecs.pickles
import numpy as np
import pytest
import torch
import xarray as xr
import zarr

import sweep_tasks
from polysem.sweeps import Grid, Output, run, status
from sweep_stores import GRID, TASK, contents
from unprivileged import as_nobody, public_folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that nobody may change."""
    store = tmp_path_factory.mktemp("finished") / "s.zarr"
    run(GRID, TASK, store)
    return store


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> Path:
    """A copy to do anything to."""
    return Path(shutil.copytree(finished, tmp_path / "s.zarr"))


def test_a_flipped_bit_anywhere_in_a_chunk_is_seen_and_mended(finished: Path, store: Path) -> None:
    chunks = sorted(file for file in store.rglob("*") if file.is_file() and "c" in file.relative_to(store).parts)
    assert len(chunks) == 3 + 8 * 8  # axes; of each stack four outputs, status, seconds, worker, done
    chance = random.Random(0)
    for chunk in chance.sample(chunks, 12):
        whole = chunk.read_bytes()
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        chunk.write_bytes(damaged)
        with pytest.raises(ValueError, match="checksum"):
            xr.open_zarr(store).load()
        axis = chunk.relative_to(store).parts[0] in GRID.axes
        corrupted = status(store).corrupted
        assert len(corrupted) == (0 if axis else 1)
        if axis:
            run(GRID, TASK, store)
        else:
            said = rf"stacks {corrupted[0]} are not what was written \(checksum\) and are computed again"
            with pytest.warns(RuntimeWarning, match=said):
                run(GRID, TASK, store)
        assert contents(store) == contents(finished)


@pytest.mark.parametrize("damage", [Path.unlink, lambda chunk: chunk.write_bytes(b"")])
def test_a_chunk_that_is_gone_is_seen_and_mended(finished: Path, store: Path, damage: object) -> None:
    for name in ("draw", "status", "seconds"):
        damage(next(file for file in (store / name / "c").rglob("*") if file.is_file()))  # type: ignore[operator]
    corrupted = status(store).corrupted
    assert len(corrupted) in (1, 2, 3)
    with pytest.warns(RuntimeWarning, match="computed again"):
        run(GRID, TASK, store)
    assert contents(store) == contents(finished)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("grid", "job", "difference"),
    [
        (GRID, "sweep_tasks:rectangle", "task sweep_tasks:draws, not sweep_tasks:rectangle"),
        (Grid(GRID.axes), TASK, "seed fixed to 3, not nothing"),
        (Grid(GRID.axes, fixed={"seed": 4}), TASK, "seed fixed to 3, not 4"),
        (Grid(GRID.axes | {"scale": [0.5, 1.0]}, fixed=GRID.fixed), TASK, "axis scale with other values"),
        (Grid({"scale": [0.5]}, fixed=GRID.fixed | {"n_features": 3}), TASK, "axes scale, n_features, name, not scale"),
        (Grid(GRID.axes, zipped=[("n_features", "name")], fixed=GRID.fixed), TASK, "zipped axes"),
    ],
)
def test_a_store_of_another_sweep_is_refused(store: Path, grid: Grid, job: object, difference: str) -> None:
    before = contents(store)
    if job == "sweep_tasks:rectangle":
        grid = Grid({"width": [1.0], "height": [2.0]})
    with pytest.raises(ValueError, match=rf"holds another sweep \(\w{{12}}, not \w{{12}}\): it has .*{difference}"):
        run(grid, job, store)  # type: ignore[arg-type]
    assert contents(store) == before


def test_a_task_that_has_other_outputs_now_is_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for outputs, said in (
        ({"draw": Output()}, "had other outputs: (code|rows|threads) differs"),
        (
            TASK.outputs | {"rows": Output({"feature": "n_features", "dim": 3}, "float32")},
            "other outputs: rows differs",
        ),
        (TASK.outputs | {"draw": Output(dtype="float32")}, "outputs: draw differs"),
        (TASK.outputs | {"more": Output()}, "had no output more"),
    ):
        other = replace(TASK, outputs=outputs)
        monkeypatch.setattr(sweep_tasks, "draws", other)
        with pytest.raises(ValueError, match=said):
            run(GRID, other, store)


def test_stacks_stay_as_the_store_has_them(finished: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(store / "done" / "c")
    other = replace(TASK, max_cells=1)
    monkeypatch.setattr(sweep_tasks, "draws", other)
    run(GRID, other, store)
    assert contents(store) == contents(finished)


@pytest.mark.bad_input
def test_what_is_no_store_is_left_alone(store: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "folder", tmp_path / "file"):
        for ask in (lambda p: run(GRID, TASK, p), status):
            with pytest.raises(ValueError, match="store must be a sweep's, or a path where nothing is yet"):
                ask(path)
    assert (tmp_path / "folder" / "mine.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="in a directory that exists"):
        run(GRID, TASK, tmp_path / "none" / "s.zarr")
    with pytest.raises(ValueError, match="store must be a sweep's"):
        status(tmp_path / "none")
    with pytest.raises(ValueError, match="unless resume is on"):
        run(GRID, TASK, store, resume=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "s.zarr"]
    (tmp_path / "empty").mkdir()
    assert run(GRID, TASK, tmp_path / "empty", resume=False).status.min() == 1


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 2}, "schema 1 or earlier, and this one is of schema 2, written by a later polysem"),
        ({"schema_version": "x"}, "schema 1 or earlier"),
        ({"grid": "{}"}, "metadata whole"),
        ({"tile": None}, "metadata whole"),
        ({"task": "other:task"}, "one whose metadata fit its hash"),
    ],
)
def test_stores_of_later_versions_and_broken_metadata(store: Path, change: dict[str, object], said: str) -> None:
    root = store / "zarr.json"
    metadata = json.loads(root.read_text())
    metadata["attributes"].update(change)
    root.write_text(json.dumps(metadata))
    for ask in (lambda: run(GRID, TASK, store), lambda: status(store)):
        with pytest.raises(ValueError, match=said):
            ask()
    root.write_text("{")
    with pytest.raises(ValueError, match="store must be a sweep's"):
        status(store)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "change",
    [
        {"codecs": [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 1}}]},
        {"codecs": [{"name": "sharding_indexed"}]},
        {"data_type": "complex128"},
        {"shape": [10**9, 2, 2]},
        {"shape": [5, 2]},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10**9, 1, 1]}}},
        {"node_type": "group"},
        {"zarr_format": 2},
    ],
)
def test_arrays_that_no_sweep_writes(store: Path, change: dict[str, object]) -> None:
    file = store / "draw" / "zarr.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    for ask in (lambda: run(GRID, TASK, store), lambda: status(store)):
        with pytest.raises(ValueError, match="draw"):
            ask()


class Creates:
    """Unpickling it creates a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.bad_input
def test_codecs_that_unpickle_are_never_reached(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrays of zarr's second format may name a codec that is a pickle, which libraries run where they are told to."""
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True)
    old, created = tmp_path / "old", tmp_path / "created"
    old.mkdir()
    (old / ".zgroup").write_text('{"zarr_format": 2}')
    (old / ".zattrs").write_text(json.dumps(json.loads((finished / "zarr.json").read_text())["attributes"]))
    pickled: dict[str, object] = {"filters": [{"id": "vlen-utf8"}, {"id": "pickle"}], "dtype": "|O", "fill_value": ""}
    for inner in finished.iterdir():
        if inner.is_dir():
            new = json.loads((inner / "zarr.json").read_text())
            shape, chunks = new["shape"], new["chunk_grid"]["configuration"]["chunk_shape"]
            (old / inner.name).mkdir()
            declared = {"zarr_format": 2, "shape": shape, "chunks": chunks, "order": "C", "compressor": None} | pickled
            (old / inner.name / ".zarray").write_text(json.dumps(declared))
            (old / inner.name / ".".join("0" * len(shape))).write_bytes(pickle.dumps(Creates(created)))
    with pytest.raises(ValueError, match="store must be a sweep's"):
        status(old)
    assert not created.exists()
    with pytest.raises(Exception, match="."):  # what came out is no array
        zarr.open_group(old)["draw"][:]
    assert created.exists()


def test_other_versions_than_the_store_was_begun_with_are_told(store: Path) -> None:
    root = store / "zarr.json"
    metadata = json.loads(root.read_text())
    metadata["attributes"]["versions"]["torch"] = "1.0"
    root.write_text(json.dumps(metadata))
    run(GRID, TASK, store)  # nothing to compute, nothing to tell
    (store / "done" / "c" / "3").unlink()
    with pytest.warns(RuntimeWarning, match=rf"begun with torch 1.0 \(now {re.escape(torch.__version__)}\)"):
        run(GRID, TASK, store)


def test_a_full_disk(finished: Path, small_disk: Path) -> None:
    store, filler = small_disk / "s.zarr", small_disk / "filler"

    def fill(now: object) -> None:
        if status(store).n_done == 3:
            left = os.statvfs(small_disk)
            filler.write_bytes(b"x" * left.f_bavail * left.f_bsize)

    said = rf"store {re.escape(str(store))}: there is no space left; finished stacks are kept: the same call goes on"
    with pytest.raises(OSError, match=said):
        run(GRID, TASK, store, progress=fill)
    assert status(store).n_done == 3
    assert not status(store).corrupted
    filler.unlink()
    run(GRID, TASK, store)
    assert contents(store) == contents(finished)
    filler.write_bytes(b"x" * os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize)
    with pytest.raises(OSError, match="no space left"):
        run(GRID, TASK, small_disk / "t.zarr")
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "s.zarr"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True).returncode:
        pytest.skip("mounting a small file system takes root's rights")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_no_permission_to_write(finished: Path) -> None:
    with public_folder() as folder:
        for name in ("whole.zarr", "half.zarr"):
            shutil.copytree(finished, folder / name)
        (folder / "half.zarr" / "done" / "c" / "3").unlink()
        before = contents(folder / "half.zarr")
        with as_nobody():
            np.testing.assert_array_equal(run(GRID, TASK, folder / "whole.zarr").status, 1)
            assert status(folder / "half.zarr").n_done == 7
            for name in ("half.zarr", "new.zarr"):
                with pytest.raises(OSError, match=f"{name}: there is no permission to write"):
                    run(GRID, TASK, folder / name)
        assert contents(folder / "half.zarr") == before


def test_a_store_begun_by_another_at_the_same_time(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.zarr"
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        shutil.copytree(finished, path)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    run(GRID, TASK, path)
    assert contents(path) == contents(finished)
    assert [file.name for file in tmp_path.iterdir()] == ["s.zarr"]
