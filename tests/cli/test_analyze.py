"""`polysem analyze`: what it prints and writes."""

import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from commands import Run, tree
from html_page import Page


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
