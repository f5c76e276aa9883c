"""One line for whatever is wrong, and nothing lost."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from commands import Run, assert_refused, process, tree
from unprivileged import as_nobody, public_folder


class Creates:
    """Unpickling it creates a folder."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("created",)


def put(path: Path, kind: str) -> Path:
    """A file that is wrong in one way."""
    W = np.ones((6, 4))
    if kind == "truncated":
        safetensors.torch.save_file({"W": torch.ones(6, 4)}, path)
        path.write_bytes(path.read_bytes()[:-8])
    elif kind == "text":
        path.write_text("These are the weights.\n" * 10)
    elif kind == "code":
        torch.save({"W": torch.ones(2, 2), "x": Creates()}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Creates()))
    elif kind == "nan":
        W[3, 1] = W[5, 0] = np.nan
        np.savez(path, W=W)
    elif kind == "sound":
        np.savez(path, **{"layer.0.W": W, "layer.0.bias": W[0]})
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("kind", "name", "tensor", "said"),
    [
        ("truncated", "w.safetensors", "W", "truncated"),
        ("text", "w.safetensors", "W", "the content is text"),
        ("text", "w.txt", "W", "the content is text"),
        ("code", "w.pt", "W", "code in a file is never run"),
        ("pickle", "w.pt", "W", "a Python pickle, which is never unpickled"),
        ("nan", "w.npz", "W", "must be finite, got NaN or infinity in row 3 (2 such rows)"),
        (
            "sound",
            "w.npz",
            "layer.0.w",
            "no matrix 'layer.0.w' among the 1 matrix of the file; close to it: 'layer.0.W'",
        ),
        ("sound", "w.npz", "layer.0.bias", "'layer.0.bias' is not a matrix of floating-point numbers: 1-D"),
        ("folder", "w", "W", "a folder, without weight files in it"),
        ("absent", "w.npy", "W", "w.npy: no such file"),
    ],
)
@pytest.mark.parametrize("listing", [False, True])
def test_files_that_cannot_be_measured(
    kind: str, name: str, tensor: str, said: str, listing: bool, run: Run, tmp_path: Path
) -> None:
    put(tmp_path / name, kind)
    before = tree(tmp_path)
    done = run("analyze", name, *([] if listing else ["--tensor", tensor]))
    if listing and kind in {"nan", "sound"}:
        assert done.status == 0
    else:
        assert_refused(done, said)
    assert tree(tmp_path) == before


@pytest.mark.bad_input
def test_the_code_would_run_if_it_were_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.load(put(tmp_path / "w.pt", "code"), weights_only=False)
    assert (tmp_path / "created").is_dir()


