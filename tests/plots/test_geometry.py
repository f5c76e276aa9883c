"""Learned polytopes as drawn: arrows are rows, dots are capacities, pieces of bars are blocks."""

import plotly.graph_objects as go
import pytest
import torch
from torch.testing import assert_close

import reference
from drawn import numbers
from polysem.measure import blocks, capacity
from polysem.plots import geometry_figures
from polysem.studies import Geometry, Learned


def learned(W: torch.Tensor, p: float) -> Learned:
    return Learned(p, W, capacity(W), blocks(W), 1.0, 0.01)


@pytest.fixture(scope="module")
def result() -> Geometry:
    """Built by hand: a pentagon, a pair and a single feature, a hexagon, and a feature that is not represented."""
    pentagon, hexagon = reference.regular_polygon(5), reference.regular_polygon(6)
    pair = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5]], dtype=torch.float64)
    mixed = torch.block_diag(pentagon, pair)
    other = torch.nn.functional.pad(hexagon, (1, 1, 0, 2))
    quadratic = torch.randn(8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    linear = torch.eye(8, 4, dtype=torch.float64)
    turn = reference.random_rotation(2, torch.Generator().manual_seed(0))
    planes = [(pair, 0.5), (0.8 * pentagon, 0.5), (pair, 0.1), (2 * pentagon, 0.1)]
    return Geometry(
        planes=tuple(learned(W @ turn, p) for W, p in planes),
        relu=(learned(other, 1.0), learned(mixed, 0.1)),
        random=(0.25, 0.5),
        quadratic=learned(quadratic, 0.1),
        linear=learned(linear, 0.1),
    )


@pytest.fixture(scope="module")
def figures(result: Geometry) -> dict[str, go.Figure]:
    return dict(geometry_figures(result))


def test_names(figures: dict[str, go.Figure]) -> None:
    assert list(figures) == ["plane", "capacities", "blocks", "relu", "quadratic"]


def test_arrows_are_the_rows_turned(result: Geometry, figures: dict[str, go.Figure]) -> None:
    """All on one scale: the same lengths and angles between them, the longest up, from the centre of the cell."""
    lines, points, _ = figures["plane"].data
    ends = torch.stack([numbers(points.x), numbers(points.y)], -1)
    shown = torch.stack([numbers(lines.x), numbers(lines.y)], -1).view(-1, 3, 2)
    assert_close(shown[:, 1], ends, rtol=0, atol=0)
    assert shown[:, 2].isnan().all()
    arrows = shown[:, 1] - shown[:, 0]
    start, scale = 0, 0.0
    for model, centre in zip(result.planes, [(0, 0), (0, 1), (1, 0), (1, 1)], strict=True):
        own = arrows[start : start + len(model.W)]
        scale = scale or float(own.norm() / model.W.norm())
        assert_close(own @ own.mT, scale**2 * model.W @ model.W.mT, rtol=1e-9, atol=1e-12)
        across, up = own[model.W.norm(dim=1).argmax()].tolist()
        assert across == pytest.approx(0, abs=1e-12)
        assert up > 0
        axes = figures["plane"].layout
        for row in shown[start : start + len(model.W), 0].tolist():
            assert row == [axes.xaxis.tickvals[centre[0]], axes.yaxis.tickvals[centre[1]]]
        start += len(model.W)
    assert start == len(ends)
    assert_close(numbers(points.marker.color), torch.cat([m.capacity for m in result.planes]), rtol=0, atol=0)
    axes = figures["plane"].layout
    assert (list(axes.xaxis.ticktext), list(axes.yaxis.ticktext)) == (["0.5", "0.1"], ["3", "5"])
    assert axes.yaxis.scaleanchor == "x"


def test_drawings_say_what_was_found(figures: dict[str, go.Figure]) -> None:
    texts = figures["plane"].data[2].text
    mixed, pentagon = "pair + 1<br>C 0.50–1.00", "pentagon<br>C 0.40"
    assert list(texts) == [mixed, pentagon, mixed, pentagon]


def test_a_dot_for_every_feature(result: Geometry, figures: dict[str, go.Figure]) -> None:
    figure = figures["capacities"]
    (dots,) = figure.data
    models = [*result.relu, result.linear]
    assert_close(numbers(dots.y), torch.cat([model.capacity for model in models]), rtol=0, atol=0)
    columns = numbers(dots.x).view(3, 8)
    places = torch.tensor(figure.layout.xaxis.tickvals).double()
    assert list(figure.layout.xaxis.ticktext) == ["1", "0.1", "linear"]
    assert float((columns - places[:, None]).abs().max()) < 0.5
    assert all(len(set(row)) == 8 for row in columns.tolist())


def test_lines_at_the_capacities_of_polytopes(figures: dict[str, go.Figure]) -> None:
    axis = figures["capacities"].layout.yaxis
    labels = dict(zip(axis.ticktext, axis.tickvals, strict=True))
    expected = {"tetrahedron": (3, 4), "triangle": (2, 3), "antipodal pair": (1, 2), "pentagon": (2, 5)}
    expected["square antiprism"] = (3, 8)
    assert labels == {"0": 0, "1": 1, **{f"{name} {d}/{n}": d / n for name, (d, n) in expected.items()}}


def test_pieces_of_bars_are_blocks(result: Geometry, figures: dict[str, go.Figure]) -> None:
    """Side by side from 0, as wide as the block has features."""
    figure = figures["blocks"]
    pieces: dict[float, list[tuple[float, float, str]]] = {}
    for trace in figure.data:
        for place, base, size in zip(trace.y, trace.base, trace.x, strict=True):
            pieces.setdefault(place, []).append((base, size, trace.name))
    models = [*result.relu, result.quadratic]
    assert list(figure.layout.yaxis.ticktext) == ["1", "0.1", "quadratic"]
    for place, model in zip(figure.layout.yaxis.tickvals, models, strict=True):
        end = 0.0
        for base, size, _ in sorted(pieces[place]):
            assert base == end
            end += size
        assert end == int(model.represented.sum())
    names = [sorted((size, name) for _, size, name in pieces[place]) for place in figure.layout.yaxis.tickvals]
    assert names[0] == [(6, "another polytope")]
    assert names[1] == [(1, "single feature"), (2, "antipodal pair"), (5, "pentagon")]
    assert names[2] == [(8, "no polytope")]


def test_cosines_of_both_models(result: Geometry, figures: dict[str, go.Figure]) -> None:
    for name, model in (("relu", result.relu[1]), ("quadratic", result.quadratic)):
        (cells,) = figures[name].data
        order = [int(label) - 1 for label in cells.x]
        units = model.W[order] / model.W[order].norm(dim=1, keepdim=True)
        assert_close(numbers(cells.z), units @ units.mT, rtol=0, atol=1e-12)
        assert figures[name].layout.meta["title"].endswith("p = 0.1")
    assert "3 blocks for 8 represented features" in figures["relu"].layout.meta["caption"]
    assert "holds 8 features" in figures["quadratic"].layout.meta["caption"]


def test_captions_state_what_was_measured(result: Geometry, figures: dict[str, go.Figure]) -> None:
    assert (result.sticky, result.random_sticky) == (7 / 14, pytest.approx((6 * 0.25 + 8 * 0.5) / 14))
    caption = figures["capacities"].layout.meta["caption"]
    assert "8 features in 4 dimensions. 50% of all" in caption
    assert "of random directions 39% would" in caption
    assert "represents 4 features, none with C below 1.000" in caption
    caption = figures["blocks"].layout.meta["caption"]
    assert "biggest has 5 features in the ReLU autoencoder and 8 in the quadratic model" in caption
