"""A model that is watched while it trains: figures that are drawn once, and what changes in them from then on."""

import math
from collections.abc import Iterable
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from polysem.measure import FeatureClass
from polysem.plots._gram import cosine_figure, cosines
from polysem.plots._style import CAPACITY_SCALE, IGNORED, IMPURE_SCALE, NULL, PURE, THEORY, TRAINED, styled
from polysem.studies import POLYTOPES, LiveConfig, Moment

REACH = 1.6
STARTS = ("#2f86c9", "#e09f1f", "#24989a", "#b35ab0")
CLASS_COLOURS = {FeatureClass.IGNORED: IGNORED, FeatureClass.IMPURE: IMPURE_SCALE[2], FeatureClass.PURE: PURE}
REFERENCES = ((THEORY, "dash"), (TRAINED, "dot"))

Changes = dict[str, list[dict[str, Any]]]
"""For each figure and each of its traces that has changed its new values; what stands under `extend` is appended."""


def live_figures(
    config: LiveConfig, moment: Moment, *, shown: int = 0, references: Iterable[tuple[str, float]] = ()
) -> list[tuple[str, go.Figure]]:
    """Embeddings, capacities, cosines, losses and polysemanticity of a stack of models, as it begins to train.

    Args:
        config: how the stack is trained.
        moment: what it looks like.
        shown: the start whose capacities and cosines are shown.
        references: names and values of at most two losses to hold others against.
    """
    figures = {
        "embedding": _embedding_figure(config, moment),
        "capacity": _capacity_figure(config, shown),
        "gram": _gram_figure(moment, shown),
        "loss": _loss_figure(config, tuple(references)),
        "index": _index_figure(config),
    }
    for name, changes in live_changes(moment, shown=shown).items():
        for trace, change in zip(figures[name].data, changes, strict=False):
            trace.update(change.get("extend", change))
    return list(figures.items())


def live_changes(moment: Moment, *, shown: int = 0, cosines_too: bool = True) -> Changes:
    """What a moment changes in the figures of `live_figures`.

    Args:
        moment: what the stack looks like now.
        shown: the start whose capacities and cosines are shown.
        cosines_too: look for blocks, too, which takes longer than the rest.
    """
    capacity = moment.capacity[shown]
    changes: Changes = {
        "embedding": list(_embedding_changes(moment)),
        "capacity": [
            {
                "y": _short(capacity),
                "marker": {"color": [CLASS_COLOURS[kind] for kind in moment.feature_class[shown].tolist()]},
            }
        ],
        "loss": [{"extend": {"x": [moment.step], "y": [loss]}} for loss in moment.loss.tolist()],
        "index": [{"extend": {"x": [moment.step], "y": [index]}} for index in _short(moment.polysemanticity)],
    }
    if cosines_too:
        x, y, z = cosines(moment.W[shown], moment.blocks(shown))
        changes["gram"] = [{"x": x, "y": y, "z": _short(z)}]
    return changes


def _embedding_changes(moment: Moment) -> Iterable[dict[str, Any]]:
    """Spokes from the origin to every feature and back, then their tips, for each start."""
    for places, capacity in zip(moment.places, moment.capacity, strict=True):
        axes = [_short(column) for column in places.mT]
        axes += [[0.0] * len(places)] * (2 - len(axes))
        names = "xyz"[: len(axes)]
        yield {name: [end for value in axis for end in (0.0, value)] for name, axis in zip(names, axes, strict=True)}
        yield {**dict(zip(names, axes, strict=True)), "marker": {"color": _short(capacity)}}


def _embedding_figure(config: LiveConfig, moment: Moment) -> go.Figure:
    starts, d_shown = moment.places.shape[0], moment.places.shape[-1]
    columns, solid = min(2, starts), d_shown == 3
    rows = math.ceil(starts / columns)
    kind = "scene" if solid else "xy"
    specs = [
        [{"type": kind} if row * columns + column < starts else None for column in range(columns)]
        for row in range(rows)
    ]
    figure = make_subplots(
        rows=rows,
        cols=columns,
        specs=specs,
        subplot_titles=[f"start {start + 1}" for start in range(starts)],
        horizontal_spacing=0.1,
        vertical_spacing=0.12,
    )
    figure.update_annotations(font_size=12)
    text = [str(feature + 1) for feature in range(config.n_features)]
    scatter = go.Scatter3d if solid else go.Scatter
    for start in range(starts):
        row, column = start // columns + 1, start % columns + 1
        spokes = scatter(
            mode="lines", line={"color": NULL, "width": 2}, name=f"start {start + 1}, spokes", hoverinfo="skip"
        )
        tips = scatter(
            mode="markers",
            marker={"size": 5 if solid else 10, "cmin": 0, "cmax": 1, "colorscale": CAPACITY_SCALE},
            text=text,
            hovertemplate="feature %{text}<br>C %{marker.color:.3f}<extra></extra>",
            name=f"start {start + 1}",
        )
        figure.add_traces([spokes, tips], rows=row, cols=column)
    figure.update_traces(showlegend=False)
    seen = "" if config.d_hidden <= 3 else f" Of {config.d_hidden} dimensions three are drawn."
    styled(
        figure,
        title="Where each feature points",
        caption="A panel for each random start, a spoke for each feature. Its tip tells its capacity: grey (ignored), "
        f"violet over blue and green to yellow (it shares), orange (a dimension of its own).{seen}",
        x="direction 1",
        y="direction 2",
        height=60 + 300 * rows,
    )
    if solid:
        edge = {"range": [-REACH, REACH], "showticklabels": False, "title": {"text": ""}, "gridcolor": NULL}
        eye = {"x": 1.0, "y": 1.0, "z": 0.7}
        figure.update_scenes(xaxis=edge, yaxis=edge, zaxis=edge, aspectmode="cube", camera_eye=eye)
    axis = {"range": [-REACH, REACH], "tickvals": [-1, 0, 1], "showline": False, "zeroline": True}
    figure.update_xaxes(axis, zerolinecolor=NULL, title_standoff=4)
    figure.update_yaxes(axis, zerolinecolor=NULL, title_standoff=4)
    for start in range(0 if solid else starts):
        row, column = start // columns + 1, start % columns + 1
        lowest = start + columns >= starts
        edges = {"row": row, "col": column}
        figure.update_xaxes(title_text="direction 1" if lowest else "", showticklabels=lowest, **edges)
        figure.update_yaxes(title_text="" if column > 1 else "direction 2", showticklabels=column == 1, **edges)
        square = {"scaleanchor": f"x{start + 1 if start else ''}", "constrain": "domain"}
        figure.update_yaxes(square, row=row, col=column)
        figure.update_xaxes(constrain="domain", row=row, col=column)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 24, "b": 10}, uirevision="kept")
    return figure