@pytest.mark.bad_input
def test_files_and_folders_without_permission(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with public_folder() as folder:
        (folder / "open").mkdir()
        (folder / "open").chmod(0o777)
        path = put(folder / "w.npz", "sound")
        path.chmod(0o644)
        given = ("analyze", path, "--tensor", "layer.0.W", "--json", "--out")
        assert run(*given, folder / "open" / "root.html").status == 0
        assert (
            run("reproduce", "--quick", "--chapter", "stack", "--out", path).status == 2
        )  # all modules are loaded now
        with as_nobody():
            assert run(*given, folder / "open" / "a.html").status == 0
            assert_refused(run(*given, folder / "b.html"), f"no permission to write in {folder}")
            assert_refused(run("plan", "--out", folder / "b.html"), f"no permission to write in {folder}")
            assert_refused(
                run("reproduce", "--quick", "--chapter", "stack", "--out", folder / "b.html"), "no permission to write"
            )
            monkeypatch.chdir(folder)
        path.chmod(0o000)
        with as_nobody():
            assert_refused(run(*given, folder / "open" / "b.html"), "w.npz: no permission to read it")
        assert set(tree(folder)) == {"open", "w.npz", "open/root.html", "open/a.html"}


ENDING = {
    "reproduce": ["reproduce", "--quick", "--chapter", "stack"],
    "analyze": ["analyze", "w.npz", "--tensor", "layer.0.W"],
    "plan": ["plan", "--n-features", 3],
}


@pytest.mark.parametrize("command", list(ENDING))
def test_what_is_there_is_kept_without_force(command: str, run: Run, tmp_path: Path) -> None:
    put(tmp_path / "w.npz", "sound")
    (tmp_path / "a.html").write_text("old")
    before = tree(tmp_path)
    given = [*ENDING[command], "--out", "a.html"]
    assert_refused(run(*given), "output a.html exists: choose another with --out, or overwrite it with --force")
    assert tree(tmp_path) == before
    assert run(*given, "--force").status == 0
    assert (tmp_path / "a.html").read_text("utf-8").startswith("<!doctype html>")
    assert set(tree(tmp_path)) == set(before)


@pytest.mark.parametrize("command", list(ENDING))
def test_places_where_no_page_can_be(command: str, run: Run, tmp_path: Path) -> None:
    put(tmp_path / "w.npz", "sound")
    before = tree(tmp_path)
    assert_refused(run(*ENDING[command], "--out", "absent/a.html"), "there is no directory absent")
    assert_refused(run(*ENDING[command], "--out", tmp_path, "--force"), "is a directory: name a file")
    assert tree(tmp_path) == before


def test_nothing_is_measured_for_a_page_that_cannot_be_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("work was done")

    put(tmp_path / "w.npz", "sound")
    for place in ("polysem.networks.analyze", "polysem.studies.width", "polysem.reports.reproduce"):
        monkeypatch.setattr(place, never)
    for command in ENDING.values():
        assert_refused(run(*command, "--out", "absent/a.html"), "there is no directory absent")
    (tmp_path / "a-figures").touch()
    assert_refused(run("reproduce", "--out", "a.html", "--figures", "json"), "a-figures: it is not a directory")


def test_a_disk_that_is_full(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fdopen", full)
    assert_refused(run("plan"), "No space left on device")
    assert tree(tmp_path) == {}


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("importance\n1\nmuch\n", "features.csv, line 3: importance must be a number, got 'much'"),
        ("importance\n1\n-1\n", "features.csv, line 3: importance must be non-negative and finite, got -1"),
        ("importance,kurtosis\n1,0.5\n", "features.csv, line 2: kurtosis must be at least 1 and finite, got 0.5"),
        ("importance,feature_probability\n1,2\n", "features.csv, line 2: feature_probability must be in (0, 1], got 2"),
        ("weight\n1\n", "features.csv: the header must have a column 'importance', got ['weight']"),
        ("importance\n", "features.csv: no rows below the header"),
        ('importance\n"' + "x" * 200_000, "features.csv: not a CSV file"),
        (None, "features.csv: cannot be read (No such file or directory)"),
    ],
)
def test_bad_tables(content: str | None, said: str, run: Run, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "features.csv").write_text(content)
    before = tree(tmp_path)
    assert_refused(run("plan", "--csv", "features.csv"), said)
    assert tree(tmp_path) == before


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "--kurtosis", "0.5"], "kurtosis must be at least 1 and finite, got 0.5"),
        (["plan", "--kurtosis", "nan"], "kurtosis must be at least 1 and finite, got nan"),
        (["plan", "--feature-probability", "0"], "feature_probability must be in (0, 1], got 0.0"),
        (["plan", "--kurtosis", "5", "--feature-probability", "0.1"], "kurtosis must be left out with a feature_prob"),
        (["plan", "--n-features", "0"], "n_features must be a whole number of at least 1, got 0"),
        (["plan", "--decay", "1.5"], "decay must be in (0, 1], got 1.5"),
        (["plan", "--widths", "3", "-1"], "widths must be a whole number of at least 0, got -1"),
        (["reproduce", "--seed", "-1"], "seed must be a whole number of at least 0, got -1"),
        (["reproduce", "--seed", str(2**70)], "seed must be a whole number from 0 to"),
        (["analyze", "w.npz", "--tensor", "layer.0.W", "--draws", "1"], "draws must be a whole number of at least 2"),
        (["analyze", "w.npz", "--tensor", "layer.0.W", "--seed", "-1"], "seed must be a whole number of at least 0"),
    ],
)
def test_numbers_out_of_range(arguments: list[str], said: str, run: Run, tmp_path: Path) -> None:
    put(tmp_path / "w.npz", "sound")
    before = tree(tmp_path)
    assert_refused(run(*arguments), said)
    assert tree(tmp_path) == before


def test_a_mistake_in_a_process_of_its_own(tmp_path: Path) -> None:
    assert_refused(process("plan", "--csv", "absent.csv", cwd=tmp_path), "absent.csv: cannot be read")
    assert tree(tmp_path) == {}


def test_an_interrupted_command(tmp_path: Path) -> None:
    """The table is a pipe that never says anything: the command waits for it when the signal comes."""
    pipe = tmp_path / "features.csv"
    os.mkfifo(pipe)
    code = (
        "import signal, sys\nfrom polysem.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # whatever this process inherited
        "sys.argv = ['polysem', 'plan', '--csv', 'features.csv']\nmain()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with pipe.open("w"):  # waits until the command opens the other end
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (130, "", "polysem: interrupted\n")
    assert list(tree(tmp_path)) == ["features.csv"]


def test_a_reader_who_stops_reading_is_no_error(tmp_path: Path) -> None:
    put(tmp_path / "w.npz", "sound")
    command = f"{sys.executable} -m polysem analyze w.npz | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 141
