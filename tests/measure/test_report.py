import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.testing import assert_close

import polysem as ps
import reference
from polysem.measure import FeatureClass, classify, report


def gaussian(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_numbers_agree_with_the_functions() -> None:
    W = gaussian(60, 9) * torch.logspace(-2, 2, 60, dtype=torch.float64)[:, None]
    W[7] = 0
    result = report(W)
    assert_close(result.capacity, reference.capacity(W), rtol=1e-9, atol=1e-15)
    assert_close(result.leverage, reference.leverage(W), rtol=1e-9, atol=1e-12)
    assert_close(result.row_norm, torch.linalg.vector_norm(W, dim=1))
    assert result.total == pytest.approx(float(result.capacity.sum()))
    assert result.efficiency == pytest.approx(result.total / 9)
    assert result.rank == 9
    assert result.n_zero == 1
    assert result.n_beyond_precision == 0
    assert sum(result.counts.values()) == 60
    assert int(result.histogram.sum()) == 60
    assert_close(result.singular_values, torch.linalg.svdvals(W))


def test_rank_deficient_and_tight_frames() -> None:
    rotation = reference.random_rotation(7, torch.Generator().manual_seed(1))
    pentagon = reference.regular_polygon(5)
    W = torch.block_diag(pentagon, 3 * torch.eye(2, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64))
    result = report(W @ rotation)
    assert result.rank == 4
    assert result.efficiency == pytest.approx(1, abs=1e-9)
    assert_close(result.capacity[:5], torch.full((5,), 0.4, dtype=torch.float64))
    assert result.counts == {FeatureClass.IGNORED: 1, FeatureClass.IMPURE: 5, FeatureClass.PURE: 2}


def test_faint_rows_are_recomputed() -> None:
    W = torch.block_diag(gaussian(5, 3), gaussian(4, 2, seed=1) * 1e-7)
    result = report(W)
    assert_close(
        result.capacity,
        torch.cat([reference.capacity(W[:5, :3]), reference.capacity(W[5:, 3:])]),
        rtol=1e-6,
        atol=0,
    )
    assert result.n_beyond_precision == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fewer_rows_than_dimensions(dtype: torch.dtype) -> None:
    W = gaussian(20, 70) * torch.logspace(-2, 2, 20, dtype=torch.float64)[:, None]
    W[3] = 0
    W[7] = -2 * W[5]
    W = W.to(dtype)
    result = report(W)
    assert_close(result.capacity, reference.capacity(W.double()), rtol=1e-9, atol=1e-15)
    assert_close(result.leverage, reference.leverage(W.double()), rtol=1e-7, atol=1e-12)
    assert_close(result.row_norm, torch.linalg.vector_norm(W.double(), dim=1))
    expected = torch.linalg.svdvals(W.double())
    assert_close(result.singular_values[:20], expected, rtol=1e-7, atol=1e-7 * float(expected[0]))
    assert result.singular_values[18:].tolist() == pytest.approx([0] * 52, abs=1e-7 * float(expected[0]))
    assert (result.rank, result.n_zero, result.n_beyond_precision) == (18, 1, 0)
    assert result.total == pytest.approx(float(ps.capacity(W).double().sum()), rel=1e-6)


@pytest.mark.parametrize("shape", [(12, 40), (40, 12)])
def test_rounding_of_stored_rows_adds_no_rank(shape: tuple[int, int]) -> None:
    left, right = gaussian(shape[0], 3), gaussian(3, shape[1], seed=1)
    assert report((left @ right).bfloat16()).rank == 3


def test_faint_rows_among_fewer_than_dimensions() -> None:
    W = torch.block_diag(gaussian(5, 30), gaussian(4, 30, seed=1) * 1e-7)
    result = report(W @ reference.random_rotation(60, torch.Generator().manual_seed(1)))
    expected = torch.cat([reference.capacity(W[:5, :30]), reference.capacity(W[5:, 30:])])
    assert_close(result.capacity, expected, rtol=1e-6, atol=0)
    assert (result.rank, result.n_beyond_precision) == (9, 0)


def test_memory_is_that_of_the_rows_where_they_are_few() -> None:
    """Second moments of 300,000 dimensions would take 720 GB."""
    result = report(torch.cat([torch.eye(2, 300_000), -torch.eye(1, 300_000)]))
    assert result.capacity.tolist() == pytest.approx([0.5, 1.0, 0.5])
    assert result.rank == 2
    assert report(torch.zeros(0, 300_000)).total == 0


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_extreme_global_scale(scale: float) -> None:
    W = gaussian(12, 4)
    result = report(W * scale)
    assert_close(result.capacity, reference.capacity(W), rtol=1e-9, atol=0)
    assert result.total == pytest.approx(report(W).total)


def test_a_random_matrix_lies_within_its_nulls() -> None:
    """30 isotropic matrices against 95 % intervals: about 1.5 misses are expected, 6 would be a 1-in-1000 event."""
    outside = {"isotropic": 0, "covariance": 0}
    for seed in range(30):
        result = report(gaussian(300, 12, seed), norm="unit", seed=seed)
        for name in outside:
            low, high = getattr(result, name).interval
            outside[name] += not low <= result.total <= high
    assert outside["isotropic"] <= 6, outside


def test_a_gaussian_matrix_lies_within_the_covariance_null() -> None:
    spread = torch.logspace(-1, 0, 12, dtype=torch.float64)
    outside = 0
    for seed in range(30):
        result = report(gaussian(300, 12, seed) * spread, seed=seed)
        low, high = result.covariance.interval
        outside += not low <= result.total <= high
        assert result.total < result.isotropic.interval[0]
        assert "how unequally the directions are used" in result.verdict
    assert outside <= 6


@pytest.mark.parametrize(("n", "d"), [(200, 10), (50, 50), (2000, 4)])
def test_analytic_isotropic_null(n: int, d: int) -> None:
    """`N D / (N + D − 1)` for unit rows, near the mean of the draws."""
    null = report(gaussian(n, d), norm="unit", draws=20).isotropic
    assert null.analytic == pytest.approx(n * d / (n + d - 1))
    assert null.mean == pytest.approx(null.analytic, rel=0.02)


@pytest.mark.parametrize(("decades", "tolerance"), [(0.0, 0.02), (0.1, 0.04), (0.5, 0.15)])
def test_analytic_covariance_null_is_a_guide(decades: float, tolerance: float) -> None:
    W = gaussian(4000, 20) * torch.logspace(-decades, 0, 20, dtype=torch.float64)
    null = report(W, draws=20).covariance
    assert null.mean == pytest.approx(null.analytic, rel=tolerance)


@pytest.mark.parametrize(("n", "d"), [(120, 6), (30, 50)])
def test_null_draws_are_what_they_say(n: int, d: int) -> None:
    """The blockwise draws against matrices drawn whole: same mean total within 4 standard errors."""
    W = gaussian(n, d) * torch.linspace(0.5, 2, n, dtype=torch.float64)[:, None]
    result = report(W, draws=200)
    norm = torch.linalg.vector_norm(W, dim=1, keepdim=True)
    values, vectors = torch.linalg.eigh(W.T @ W / len(W))
    root = vectors * values.clamp(min=0).sqrt()
    direct: dict[str, list[float]] = {"isotropic": [], "covariance": []}
    for seed in range(200):
        z = gaussian(n, d, seed + 1000)
        isotropic = z / torch.linalg.vector_norm(z, dim=1, keepdim=True) * norm
        direct["isotropic"].append(float(reference_total(isotropic)))
        direct["covariance"].append(float(reference_total(z @ root.T)))
    for name, totals in direct.items():
        null, expected = getattr(result, name), torch.tensor(totals)
        error = ((null.totals.var() + expected.var()) / 200) ** 0.5
        assert abs(null.mean - float(expected.mean())) < 4 * error
        assert float(null.totals.std()) == pytest.approx(float(expected.std()), rel=0.3)
        assert float(null.histogram.sum()) == pytest.approx(n)


def reference_total(W: torch.Tensor) -> torch.Tensor:
    gram = W @ W.T
    return (gram.diagonal().square() / gram.square().sum(1)).sum()


def test_seeds() -> None:
    W = gaussian(40, 5)
    first, again, other = report(W), report(W), report(W, seed=1)
    assert_close(first.isotropic.totals, again.isotropic.totals, rtol=0, atol=0)
    assert not torch.equal(first.isotropic.totals, other.isotropic.totals)
    assert len(set(first.isotropic.totals.tolist())) == 8


@dataclass(frozen=True)
class Shards:
    """A source of row blocks."""

    parts: tuple[torch.Tensor, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(len(part) for part in self.parts), self.parts[0].shape[1])

    @property
    def dtype(self) -> torch.dtype:
        return self.parts[0].dtype

    def blocks(self) -> Iterator[torch.Tensor]:
        yield from self.parts


def test_blocks_of_rows_equal_the_tensor() -> None:
    W, scale = gaussian(50, 6), torch.linspace(1, 2, 50, dtype=torch.float64)
    whole = report(W, norm="unit", scale=scale)
    streamed = report(Shards(W.split(7)), norm="unit", scale=scale)
    assert_close(streamed.capacity, whole.capacity, rtol=1e-12, atol=0)
    assert_close(streamed.capacity, ps.capacity(W, norm="unit", scale=scale), rtol=1e-12, atol=0)
    assert streamed.isotropic.mean == pytest.approx(whole.isotropic.mean)
    assert streamed.scaled


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (1, 4), (4, 1)])
def test_small_and_empty(shape: tuple[int, int]) -> None:
    result = report(torch.ones(shape))
    assert len(result.capacity) == shape[0]
    assert result.total == pytest.approx(1.0 if 0 not in shape else 0.0)
    assert "total capacity" in str(result)