def _capacity_figure(config: LiveConfig, shown: int) -> go.Figure:
    figure = go.Figure()
    figure.add_bar(
        x=[str(feature + 1) for feature in range(config.n_features)],
        hovertemplate="feature %{x}<br>C %{y:.3f}<extra></extra>",
        name="capacity",
        textposition="none",
        showlegend=False,
    )
    marks = sorted({0.0, 1.0, *map(float, POLYTOPES.values())})
    names = {float(value): str(value) for value in POLYTOPES.values()}
    names |= {3 / 8: "", 2 / 5: "3/8, 2/5"}  # too near to each other for two labels
    figure.update_xaxes(type="category")
    figure.update_yaxes(
        range=[0, 1.04],
        tickvals=marks,
        ticktext=[names.get(mark, f"{mark:g}") for mark in marks],
        tickfont={"size": 10},
        gridwidth=1.5,
    )
    listed = ", ".join(f"{name} {value}" for name, value in POLYTOPES.items())
    return styled(
        figure,
        title=f"How much of a dimension each feature owns in start {shown + 1}",
        caption=f"1 (orange) is a dimension of its own; grey: ignored. Lines mark what each corner of a regular shape "
        f"owns: {listed}.",
        x="feature, by falling importance" if config.decay < 1 else "feature",
        y="capacity C",
        height=360,
    )


def _gram_figure(moment: Moment, shown: int) -> go.Figure:
    return cosine_figure(
        moment.W[shown],
        moment.blocks(shown),
        title=f"Who interferes with whom in start {shown + 1}",
        caption="Cosines between features, sorted by block: features of different blocks are orthogonal (white) and "
        "do not disturb each other. Blue: they point the same way, red: opposite ways. Ignored features are left out.",
    )


def _loss_figure(config: LiveConfig, references: tuple[tuple[str, float], ...]) -> go.Figure:
    figure = _course_figure(config)
    for (name, value), (colour, dash) in zip(references, REFERENCES, strict=False):
        figure.add_scatter(
            x=[0, config.steps], y=[value, value], mode="lines", line={"color": colour, "dash": dash}, name=name
        )
    positive = all(value > 0 for _, value in references)
    figure.update_yaxes(type="log" if positive else "linear", exponentformat="power")
    said = "".join(f" {line}: the {name}." for (name, _), line in zip(references, ("Dashed", "Dotted"), strict=False))
    return styled(
        figure,
        title="Loss",
        caption=f"Expected loss of each start, over all features and without any penalty.{said}",
        x="steps of training",
        y="expected loss",
        height=480,
    )


def _index_figure(config: LiveConfig) -> go.Figure:
    figure = _course_figure(config)
    figure.update_yaxes(range=[-0.03, 1.05])
    return styled(
        figure,
        title="Polysemanticity",
        caption="Mean of 4 C (1 − C) over the represented features: 1 where all have capacity 1/2, 0 where each has a "
        "dimension of its own.",
        x="steps of training",
        y="polysemanticity",
        height=480,
    )


def _course_figure(config: LiveConfig) -> go.Figure:
    """A line for each start, still without points."""
    figure = go.Figure()
    for start in range(config.n_seeds):
        figure.add_scatter(
            mode="lines",
            line={"color": STARTS[start % len(STARTS)], "width": 2},
            name=f"start {start + 1}",
        )
    figure.update_xaxes(range=[-0.02 * config.steps, 1.02 * config.steps])
    return figure


def _short(values: Tensor) -> list[Any]:
    """Numbers as a page needs them: to four places."""
    rounded: list[Any] = (values.double().round(decimals=4) + 0.0).tolist()
    return rounded
