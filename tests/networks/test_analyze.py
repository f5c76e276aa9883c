"""Matrices in files measured: against loops, against the same matrix in memory, and on a real network."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.testing import assert_close

import reference
from polysem.measure import CapacityReport, report
from polysem.networks import Measured, WeightFileError, analyze

W = torch.randn(30, 7, generator=torch.Generator().manual_seed(0)) * torch.logspace(-1, 1, 30)[:, None]


def save(path: Path, matrix: Tensor) -> str:
    """The name of the matrix in the file."""
    if path.suffix == ".safetensors":
        safetensors.torch.save_file({"layer.W": matrix.contiguous(), "bias": torch.ones(7)}, path)
    elif path.suffix == ".pt":
        torch.save({"layer": {"W": matrix}, "bias": torch.ones(7)}, path)
    elif path.suffix == ".npz":
        np.savez(path, **{"layer.W": matrix.numpy(), "bias": np.ones(7)})
    else:
        np.save(path, matrix.numpy())
        return path.stem
    return "layer.W"


def one(path: Path, tensor: str, **options: object) -> Measured:
    (found,) = analyze(path, tensor, **options)
    return found


def assert_same(found: CapacityReport, expected: CapacityReport) -> None:
    for name in ("capacity", "leverage", "row_norm", "singular_values", "edges"):
        assert_close(getattr(found, name), getattr(expected, name), rtol=1e-6, atol=1e-12)
    for null in ("isotropic", "covariance"):
        assert_close(getattr(found, null).totals, getattr(expected, null).totals, rtol=1e-4, atol=0)
    assert found.to_dict().keys() == expected.to_dict().keys()
    assert (found.n_features, found.d_hidden, found.rank) == (expected.n_features, expected.d_hidden, expected.rank)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_a_null_beyond_the_range_of_squares(scale: float, tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", W.double().numpy())
    np.save(tmp_path / "far.npy", scale * W.double().numpy())
    far, near = one(tmp_path / "far.npy", "far", draws=2), one(tmp_path / "w.npy", "w", draws=2)
    assert_close(far.null, near.null)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.npz", "w.npy"])
@pytest.mark.parametrize("features", ["rows", "columns"])
def test_every_format_in_both_readings(name: str, features: str, tmp_path: Path) -> None:
    tensor = save(tmp_path / name, W)
    analysis = analyze(str(tmp_path / name), tensor, features=features, draws=3, seed=5)
    (found,) = analysis
    matrix = W if features == "rows" else W.T
    assert_close(found.report.capacity, reference.capacity(matrix), rtol=1e-6, atol=1e-12)
    assert_same(found.report, report(matrix.contiguous(), draws=3, seed=5))
    assert (analysis.source, analysis.family) == (str(tmp_path / name), None)
    assert (found.name, found.kind, found.layer, found.stream) == (tensor, "matrix", None, None)
    assert (found.stored_shape, found.features) == ((30, 7), features)
    assert (found.report.n_features, found.report.d_hidden) == tuple(matrix.shape)


def test_columns_are_the_rows_of_the_transpose(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", W.numpy())
    np.save(tmp_path / "b.npy", W.T.contiguous().numpy())
    columns, rows = one(tmp_path / "a.npy", "a", features="columns"), one(tmp_path / "b.npy", "b")
    assert_same(columns.report, rows.report)
    assert not torch.equal(one(tmp_path / "a.npy", "a").report.capacity[:7], columns.report.capacity)


def test_norm_policy_draws_and_seed_are_passed_on(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", W.numpy())
    unit = one(tmp_path / "w.npy", "w", norm="unit", draws=4).report
    assert_close(unit.capacity, reference.capacity(W / W.norm(dim=1, keepdim=True)), rtol=1e-6, atol=0)
    assert len(unit.isotropic.totals) == 4
    first, same, other = (one(tmp_path / "w.npy", "w", seed=seed).report.covariance.totals for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.fixture(scope="module")
def minilm(minilm_file: Path) -> Measured:
    return one(minilm_file, "encoder.layer.0.intermediate.dense.weight", draws=2)


def test_a_layer_of_a_real_network(minilm: Measured, minilm_file: Path) -> None:
    """The inputs of 1,536 neurons in R^384, against the matrix in memory."""
    assert minilm.stored_shape == (1536, 384)
    matrix = safetensors.torch.load_file(minilm_file)[minilm.name].double()
    G = matrix @ matrix.T
    assert_close(minilm.report.capacity, G.diagonal().square() / G.square().sum(1), rtol=1e-9, atol=0)
    assert_close(minilm.report.leverage.sum(), torch.tensor(384.0).double(), rtol=1e-9, atol=0)


def test_the_columns_of_a_real_layer(minilm_file: Path) -> None:
    """The writes of the same neurons are stored as columns."""
    found = one(minilm_file, "encoder.layer.0.output.dense.weight", features="columns", draws=2)
    assert found.stored_shape == (384, 1536)
    assert (found.report.n_features, found.report.d_hidden) == (1536, 384)
    assert 0 < found.report.total < 384


def test_progress_is_told_and_can_end_it() -> None:
    module, told = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 6)), list[tuple[str, float, int]]()
    assert_same(analyze(module, progress=lambda *now: told.append(now)).measured[0].report, report(module[0].weight))
    names, done, n = zip(*told, strict=True)
    assert list(dict.fromkeys(names)) == ["0.weight", "1.weight (reads)", "1.weight (writes)"]
    assert set(n) == {3}
    assert list(done) == sorted(done)
    assert {0.0, 1.0, 2.0, 3.0} < set(done)

    def end(name: str, done: float, n: int) -> None:
        if done > 1.5:
            raise InterruptedError(name)

    with pytest.raises(InterruptedError, match=r"1.weight \(reads\)"):
        analyze(module, progress=end)


@pytest.mark.bad_input
def test_what_cannot_be_measured(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    bad = W.clone()
    bad[11, 3] = bad[20, 2] = float("nan")
    np.savez(path, W=W.numpy(), bad=bad.numpy(), bias=np.ones(7))
    for arguments, error, said in (
        ({"tensor": "V"}, WeightFileError, "no matrix 'V' among the 2 matrices of the file"),
        ({"tensor": "bias"}, WeightFileError, "'bias' is not a matrix of floating-point numbers: 1-D of shape"),
        ({"tensor": "W", "features": "both"}, ValueError, "features must be 'rows' or 'columns', got 'both'"),
        ({"features": "rows"}, ValueError, "features must be left out unless tensor names a matrix, got 'rows'"),
        ({}, ValueError, "w.npz: not a transformer of a known family: its names are of no family"),
        ({"tensor": "W", "labels": ["a"]}, ValueError, "labels must be as many as the 30 features of W, got 1"),
        ({"tensor": "W", "labels": {"V": ["a"]}}, ValueError, "labels must be of measured matrices, W ..., got 'V'"),
        ({"tensor": "W", "norm": "l2"}, ValueError, "norm must be "),
        ({"tensor": "W", "draws": 1}, ValueError, "draws must be a whole number of at least 2, got 1"),
        ({"tensor": "W", "seed": -1}, ValueError, "seed must be a whole number of at least 0, got -1"),
        ({"tensor": "bad"}, ValueError, "must be finite, got NaN or infinity in row 11 "),
        ({"tensor": "bad", "features": "columns"}, ValueError, "must be finite, got NaN or infinity in row 2 "),
    ):
        with pytest.raises(error) as caught:
            analyze(path, **arguments)
        assert said in str(caught.value)
    with pytest.raises(WeightFileError, match="no such file"):
        analyze(tmp_path / "absent.npy", "absent")