def test_prints_and_serialises() -> None:
    result = report(gaussian(20, 4))
    text, html = str(result), result._repr_html_()
    for label in (
        "total / D",
        "null, random directions",
        "null, same second moments",
        "ignored / impure / pure",
    ):
        assert label in text
        assert label in html
    assert result.verdict in text
    assert html.count("<tr>") == html.count("</tr>") > 8
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["total"] == pytest.approx(result.total)
    assert plain["null"]["covariance"]["interval"] == pytest.approx(list(result.covariance.interval))
    assert plain["n_ignored"] + plain["n_impure"] + plain["n_pure"] == 20


def test_verdict_uses_both_nulls() -> None:
    orthogonal = report(torch.cat([torch.eye(8), -torch.eye(8)]) * 1.0)
    assert "interfere less than random" in orthogonal.verdict
    assert "avoid each other" in orthogonal.verdict
    clumped = gaussian(200, 8) + 10 * torch.nn.functional.one_hot(torch.arange(200) % 2, 8)
    assert "share directions more than random" in report(clumped).verdict


def test_rows_in_few_directions_are_not_called_superposition() -> None:
    angle = 2 * torch.pi * torch.outer(torch.arange(97.0), torch.tensor([3.0, 17.0, 40.0])) / 97
    waves = torch.cat([angle.cos(), angle.sin()], -1) @ torch.linalg.qr(gaussian(64, 6).float())[0].mT
    result = report(waves)
    assert result.effective_dimension == pytest.approx(6)
    assert result.total == pytest.approx(6)  # each row has one norm and one capacity
    assert "few directions, about 6 of the 64 that they could span" in result.verdict
    assert dict(result.table())["effective dimension"] == "6.00"
    assert result.to_dict()["effective_dimension"] == pytest.approx(6)
    for W in (gaussian(97, 64), torch.cat([waves, gaussian(97, 64)]), torch.zeros(3, 64)):
        assert "few directions" not in report(W).verdict


