"""Pages of dictionaries say what was read and measured, in words, numbers and figures."""

import json
from pathlib import Path

import pytest
import torch

from html_page import Page
from made_dictionaries import gaussian, saved_dictionary
from polysem.networks import analyze_dictionary, compare_dictionaries, compare_seeds, dictionary
from polysem.plots import dictionary_figures, dictionary_pair_figures, dictionary_seeds_figures, report_figures
from polysem.reports import dictionaries_page, dictionary_page


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [saved_dictionary(tmp_path, f"seed{k}", gaussian(k), gaussian(k + 9)) for k in range(3)]


def cells(page: Page) -> list[str]:
    return [" ".join(cell.split()) for cell in page.text("td")]


def test_one(paths: list[Path]) -> None:
    found = analyze_dictionary(paths[0], norm="unit", draws=2)
    page = Page(dictionary_page(found))
    assert page.text("h1") == ["Dictionary seed0.npz"]
    assert f"seed0.npz: {found.dictionary.says}." in page.text("p")
    assert found.report.verdict in page.text("p")
    assert "norm policy unit" in "".join(page.text("footer"))
    shown = cells(page)
    for label, value in [*found.table(), *found.report.table()]:
        assert " ".join(value.split()) in shown, label
    expected = [figure for _, figure in [*report_figures(found.report), *dictionary_figures(found)]]
    assert page.figures == [json.loads(figure.to_json()) for figure in expected]
    assert "does not say how often" in " ".join(page.text("p"))


def test_what_is_known_of_dead_latents_is_said(paths: list[Path]) -> None:
    firing = torch.ones(40)
    firing[:4] = 0
    page = Page(dictionary_page(analyze_dictionary(paths[0], firing=firing, draws=2)))
    assert "does not say how often" not in " ".join(page.text("p"))
    assert any("4 silent by the frequencies given" in cell for cell in cells(page))


def test_a_transcoder(paths: list[Path]) -> None:
    found = analyze_dictionary(dictionary(paths[0], transcoder=True), draws=2)
    page = Page(dictionary_page(found))
    assert any("another space" in cell for cell in cells(page))
    assert "transcoder of 40 latents from 8 dimensions to 8" in " ".join(page.text("p"))


def test_two(paths: list[Path]) -> None:
    found = compare_dictionaries(*paths[:2], draws=2)
    page = Page(dictionaries_page(found))
    assert found.verdict in page.text("p")
    shown = cells(page)
    for row in found.table():
        assert all(" ".join(cell.split()) in shown for cell in row)
    assert page.figures == [json.loads(figure.to_json()) for _, figure in dictionary_pair_figures(found)]


def test_several(paths: list[Path]) -> None:
    found = compare_seeds(paths, draws=2)
    page = Page(dictionaries_page(found))
    assert found.verdict in page.text("p")
    shown = cells(page)
    for row in found.table():
        assert all(not cell or " ".join(cell.split()) in shown for cell in row)
    assert str(found.replication) in shown
    assert page.figures == [json.loads(figure.to_json()) for _, figure in dictionary_seeds_figures(found)]
