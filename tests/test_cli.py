"""The commands: what they print and write, and one line for whatever is wrong."""

import json
import os
import pickle
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import xarray as xr

from html_page import Page
from polysem import cli, theory
from unprivileged import as_nobody, public_folder


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    def json(self) -> dict:
        def reject(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        assert self.status == 0, self.err
        assert self.err == ""
        return json.loads(self.out, parse_constant=reject)


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run a command in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["polysem", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return Done(status, *capsys.readouterr())

    return call


def process(*arguments: object, cwd: Path) -> Done:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "polysem", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that lies in a folder, with the content of files."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def assert_refused(done: Done, said: str) -> None:
    assert done.status == 2
    assert done.out == ""
    assert done.err.startswith("polysem: error: ")
    assert done.err.count("\n") == 1
    assert done.err.endswith("\n")
    assert "Traceback" not in done.err
    assert said in done.err


# Help


COMMANDS = {"reproduce": cli.Reproduce, "analyze": cli.Analyze, "plan": cli.Plan}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_an_example(command: str, run: Run) -> None:
    done = run(*filter(None, [command]), "--help")
    assert done.status == 0
    assert done.err == ""
    assert f"Example: polysem {command}" in " ".join(done.out.replace("│", " ").split())
    if not command:
        assert all(name in done.out for name in COMMANDS)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_examples_are_commands(command: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, parsed = COMMANDS[command], []
    monkeypatch.setattr(kind, "run", lambda settings: parsed.append(settings))
    (example,) = re.findall(r"Example: polysem (.*)", kind.__doc__ or "")
    assert run(*shlex.split(example)).status == 0
    assert [type(settings) for settings in parsed] == [kind]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom polysem.cli import main\n"
        "sys.argv = ['polysem', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n"
        "    print(end.code, sorted({'torch', 'numpy', 'scipy', 'plotly', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["explain"],
        ["reproduce", "--figures", "gif"],
        ["analyze"],
        ["analyze", "w.npy", "--features", "both"],
        ["plan", "--kurtosis", "high"],
        ["plan", "--slab", "cauchy"],
        ["plan", "--sparsity", "0.1"],
    ],
)
def test_arguments_that_do_not_parse(arguments: list[str], run: Run, tmp_path: Path) -> None:
    done = run(*arguments)
    assert done.status == 2
    assert done.out == ""
    assert "polysem" in done.err
    assert tree(tmp_path) == {}


def test_a_reader_who_stops_reading_is_no_error(tmp_path: Path) -> None:
    put(tmp_path / "w.npz", "sound")
    command = f"{sys.executable} -m polysem analyze w.npz | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 141


# reproduce


def test_reproduce(tmp_path: Path) -> None:
    done = process("reproduce", "--quick", "--figures", "json", "--out", "r.html", cwd=tmp_path)
    assert done.status == 0
    assert done.err == ""  # no progress bar where no one watches
    assert f"Report: {tmp_path / 'r.html'}" in done.out
    assert f"Figures: {tmp_path / 'r-figures'}" in done.out
    header, rule, *rows = done.out.splitlines()
    assert header.split() == ["experiment", "measured", "theory", "or", "goal"]
    assert set(rule) == {"─", " "}
    assert any(re.search(r"cells in the predicted phase +100\.00% +100 %$", row) for row in rows)
    page = Page((tmp_path / "r.html").read_text("utf-8"))
    assert len(page.figures) == len(list((tmp_path / "r-figures").glob("*.json"))) == 76
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r-figures", "r-sweeps", "r.html"]


def test_reproduce_as_json(run: Run, tmp_path: Path) -> None:
    found = run("reproduce", "--quick", "--chapter", "stack", "width", "phase", "--seed", 4, "--json").json()
    assert found["report"] == str(tmp_path / "polysem-report.html")
    assert [set(line) for line in found["summary"]] == 4 * [{"experiment", "measured", "theory or goal"}]
    page = Page((tmp_path / "polysem-report.html").read_text("utf-8"))
    assert "seed=4" in "".join(page.text("footer"))
    assert {line["measured"] for line in found["summary"]} <= set(page.text("td"))


def test_a_terminal_sees_progress(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    torch.set_num_threads(2)
    done = run("reproduce", "--quick", "--chapter", "phase", "comparison", "--workers", 2)
    assert done.status == 0
    assert torch.get_num_threads() == 1
    assert "The phase diagram" in done.err
    assert "2/2" in done.err
    assert "\x1b" not in done.out


# analyze


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Three matrices and other entries."""
    generator = np.random.default_rng(0)
    path = tmp_path / "model.npz"
    np.savez(
        path,
        W_dec=generator.normal(size=(6, 3)),
        W_enc=generator.normal(size=(3, 6)),
        square=generator.normal(size=(4, 4)).astype(np.float32),
        bias=np.ones(6),
        ids=np.ones((2, 2), dtype=np.int64),
    )
    return path


def test_a_list_of_matrices_leaves_the_reading_open(run: Run, model: Path) -> None:
    done = run("analyze", model)
    lines = {line.split()[0]: " ".join(line.split()) for line in done.out.splitlines() if line}
    assert lines["matrix"] == "matrix stored --features rows --features columns"
    assert lines["W_dec"] == "W_dec 6 × 3 6 features in 3 dims 3 features in 6 dims"
    assert lines["W_enc"] == "W_enc 3 × 6 3 features in 6 dims 6 features in 3 dims"
    assert lines["square"] == "square 4 × 4 4 features in 4 dims 4 features in 4 dims"
    assert "bias" not in lines
    assert re.search(r"Matrices: 3\. Other entries, .*: 2\.", done.out)
    assert "--features rows|columns" in done.out
    assert "total" not in done.out
    assert set(tree(model.parent)) == {"model.npz"}


def test_a_list_as_json(run: Run, model: Path) -> None:
    found = run("analyze", model, "--json").json()
    assert found["matrices"] == [
        {"name": "W_dec", "shape": [6, 3], "dtype": "float64"},
        {"name": "W_enc", "shape": [3, 6], "dtype": "float64"},
        {"name": "square", "shape": [4, 4], "dtype": "float32"},
    ]
    assert set(found["skipped"]) == {"bias", "ids"}


def test_a_file_without_matrices(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones(3))
    done = run("analyze", "v.npy")
    assert re.search(r"Matrices: 0\. Other entries, .*: 1\.", done.out)
    assert "--tensor" not in done.out


def test_a_measured_matrix(run: Run, model: Path) -> None:
    done = run("analyze", model, "--tensor", "W_dec")
    assert done.status == 0
    assert done.err == ""
    page = model.parent / "model-W_dec-capacity.html"
    assert f"W_dec in {model}, rows as features" in done.out
    assert "6 × 3" in done.out
    assert done.out.endswith(f"Page: {page}\n")
    assert "W_dec (6 × 3 as stored, rows as features) in model.npz" in Page(page.read_text("utf-8")).text("p")


def test_columns_are_the_rows_of_the_transpose(run: Run, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "T.npy", np.load(model)["W_dec"].T.copy())
    columns = run("analyze", model, "--tensor", "W_dec", "--features", "columns", "--json").json()
    rows = run("analyze", tmp_path / "T.npy", "--tensor", "T", "--json").json()
    assert (columns["n_features"], columns["d_hidden"], columns["features"]) == (3, 6, "columns")
    assert columns["total"] == pytest.approx(rows["total"], rel=1e-12)
    assert columns["null"]["isotropic"]["mean"] == pytest.approx(rows["null"]["isotropic"]["mean"], rel=1e-6)
    other = run("analyze", model, "--tensor", "W_dec", "--json", "--out", "other.html").json()
    assert other["total"] != pytest.approx(columns["total"], rel=1e-3)


def test_options_reach_the_measurement(run: Run, model: Path) -> None:
    given = ("analyze", model, "--tensor", "W_dec", "--json", "--force")
    unit = run(*given, "--norm", "unit", "--draws", 3).json()
    assert (unit["norm"], unit["draws"]) == ("unit", 3)
    first, same, other = (run(*given, "--seed", seed).json()["null"] for seed in (1, 1, 2))
    assert first == same != other


def test_json_has_no_nan(run: Run, tmp_path: Path) -> None:
    """A matrix of rank 0 has no efficiency."""
    np.save(tmp_path / "zero.npy", np.zeros((3, 2)))
    found = run("analyze", "zero.npy", "--tensor", "zero", "--json").json()
    assert found["efficiency"] is None
    assert found["n_zero"] == 3


def test_names_of_tensors_make_safe_file_names(run: Run, tmp_path: Path) -> None:
    name = "../a/b c<script>" + "x" * 300
    safetensors.torch.save_file({name: torch.eye(2)}, tmp_path / "m.safetensors")
    page = Path(run("analyze", "m.safetensors", "--tensor", name, "--json").json()["page"])
    assert page.parent == tmp_path
    assert page.name.startswith("m-..-a-b-c-script-xxx")
    assert len(Page(page.read_text("utf-8")).scripts) == 5  # the library, three figures and the drawing of them


def test_a_real_network(run: Run, minilm_file: Path) -> None:
    """30,522 token embeddings in R^384: total/D, beside what random directions and the covariance alone give."""
    tensor = "embeddings.word_embeddings.weight"
    found = run("analyze", minilm_file, "--tensor", tensor, "--draws", 2, "--json").json()
    assert (found["n_features"], found["d_hidden"]) == (30522, 384)
    assert found["total_per_dimension"] == pytest.approx(0.534, abs=5e-4)
    assert found["null"]["isotropic"]["mean"] / 384 == pytest.approx(0.986, abs=5e-4)
    assert found["null"]["covariance"]["mean"] / 384 == pytest.approx(0.522, abs=3e-3)
    assert "share directions more than random" in found["verdict"]
    assert "avoid each other more than chance" in found["verdict"]
    assert Page(Path(found["page"]).read_text("utf-8")).figures[1]["data"][0]["type"] == "heatmap"


# plan


def planned(found: dict) -> dict[int, float]:
    return {line["width"]: line["optimal_loss"] for line in found["widths"]}


def test_a_plan_for_geometric_importances(run: Run, tmp_path: Path) -> None:
    found = run("plan", "--n-features", 6, "--decay", 0.5, "--kurtosis", 8, "--json").json()
    assert found["features"] == "6 features, importances v = 0.5ⁱ, kurtosis 8"
    v = [0.5**i for i in range(6)]
    for line in found["widths"]:
        best = theory.allocate(v, 8.0, line["width"])
        wider = theory.allocate(v, 8.0, line["width"] + 1)
        assert line["optimal_loss"] == pytest.approx(float(best.loss), rel=1e-9)
        assert line["price"] == pytest.approx(float(best.price), rel=1e-9)
        assert line["next_gain"] == pytest.approx(float(best.loss - wider.loss), rel=1e-9)
        assert line["n_ignored"] + line["n_impure"] + line["n_pure"] == 6
    assert [line["width"] for line in found["widths"]] == [1, 2, 3, 4, 5, 6]
    assert found["page"] == str(tmp_path / "polysem-plan.html")
    assert len(Page((tmp_path / "polysem-plan.html").read_text("utf-8")).figures) == 3


def test_a_plan_by_probability(run: Run) -> None:
    given = ("plan", "--n-features", 5, "--widths", 2, 4, "--json", "--force")
    by_probability = run(*given, "--feature-probability", 0.05, "--slab", "uniform").json()
    by_kurtosis = run(*given, "--kurtosis", 36).json()
    assert planned(by_probability) == pytest.approx(planned(by_kurtosis), rel=1e-9)
    assert list(planned(by_probability)) == [2, 4]


def test_a_plan_for_a_table(run: Run, tmp_path: Path) -> None:
    (tmp_path / "features.csv").write_text("importance,kurtosis\n1,12\n0.4,30\n0.8,2\n")
    found = run("plan", "--csv", "features.csv", "--json").json()
    assert found["features"] == "3 features, importances from features.csv, kurtosis 2 to 30"
    best = theory.allocate([1.0, 0.4, 0.8], [12.0, 30.0, 2.0], [1, 2, 3])
    assert list(planned(found).values()) == pytest.approx(best.loss.tolist(), rel=1e-9, abs=1e-12)


def test_a_plan_as_a_table(run: Run, tmp_path: Path) -> None:
    done = run("plan", "--n-features", 3)
    assert done.err == ""
    title, _, header, _, *rows, _, page = done.out.splitlines()
    assert title == "3 features, importances v = 0.9ⁱ, kurtosis 20"
    assert re.split(r"  +", header)[1:4] == ["optimal loss", "price μ", "next dim. buys"]
    best = theory.plan([1.0, 0.9, 0.81], 20.0, [1, 2, 3])
    expected = zip(best.loss.tolist(), best.price.tolist(), best.next_gain.tolist(), strict=True)
    assert [row.split() for row in rows] == [
        [str(width), *(f"{value:.6g}" for value in values), "0", *(["3", "0"] if width < 3 else ["0", "3"])]
        for width, values in enumerate(expected, 1)
    ]
    assert page == f"Page: {tmp_path / 'polysem-plan.html'}"


# What goes wrong


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
        assert run(*given, folder / "open" / "root.html").status == 0  # all modules are loaded now
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


# polysem sweep


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Six cells, one of which fails."""
    content = {"task": "sweep_tasks:fragile", "axes": {"x": [1, 4, -1, 9, 16, 25]}}
    (tmp_path / "roots.json").write_text(json.dumps(content))
    return tmp_path / "roots.json"


def test_sweep_computes_and_goes_on(run: Run, config: Path, tmp_path: Path) -> None:
    done = run("sweep", config)
    assert done.status == 0, done.err
    assert done.out.startswith("6/6 cells, 1 failed, 2/2 stacks, ")
    assert "--retry-failed" in done.out
    assert done.out.endswith(f"\nStore: {tmp_path / 'roots.zarr'}\n")
    (tmp_path / "roots.zarr" / "done" / "c" / "1").unlink()
    found = run("sweep", "--status", "roots.zarr", "--json").json()
    assert (found["n_cells"], found["n_ok"], found["n_failed"], found["n_missing"]) == (6, 2, 1, 3)
    assert (found["n_stacks"], found["n_done"], found["corrupted"]) == (2, 1, [])
    assert run("sweep", config, "--json").json()["n_missing"] == 0
    (tmp_path / "roots.zarr" / "root" / "c" / "1").unlink()
    assert "Damaged stacks, to be computed again: 1\n" in run("sweep", "--status", "roots.zarr").out


def test_sweep_as_readme_has_it(run: Run, tmp_path: Path) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text().partition("## Sweeps")[2]
    for language, file in (("python", "my_tasks.py"), ("json", "sweep.json")):
        (tmp_path / file).write_text(readme.partition(f"```{language}\n")[2].partition("```")[0])
    command = readme.partition("```sh\npolysem ")[2].partition(" --workers 2\n")[0]
    assert run(*command.split(), "--json").json()["n_ok"] == 9
    found = xr.open_zarr(tmp_path / "allocations.zarr").load()
    best = theory.allocate([0.8**i for i in range(10)], kurtosis=8.0, total=2.0)
    assert found.price.sel(kurtosis=8, total=2).item() == float(best.price)
    torch.testing.assert_close(torch.from_numpy(found.capacity.sel(kurtosis=8, total=2).values), best.capacity)


def test_sweep_interrupted_says_how_to_go_on(run: Run, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"task": "sweep_tasks:wrong", "axes": {"kind": ["good", "interrupt", "list"]}}')
    done = run("sweep", "c.json")
    assert done.status == 130
    assert re.fullmatch(
        r"polysem: interrupted: 1 of 3 stacks are finished and kept in c.zarr; the same call goes on from there\n",
        done.err,
    )


@pytest.mark.bad_input
def test_sweep_refuses(run: Run, config: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    for content in ("{", "[]", "{}", '{"task": "a:b"}', '{"task": "a:b", "axes": {"a": [1]}, "more": 1}'):
        (tmp_path / "bad.json").write_text(content)
        assert_refused(run("sweep", "bad.json"), "axes")
    for arguments, said in (
        ([], "either a CONFIG or --status"),
        ([config, "--status", "s.zarr"], "either a CONFIG or --status"),
        (["none.json"], "none.json"),
        ([config, "--out", "folder"], "store must be a sweep's"),
        (["--status", "folder"], "store must be a sweep's"),
        ([config, "--workers", "0"], "workers must be a whole number of at least 1, got 0"),
        ([config, "--workers", "2", "--scheduler", "tcp://localhost:1"], "give one of them"),
        ([config, "--scheduler", "nowhere"], "address must be like tcp://host:port, got 'nowhere'"),
    ):
        assert_refused(run("sweep", *arguments), said)
