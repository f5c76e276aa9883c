"""Figures of dictionaries show the numbers that were measured."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from drawn import numbers
from made_dictionaries import gaussian, saved_dictionary
from polysem.networks import (
    DictionaryAnalysis,
    DictionaryComparison,
    SeedComparison,
    analyze_dictionary,
    compare_dictionaries,
    compare_seeds,
    dictionary,
)
from polysem.plots import dictionary_figures, dictionary_pair_figures, dictionary_seeds_figures


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("dictionaries")
    rows = [gaussian(0), torch.cat([gaussian(1)[:10], gaussian(0)[:20]]), gaussian(2)]
    rows[0][3] = 0
    return [saved_dictionary(folder, str(k), decoder, gaussian(5 + k, len(decoder))) for k, decoder in enumerate(rows)]


@pytest.fixture(scope="module")
def analysis(paths: list[Path]) -> DictionaryAnalysis:
    return analyze_dictionary(paths[0], draws=2)


@pytest.fixture(scope="module")
def pair(paths: list[Path]) -> DictionaryComparison:
    return compare_dictionaries(*paths[:2], draws=3)


@pytest.fixture(scope="module")
def seeds(paths: list[Path]) -> SeedComparison:
    return compare_seeds(paths, draws=2)


def test_response_beside_capacity(analysis: DictionaryAnalysis) -> None:
    marks, line = dict(dictionary_figures(analysis))["response"].data
    assert analysis.response is not None
    assert_close(numbers(marks.x), analysis.report.capacity, rtol=0, atol=0)
    assert_close(numbers(marks.y), analysis.response, rtol=0, atol=0)
    assert list(marks.text) == [f"latent {i}" for i in range(40) if i != 3]
    assert list(line.x) == list(line.y)


def test_alignment(analysis: DictionaryAnalysis) -> None:
    (bars,) = dict(dictionary_figures(analysis))["alignment"].data
    assert analysis.alignment is not None
    assert float(numbers(bars.y).sum()) == 39
    for middle, width, count in zip(numbers(bars.x), numbers(bars.width), numbers(bars.y), strict=True):
        inside = (analysis.alignment - middle).abs() < width / 2
        assert int(inside.sum()) == int(count)


def test_nearest_beside_its_bound(analysis: DictionaryAnalysis) -> None:
    marks, bound, threshold = dict(dictionary_figures(analysis))["nearest"].data
    assert_close(numbers(marks.x), analysis.nearest.cosine.abs(), rtol=0, atol=0)
    assert_close(numbers(marks.y), analysis.report.capacity, rtol=0, atol=0)
    assert [float(numbers(bound.y)[at]) for at in (0, 50, 100)] == [1, 0.8, 0.5]
    assert set(threshold.x) == {0.95}


def test_without_encoder_or_search(paths: list[Path]) -> None:
    transcoder = analyze_dictionary(dictionary(paths[0], transcoder=True), draws=2)
    assert [name for name, _ in dictionary_figures(transcoder)] == ["nearest"]
    assert not dictionary_figures(analyze_dictionary(dictionary(paths[0], transcoder=True), draws=2, search=0))


def test_many_latents_become_a_density(tmp_path: Path) -> None:
    found = analyze_dictionary(saved_dictionary(tmp_path, "many", gaussian(0, 2100, 4), gaussian(1, 2100, 4)), draws=2)
    figures = dict(dictionary_figures(found))
    for name in ("response", "nearest"):
        cells = figures[name].data[0]
        assert cells.type == "heatmap"
        assert int(numbers(cells.text).sum()) == 2100
    x, y = numbers(figures["nearest"].data[0].x), numbers(figures["nearest"].data[0].y)
    assert float(x.diff().std()) < 1e-9  # even, not in logarithms
    assert float(y.min()) < float(found.report.capacity.median()) < float(y.max())


def test_best_matches_beside_chance(pair: DictionaryComparison) -> None:
    for name, way in (("forward", pair.forward), ("backward", pair.backward)):
        bars, isotropic, covariance = dict(dictionary_pair_figures(pair))[name].data
        counts = numbers(bars.y)
        assert int(counts.sum()) == len(way.latents)
        assert int(counts[-1]) == int((way.cosine.abs() >= 59 / 60).sum())
        for line in (isotropic, covariance):
            assert float(numbers(line.y).sum()) == pytest.approx(len(way.latents))
    (marks,) = dict(dictionary_pair_figures(pair))["capacity"].data
    assert_close(numbers(marks.x), pair.forward.cosine.abs(), rtol=0, atol=0)
    assert_close(numbers(marks.y), pair.forward.capacity, rtol=0, atol=0)


def test_seeds(seeds: SeedComparison) -> None:
    figures = dict(dictionary_seeds_figures(seeds))
    (cells,) = figures["pairs"].data
    off = ~torch.eye(3, dtype=torch.bool)
    assert_close(numbers(cells.z)[off], seeds.best[off], rtol=0, atol=0)
    assert bool(numbers(cells.z)[~off].isnan().all())
    assert_close(numbers(cells.customdata)[off], seeds.chance[off], rtol=0, atol=0)
    assert f"{float(seeds.chance[off].max()):.3f}" in figures["pairs"].layout.meta["caption"]
    for k, line in enumerate(figures["capacities"].data):
        values = numbers(line.y)
        assert float(values.sum()) / 8 == pytest.approx(float(seeds.total[k]))
        assert bool((values.diff() <= 0).all())