def test_thresholds() -> None:
    capacity = torch.tensor([0.0, 0.0499, 0.05, 0.95, 0.9501, 1.0, 1.0])
    row_norm = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 9e-4**0.5])
    assert classify(capacity, row_norm).tolist() == [0, 0, 1, 1, 2, 2, 0]
    assert classify(capacity).tolist() == [0, 0, 1, 1, 2, 2, 2]


def test_token_embeddings_of_a_language_encoder(minilm_file: Path) -> None:
    with safe_open(minilm_file, "pt") as file:
        W = file.get_tensor("embeddings.word_embeddings.weight")
    result = report(W, draws=4)
    assert result.total / 384 == pytest.approx(0.534, abs=5e-4)
    assert result.isotropic.mean / 384 == pytest.approx(0.986, abs=5e-4)
    assert result.covariance.mean / 384 == pytest.approx(0.522, abs=2e-3)
    assert_close(ps.capacity(W).double(), result.capacity, rtol=1e-5, atol=0)


def test_glove_vectors(glove_folder: Path) -> None:
    W = torch.from_numpy(np.load(glove_folder / "glove_6B_50d_emb.npy"))
    assert float(ps.capacity(W).double().sum()) / 50 == pytest.approx(0.596, abs=5e-4)


@pytest.mark.bad_input
class TestBadInput:
    def test_arguments(self) -> None:
        W = torch.ones(2, 2)
        for options, message in [
            ({"draws": 1}, "draws must be a whole number of at least 2, got 1"),
            ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
            ({"confidence": 1.0}, "confidence must be between 0 and 1, got 1.0"),
            ({"norm": "l2"}, "norm must be 'raw' or 'unit', got 'l2'"),
            ({"scale": torch.ones(3)}, r"scale must be of shape \(2,\), got \(3,\)"),
        ]:
            with pytest.raises(ValueError, match=message):
                report(W, **options)

    def test_batch(self) -> None:
        with pytest.raises(ValueError, match=r"W must be a matrix \[n_features, d_hidden\], got \(2, 2, 2\)"):
            report(torch.ones(2, 2, 2))

    def test_not_a_matrix_at_all(self) -> None:
        with pytest.raises(TypeError, match="W must be a torch.Tensor or a source of row blocks, got str"):
            report("W")  # type: ignore[arg-type]

    def test_bad_row_of_a_later_block(self) -> None:
        part = torch.ones(3, 2)
        with pytest.raises(ValueError, match="NaN or infinity in row 4"):
            report(Shards((part, part.index_fill(0, torch.tensor([1]), torch.nan))))
