"""Figures of a whole network: quantiles of every layer beside those of the null, totals beside both nulls."""

import plotly.graph_objects as go
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from drawn import numbers
from polysem.networks import Analysis, Measured, analyze
from polysem.plots import network_figures
from polysem.plots._network import _null_quantiles

N_LAYERS = 5


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    torch.manual_seed(0)
    layers = [nn.Linear(20, 300) for _ in range(N_LAYERS)]
    with torch.no_grad():
        layers[2].weight[:7] = 0
    return analyze(nn.Sequential(nn.Embedding(50, 20), *layers), draws=4)


@pytest.fixture(scope="module")
def figures(analysis: Analysis) -> dict[str, go.Figure]:
    return {figure.layout.meta["title"]: figure for _, figure in network_figures(analysis)}


def traces(figure: go.Figure, axis: str) -> list[go.Scatter]:
    return [trace for trace in figure.data if (trace.yaxis or "y") == axis]


def test_a_figure_a_group(figures: dict[str, go.Figure]) -> None:
    assert list(figures) == ["0.weight", "What layers read", "What layers write"]
    assert figures["0.weight"].data[0].type == "bar"


def test_quantiles_of_capacity(analysis: Analysis, figures: dict[str, go.Figure]) -> None:
    group = analysis.of_kind("Linear", "reads")
    lines = traces(figures["What layers read"], "y")
    assert len(lines) == 4 + 1 + 3
    for trace in lines:
        assert list(trace.x) == [1, 2, 3, 4, 5]
    quantiles = [0.05, 0.95, 0.25, 0.75, 0.5]
    for trace, quantile in zip(lines[:5], quantiles, strict=True):
        there = [one.report.capacity[one.report.row_norm > 0] for one in group]
        assert_close(numbers(trace.y), torch.stack([values.quantile(quantile) for values in there]))
    assert all("reads" in text for text in lines[4].text)


def test_quantiles_of_the_null_are_those_of_random_directions(analysis: Analysis) -> None:
    """As exactly as its histogram says, whose bins are a few percent wide; zero rows are not counted."""
    for one in analysis.of_kind("Linear", "reads"):
        report = one.report
        W = torch.randn(300, 20, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        W = W / W.norm(dim=1, keepdim=True) * report.row_norm[:, None]
        overlap = (W @ W.mT).square()
        there = report.row_norm > 0
        capacity = overlap.diagonal()[there] / overlap.sum(1)[there]
        expected = capacity.quantile(torch.tensor([0.25, 0.5, 0.75]).double())
        assert_close(_null_quantiles(report)[1:4], expected, rtol=0.12, atol=0)


def test_totals_beside_both_nulls(analysis: Analysis, figures: dict[str, go.Figure]) -> None:
    for stream, title, width in (("reads", "What layers read", 20), ("writes", "What layers write", 20)):
        group = analysis.of_kind("Linear", stream)
        lines = traces(figures[title], "y2")
        expected = []
        for null in ("isotropic", "covariance"):
            drawn = [getattr(one.report, null) for one in group]
            expected += [[d.interval[0] for d in drawn], [d.interval[1] for d in drawn], [d.mean for d in drawn]]
        expected.append([one.report.total for one in group])
        for trace, values in zip(lines, expected, strict=True):
            assert_close(numbers(trace.y), torch.tensor(values).double() / width)
    assert figures["What layers read"].layout.yaxis2.title.text == "total / D"
    assert figures["What layers write"].layout.yaxis2.title.text == "total / min(N, D)"


def test_zero_matrices_and_hostile_names_are_drawn() -> None:
    module = nn.Sequential(*(nn.Linear(3, 4) for _ in range(3)))
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    found = analyze(module, draws=2)
    renamed = tuple(
        Measured("<b>&", one.layer, one.kind, one.stream, one.stored_shape, one.features, one.report) for one in found
    )
    for _, figure in network_figures(Analysis("zeros", None, renamed)):
        text = figure.to_json()
        assert "NaN" not in text
        assert "<b>" not in str(figure.data[4].text)
        assert "&lt;b&gt;&amp;" in str(figure.data[4].text)


def test_figures_of_many_layers_stay_small() -> None:
    """Numbers of quantiles alone are drawn, however many features there are."""
    found = analyze(nn.Sequential(*(nn.Linear(8, 60) for _ in range(40))), draws=2)
    for _, figure in network_figures(found):
        assert len(figure.to_json()) < 50_000
        assert figure.layout.xaxis2.dtick == 5
