"""`polysem analyze`: what it prints and writes."""

import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from commands import Run, assert_refused, tree
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


def test_a_terminal_sees_progress(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("rich.status.Status.update", lambda self, text: self.console.print(text))
    done = run("analyze", model, "--tensor", "W_dec")
    assert done.status == 0
    shares = [int(share) for share in re.findall(r"(\d+)%: W_dec", re.sub(r"\x1b\[[0-9;?]*\w", "", done.err))]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] == 100


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


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A tiny BERT, with a vocabulary that says little, and without a configuration."""
    torch.manual_seed(0)
    d, stream = 8, {"embeddings.word_embeddings": 20, "embeddings.position_embeddings": 5}
    state = {f"{name}.weight": torch.randn(n, d) for name, n in stream.items()}
    for name, shape in (
        ("attention.self.value", (d, d)),
        ("attention.self.query", (d, d)),
        ("attention.output.dense", (d, d)),
        ("intermediate.dense", (12, d)),
        ("output.dense", (d, 12)),
    ):
        state |= {f"encoder.layer.{layer}.{name}.weight": torch.randn(shape) for layer in range(2)}
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "vocab.txt").write_text("".join(f"token{index}\n" for index in range(20)))
    return tmp_path / "model.safetensors"


def test_a_network_is_measured_whole(run: Run, encoder: Path) -> None:
    done = run("analyze", encoder, "--vocab", "vocab.txt", "--heads", 2, "--draws", 2, "--partners", "token3")
    assert done.status == 0, done.err
    assert done.out.startswith(f"BERT network in {encoder}\n")
    lines = {line.split()[0]: line.split() for line in done.out.splitlines() if line}
    assert lines["embeddings.word_embeddings.weight"][1:6] == ["token", "embedding", "20", "×", "8"]
    assert lines["encoder.layer.1.output.dense.weight"][1:6] == ["MLP", "out", "12", "×", "8"]
    assert "encoder.layer.0.attention.self.query.weight" not in lines
    assert "Partners of token3 (row 3)" in done.out
    assert "There is no unembedding" in done.out
    page = Page((encoder.parent / "model-capacity.html").read_text("utf-8"))
    assert "A BERT network of 2 layers: 10 matrices with 105 features." in page.text("p")
    assert any(cell.startswith("token") for cell in page.text("td"))


def test_a_network_as_json(run: Run, encoder: Path) -> None:
    """Of a folder and of the file in it; what interferes with a row is that with its label."""
    arguments = ("--vocab", "vocab.txt", "--draws", 2, "--force", "--json")
    found = run("analyze", encoder, *arguments, "--partners", "token3").json()
    assert found["family"] == "BERT"
    assert [matrix["kind"] for matrix in found["matrices"]][2:4] == ["MLP in", "MLP out"]
    assert "Attention is left out" in found["notes"][0]
    assert found["matrices"][0]["total"] > 0
    by_number = run("analyze", encoder.parent, *arguments, "--partners", 3).json()
    assert by_number["partners"] == found["partners"]
    assert by_number["matrices"] == found["matrices"]
    assert set(found["partners"][0]) == {"index", "label", "cosine", "share"}


def test_a_matrix_of_a_network(run: Run, encoder: Path) -> None:
    found = run("analyze", encoder, "--tensor", "embeddings.word_embeddings.weight", "--json", "--partners", 3).json()
    assert (found["n_features"], found["features"]) == (20, "rows")
    assert len(found["partners"]) == 10


def test_a_network_is_listed_when_asked(run: Run, encoder: Path) -> None:
    done = run("analyze", encoder, "--list")
    assert "encoder.layer.0.attention.self.query.weight" in done.out
    assert "Not measured" not in done.out
    assert len(run("analyze", encoder, "--list", "--json").json()["matrices"]) == 12
    assert not (encoder.parent / "model-capacity.html").exists()


def test_why_a_file_is_only_listed(run: Run, model: Path) -> None:
    assert "Not measured as a whole: its names are of no family" in run("analyze", model).out


def test_mistakes_about_networks(run: Run, encoder: Path) -> None:
    (encoder.parent / "short.txt").write_text("a\nb\n")
    word = "embeddings.word_embeddings.weight"
    for arguments, said in (
        (("--vocab", "short.txt"), f"labels must be as many as the 20 features of {word}, got 2"),
        (("--vocab", "absent.txt"), "absent.txt: cannot be read"),
        (("--heads", 3), "n_heads must divide the 8 inner coordinates"),
        (("--features", "columns"), "features must be left out unless tensor names a matrix"),
        (("--vocab", "vocab.txt", "--partners", "toke"), "the label of one feature"),
        (("--partners", "word"), "has no labels"),
        (("--tensor", "absent"), "no matrix 'absent'"),
    ):
        assert_refused(run("analyze", encoder, "--draws", 2, "--force", *arguments), said)
