"""`polysem analyze` of a sparse autoencoder, and `polysem compare`."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from commands import Run, assert_refused, tree
from html_page import Page
from polysem.networks import analyze_dictionary, compare_dictionaries, compare_seeds


def saved(folder: Path, seed: int, n: int = 30, d: int = 5) -> Path:
    """A dictionary as SAELens lays it out."""
    W = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    folder.mkdir()
    tensors = {"W_enc": W.T.contiguous(), "W_dec": W, "b_enc": torch.zeros(n), "b_dec": torch.zeros(d)}
    safetensors.torch.save_file(tensors, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"d_in": d, "d_sae": n, "architecture": "standard"}))
    return folder


def test_a_folder_with_a_dictionary_is_measured(run: Run, tmp_path: Path) -> None:
    folder = saved(tmp_path / "layer.6", 0)
    done = run("analyze", folder)
    assert done.status == 0
    assert done.err == ""
    assert "sparse autoencoder of 30 latents in 5 dimensions, layout saelens" in done.out
    expected = analyze_dictionary(folder)
    assert f"total capacity             {expected.report.total:.4f}" in done.out
    assert "cosine of encoder and decoder" in done.out
    page = tmp_path / "layer-dictionary.html"
    assert done.out.endswith(f"Page: {page}\n")
    assert expected.report.verdict in Page(page.read_text("utf-8")).text("p")


def test_its_numbers_as_json(run: Run, tmp_path: Path) -> None:
    folder = saved(tmp_path / "sae", 0)
    found = run("analyze", folder, "--json", "--norm", "unit", "--draws", "3", "--seed", "5", "--out", "o.html").json()
    expected = analyze_dictionary(folder, norm="unit", draws=3, seed=5)
    assert found == {
        "file": str(folder / "sae_weights.safetensors"),
        "page": str(tmp_path / "o.html"),
    } | json.loads(json.dumps(expected.to_dict()))


def test_a_matrix_of_it_can_still_be_measured(run: Run, tmp_path: Path) -> None:
    folder = saved(tmp_path / "sae", 0)
    found = run("analyze", folder / "sae_weights.safetensors", "--tensor", "W_dec", "--json").json()
    assert (found["n_features"], found["d_hidden"]) == (30, 5)


def test_what_a_file_leaves_open_can_be_said(run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", W_enc=np.ones((4, 4)), W_dec=np.eye(4))
    assert_refused(run("analyze", "w.npz"), "Say which with layout=")
    assert run("analyze", "w.npz", "--layout", "gemma-scope", "--json").json()["d_sae"] == 4
    np.savez(tmp_path / "v.npz", W_enc=np.ones((4, 6)), W_dec=np.ones((6, 4)))
    assert_refused(run("analyze", "v.npz"), "Say d_in=")
    assert run("analyze", "v.npz", "--d-in", "4", "--json").json()["d_sae"] == 6


def test_two_are_compared(run: Run, tmp_path: Path) -> None:
    paths = [saved(tmp_path / name, seed) for name, seed in (("a", 0), ("b", 1))]
    done = run("compare", *paths)
    assert done.status == 0
    assert done.err == ""
    expected = compare_dictionaries(*paths)
    assert f"{expected.forward.mean:.4f}" in done.out
    assert expected.verdict in done.out
    assert done.out.endswith(f"Page: {tmp_path / 'polysem-compare.html'}\n")
    assert expected.verdict in Page((tmp_path / "polysem-compare.html").read_text("utf-8")).text("p")
    options = ("--json", "--norm", "unit", "--draws", "3", "--seed", "2", "--shared-above", "0.5")
    found = run("compare", *paths, *options, "--out", "o.html").json()
    again = compare_dictionaries(*paths, norm="unit", draws=3, seed=2, shared_above=0.5)
    assert found["forward"]["mean_best_cosine"] == again.forward.mean
    assert found["forward"]["null"]["covariance"]["mean"] == again.forward.covariance.mean
    assert found["shared_above"] == 0.5


def test_more_are_compared_each_with_each(run: Run, tmp_path: Path) -> None:
    paths = [saved(tmp_path / str(seed), seed) for seed in range(3)]
    found = run("compare", *paths, "--json", "--draws", "2").json()
    expected = compare_seeds(paths, draws=2)
    assert found["mean_best_cosine"] == expected.best.tolist()
    assert found["null"][0][0] is None
    done = run("compare", *paths, "--draws", "2", "--force")
    assert "3: " in done.out
    assert f"{expected.best[0, 1]:.3f} (chance {expected.chance[0, 1]:.3f})" in done.out


def test_mistakes(run: Run, tmp_path: Path) -> None:
    one, other = saved(tmp_path / "a", 0), saved(tmp_path / "b", 1, d=4)
    before = tree(tmp_path)
    assert_refused(run("compare", one), "takes two dictionaries or more")
    assert_refused(run("compare", one, tmp_path / "absent"), "no such file")
    assert_refused(run("compare", one, other), "second must be of the first's length of decoder rows, 5, got 4")
    assert_refused(run("compare", one, one, "--layout", "mine"), "layout must be one of saelens")
    assert tree(tmp_path) == before
    (tmp_path / "polysem-compare.html").write_text("mine")
    assert_refused(run("compare", one, one), "exists: choose another with --out")
    assert (tmp_path / "polysem-compare.html").read_text() == "mine"


@pytest.mark.parametrize("command", ["analyze", "compare"])
def test_dead_ends_leave_nothing(command: str, run: Run, tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", 0)
    (folder / "cfg.json").write_text(json.dumps({"d_in": 30, "d_sae": 5}))
    before = tree(tmp_path)
    assert_refused(run(command, folder, *([folder] if command == "compare" else [])), "do not lie as known dimensions")
    assert tree(tmp_path) == before
