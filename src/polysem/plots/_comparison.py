"""Architectures compared: who superposes features as they get sparser, and what that is worth in loss."""

from collections.abc import Iterator
from itertools import cycle

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from polysem.measure import FeatureClass
from polysem.plots._style import FIRST, IGNORED, IMPURE_SCALE, PURE, SECOND, THEORY, log_axis, styled
from polysem.studies import Band, Comparison, over_starts

SEQUENTIAL = [[k / (len(IMPURE_SCALE) - 1), colour] for k, colour in enumerate(IMPURE_SCALE)]
LINES = (FIRST, SECOND, "#24989a", "#b35ab0", PURE, "#7a6a3a", IGNORED, "#5b4a9c")
ROW_HEIGHT, LEAST_HEIGHT = 19, 360
PROBABILITY = "feature probability p"


def comparison_figures(result: Comparison) -> list[tuple[str, go.Figure]]:
    """For each dimension: three maps of architecture × probability, and loss against polysemanticity."""
    return [
        (f"{name}-{d}", figure)
        for index, d in enumerate(result.d_hidden)
        for name, figure in (*_maps(result, index), ("price", _price(result, index)))
    ]


def family_figures(result: Comparison, names: tuple[str, ...]) -> list[tuple[str, go.Figure]]:
    """For each dimension: shares, polysemanticity and loss of the named architectures, with confidence bands."""
    rows = [result.architecture.index(name) for name in names]
    return [(f"bands-{d}", _bands(result, rows, index)) for index, d in enumerate(result.d_hidden)]


def _maps(result: Comparison, index: int) -> Iterator[tuple[str, go.Figure]]:
    d = result.d_hidden[index]
    over_floor = result.relative_loss / result.monosemantic
    for name, title, scale, values, top, caption in (
        (
            "represented",
            "Features represented",
            "share",
            result.represented,
            1.0,
            "Yellow: all features are represented.",
        ),
        (
            "polysemanticity",
            "Polysemanticity",
            "index",
            result.polysemanticity,
            1.0,
            "Mean 4 C (1 − C) of the represented features. Yellow: all have capacity 1/2.",
        ),
        (
            "loss",
            "Loss over the best monosemantic one",
            "ratio",
            over_floor,
            2.0,
            "Below 1 (green, blue, violet) superposition beats one dimension for each of the most important features.",
        ),
    ):
        figure = go.Figure()
        figure.add_heatmap(
            x=[f"{p:.2g}" for p in result.probability],
            y=list(result.architecture),
            z=over_starts(values[:, index]).mean,
            zmin=0,
            zmax=top,
            colorscale=SEQUENTIAL,
            colorbar={"thickness": 10, "title": {"text": scale}},
            hovertemplate="%{y}<br>p %{x}: %{z:.3f}<extra></extra>",
        )
        figure.update_xaxes(type="category")
        figure.update_yaxes(type="category", autorange="reversed", dtick=1, tickfont={"size": 11})
        height = max(LEAST_HEIGHT, 130 + ROW_HEIGHT * len(result.architecture))
        styled(
            figure,
            title=f"{title}, D = {d}",
            caption=f"{caption} Means over starts.",
            x=PROBABILITY,
            y="architecture",
            height=height,
        )
        yield name, figure


def _price(result: Comparison, index: int) -> go.Figure:
    """One marker per architecture and probability: the start with the lowest loss."""
    best = result.best[:, index][..., None]
    loss, index_value = (
        np.take_along_axis(values[:, index], best, -1)[..., 0]
        for values in (result.relative_loss / result.monosemantic, result.polysemanticity)
    )
    families = [name.split()[0] for name in result.architecture]
    figure = go.Figure()
    sizes = np.linspace(5, 13, len(result.probability))
    for family, colour in zip(dict.fromkeys(families), cycle(LINES), strict=False):
        rows = [row for row, name in enumerate(families) if name == family]
        figure.add_scatter(
            x=index_value[rows].ravel(),
            y=loss[rows].ravel(),
            mode="markers",
            marker={"color": colour, "size": np.tile(sizes, len(rows)), "opacity": 0.75},
            name=family,
            text=[f"{result.architecture[row]}, p = {p:.2g}" for row in rows for p in result.probability],
            hovertemplate="%{text}<br>polysemanticity %{x:.3f}<br>loss %{y:.3f}<extra></extra>",
        )
    figure.add_scatter(
        x=[-0.03, 1.03],
        y=[1, 1],
        mode="lines",
        line={"dash": "dash", "color": THEORY},
        name="best monosemantic",
        hoverinfo="skip",
    )
    figure.update_layout(margin={"t": 90})
    figure.update_xaxes(range=[-0.03, 1.03])
    figure.update_yaxes(**log_axis(0.01, 100.0))
    return styled(
        figure,
        title=f"What polysemanticity is worth, D = {result.d_hidden[index]}",
        caption="The best start of every architecture at every probability, larger markers for sparser features: "
        "losses far below the dashed line come with polysemantic features.",
        x="polysemanticity, mean 4 C (1 − C)",
        y="loss over the best monosemantic one",
        height=480,
    )


def _bands(result: Comparison, rows: list[int], index: int) -> go.Figure:
    panels = (
        ("represented", result.represented),
        ("pure", result.share[FeatureClass.PURE]),
        ("polysemanticity", result.polysemanticity),
        ("relative loss", result.relative_loss),
    )
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.03)
    for panel, (_, values) in enumerate(panels, 1):
        for row, colour in zip(rows, cycle(LINES), strict=False):
            band = over_starts(values[row, index])
            for trace in _line(result, band, colour, result.architecture[row], shown=panel == 1):
                figure.add_trace(trace, row=panel, col=1)
    floor = np.nanmean(result.monosemantic[rows, index], axis=(0, -1))
    line = {"dash": "dash", "color": THEORY, "width": 2}
    trace = go.Scatter(x=result.probability, y=floor, mode="lines", line=line, name="best monosemantic")
    figure.add_trace(trace, row=len(panels), col=1)
    figure.update_xaxes(**log_axis(float(result.probability[-1]), 1.0), autorange="reversed")
    figure.update_yaxes(range=[-0.04, 1.06])
    figure.update_layout(margin={"t": 110})
    styled(
        figure,
        title=f"D = {result.d_hidden[index]}",
        caption="Share of features represented and pure, mean 4 C (1 − C) of those represented, and loss over that of "
        "ignoring everything. Features get sparser to the right; bands: 95 % intervals over the starts.",
        x="",
        y="",
        height=820,
    )
    figure.update_xaxes(title_text=PROBABILITY, row=len(panels), col=1)
    for panel, (name, _) in enumerate(panels, 1):
        figure.update_yaxes(title_text=name, row=panel, col=1)
    return figure


def _line(result: Comparison, band: Band, colour: str, name: str, *, shown: bool) -> Iterator[go.Scatter]:
    x, width = result.probability, np.nan_to_num(band.half_width)
    yield go.Scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([band.mean + width, (band.mean - width)[::-1]]),
        mode="lines",
        fill="toself",
        fillcolor=colour,
        opacity=0.2,
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=name,
    )
    yield go.Scatter(
        x=x,
        y=band.mean,
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"size": 5},
        name=name,
        legendgroup=name,
        showlegend=shown,
        hovertemplate="p %{x:.3g}: %{y:.3f}<extra>" + name + "</extra>",
    )
