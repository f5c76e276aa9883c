"""The page of a measured matrix says what was measured, in words, numbers and figures."""

import json
from pathlib import Path

import numpy as np
import pytest

from html_page import Page
from polysem.networks import Analysis, analyze
from polysem.plots import report_figures
from polysem.reports import analysis_page


@pytest.fixture
def analysis(tmp_path: Path) -> Analysis:
    W = np.random.default_rng(0).normal(size=(5, 40))
    np.savez(tmp_path / "model.npz", **{"layer_0.W_dec": W})
    return analyze(tmp_path / "model.npz", "layer_0.W_dec", features="columns", norm="unit", draws=3)


def test_words(analysis: Analysis) -> None:
    page = Page(analysis_page(analysis))
    assert page.text("h1") == ["Capacity of layer_0.W_dec"]
    assert "layer_0.W_dec (5 × 40 as stored, columns as features) in model.npz" in page.text("p")
    assert analysis.measured[0].report.verdict in page.text("p")
    assert "norm policy unit" in "".join(page.text("footer"))


def test_numbers(analysis: Analysis) -> None:
    cells = [" ".join(cell.split()) for cell in Page(analysis_page(analysis)).text("td")]
    for label, value in analysis.measured[0].report.table():
        position = cells.index(label)
        assert cells[position + 1] == " ".join(value.split())
    assert "40 × 5" in cells


def test_figures(analysis: Analysis) -> None:
    page = Page(analysis_page(analysis))
    for shown, (name, figure) in zip(page.figures, report_figures(analysis.measured[0].report), strict=True):
        assert shown == json.loads(figure.to_json()), name
    assert [attributes["id"] for tag, attributes in page.elements if tag == "figure"] == [
        "figures-capacity",
        "figures-norm",
        "figures-spectrum",
    ]
