"""The page of a measured matrix says what was measured, in words, numbers and figures."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from plotly.offline import get_plotlyjs
from torch import nn

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


HOSTILE = "<script>alert(1)</script>\u202e\x00 a_b x_i"


@pytest.fixture(scope="module")
def network() -> Analysis:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Embedding(12, 6), nn.Linear(6, 20), nn.Linear(20, 6))
    labels = {"0.weight": [f"{HOSTILE}{index}" for index in range(12)]}
    return analyze(module, labels=labels, draws=2)


def tables(html: str) -> list[list[list[str]]]:
    """Rows of cells of every table, as text."""
    return [
        [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
        for table in re.findall(r"<table>(.*?)</table>", html)
    ]


def test_a_network(network: Analysis) -> None:
    html = analysis_page(network)
    page = Page(html)
    assert page.text("h1") == ["Capacity of Sequential"]
    assert "A network of 3 layers: 5 matrices with 64 features." in page.text("p")
    titles = ["0.weight", "What layers read", "What layers write"]
    assert [title for title in page.text("h3") if title in titles] == titles * 2  # of figures, of tables
    summary, *purity, numbers = tables(html)
    assert [row[:2] for row in summary[1:]] == [
        ["0.weight", "1"],
        ["What layers read", "2"],
        ["What layers write", "2"],
    ]
    assert len(numbers) == 1 + len(network)
    for row, one in zip(numbers[1:], network, strict=True):
        report = one.report
        assert row[0] == f"{one.name}, {one.kind}"
        assert row[1] == f"{report.n_features} × {report.d_hidden}"
        assert row[2] == f"{report.total / report.d_hidden:.3f}"
        low, _ = report.interval
        assert row[3].startswith(f"{report.null / report.d_hidden:.3f} ({low / report.d_hidden:.3f} to ")
    assert [table[0][0] for table in purity[:3]] == ["most pure", "least pure", "most for its norm: C over random"]
    ratios = [float(row[1]) / float(row[2]) for row in purity[2][1:]]
    assert ratios == sorted(ratios, reverse=True)
    for table, stream in zip(purity[3:], ("reads", "reads", "writes", "writes"), strict=True):
        group = network.of_kind("Linear", stream)
        features = [(one, feature) for one in group for feature in one.most_pure(5)]
        one, first = max(features, key=lambda found: found[1].capacity)
        if table[0][0] == "most pure":
            assert table[1][:2] == [f"{one.name}, feature {first.index}", f"{first.capacity:.3g}"]
            partner = one.partners(first.index, 3)[0]
            assert table[1][4].startswith(f"feature {partner.index} ({partner.cosine:+.2f}, ")
        else:
            assert float(table[1][1]) <= float(table[-1][1])


def test_labels_of_others_are_shown_as_they_are(network: Analysis) -> None:
    html = analysis_page(network)
    page = Page(html)
    shown = [cell for cell in page.text("td") if "alert(1)" in cell]
    assert len(shown) == 3 * 8 * 2  # features and partners in three tables
    assert all("\\u202e\\u0000 a_b x_i" in cell for cell in shown)
    assert "\u202e" not in html
    assert "<script>alert" not in html


def test_few_directions_are_said(network: Analysis) -> None:
    assert not any("less than a quarter of the directions" in text for text in Page(analysis_page(network)).text("p"))
    W = torch.randn(40, 1).mm(torch.randn(1, 20)) + 1e-3 * torch.randn(40, 20)
    flat = analyze(nn.Sequential(nn.Embedding.from_pretrained(W), nn.Linear(20, 20)), draws=2)
    said = [text for text in Page(analysis_page(flat)).text("p") if "less than a quarter of the directions" in text]
    assert len(said) == 1
    assert said[0].startswith("Rows of 1 of the 3 matrices")
    assert said[0].endswith("These are 0.weight.")


def test_waves_are_not_taken_for_superposition(addition_file: Path) -> None:
    """A network whose numbers lie on a few waves."""
    page = Page(analysis_page(analyze(addition_file, "tok_embed.weight", draws=2)))
    assert any("Rows lie in few directions, about 9.41 of the 114" in text for text in page.text("p"))


def test_a_page_of_many_layers_stays_small() -> None:
    """Beside the library that draws, which every page carries."""
    layers = nn.Sequential(*(nn.Linear(8, 40) for _ in range(48)))
    assert len(analysis_page(analyze(layers, draws=2))) - len(get_plotlyjs()) < 300_000
