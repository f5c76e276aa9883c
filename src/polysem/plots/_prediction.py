"""Predicted against trained capacities and losses, and a map of the errors beside those of the baselines."""

import numpy as np
import plotly.graph_objects as go

from polysem.plots._comparison import LEAST_HEIGHT, LINES, ROW_HEIGHT, SEQUENTIAL
from polysem.plots._style import IGNORED, PURE, SECOND, THEORY, styled
from polysem.studies import LINEAR, PATTERNS, SPENT, Prediction

SHOWN = {"spread": "all alike", "antipodal": "one partner", "network": "network's own"}
"""What interferes, in words."""
COLUMNS = {**SHOWN, "equal": "equal split", "quadratic": "quadratic"}
SECOND_START = "second start"
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "star")
COLOURS = {LINEAR: IGNORED, "quadratic": PURE, "tied": LINES[3], "untied": SECOND}
"""Groups of architectures, those first that may be covered."""
PATTERN_COLOURS = (LINES[2], SECOND, LINES[3])
LARGEST_ERROR = 0.5


def prediction_figures(result: Prediction) -> list[tuple[str, go.Figure]]:
    """For each pattern predicted against trained capacity, and for all predicted against trained loss."""
    return [*((name, _capacities(result, name)) for name in PATTERNS), ("loss", _losses(result))]


def prediction_maps(result: Prediction) -> list[tuple[str, go.Figure]]:
    """For each feature probability a map of the errors: architecture × what predicts."""
    return [(f"error-{k}", _errors(result, k)) for k in range(len(result.probability))]


def _capacities(result: Prediction, pattern: str) -> go.Figure:
    n_features, p = result.capacity.shape[-1], result.probability
    symbols = [SYMBOLS[k % len(SYMBOLS)] for k in range(len(p))]
    figure = go.Figure()
    for group, colour in COLOURS.items():
        rows = result.groups.get(group)
        if rows is None:
            continue
        figure.add_scatter(
            x=result.capacity[rows].ravel(),
            y=result.predicted[pattern][rows, :, SPENT].ravel(),
            mode="markers",
            marker={
                "color": colour,
                "symbol": np.tile(np.repeat(symbols, n_features), len(rows)),
                "size": 8,
                "opacity": 0.65,
            },
            name=group,
            text=[
                f"{result.architecture[row]}, p = {one:g}, feature {feature}"
                for row in rows
                for one in p
                for feature in range(1, n_features + 1)
            ],
            hovertemplate="%{text}<br>trained %{x:.3f}<br>predicted %{y:.3f}<extra></extra>",
        )
    _diagonal(figure, 1.0)
    figure.update_xaxes(dtick=0.25)
    figure.update_yaxes(dtick=0.25)
    symbol = ", ".join(f"{name}s p = {one:g}" for name, one in zip(symbols, p, strict=True))
    curved = result.error(pattern)[~result.linear]
    return styled(
        figure,
        title=f"Interference: {SHOWN[pattern]}",
        caption="On the diagonal the feature has the capacity that the curves predict. Where readouts are not linear, "
        f"features lie {np.nanmean(curved):.3f} off on average. {symbol[0].upper()}{symbol[1:]}.",
        x="trained capacity",
        y="predicted capacity",
        height=520,
    )


def _losses(result: Prediction) -> go.Figure:
    figure = go.Figure()
    rows = np.flatnonzero(~result.linear)
    trained = result.loss[rows].ravel()
    predicted = {pattern: result.predicted_loss[pattern][rows, :, SPENT].ravel() for pattern in PATTERNS}
    for pattern, colour in zip(PATTERNS, PATTERN_COLOURS, strict=True):
        figure.add_scatter(
            x=trained,
            y=predicted[pattern],
            mode="markers",
            marker={"color": colour, "size": 8, "opacity": 0.75},
            name=SHOWN[pattern],
            text=[f"{result.architecture[row]}, p = {p:g}" for row in rows for p in result.probability],
            hovertemplate="%{text}<br>trained %{x:.3f}<br>predicted %{y:.3f}<extra></extra>",
        )
    _diagonal(figure, float(np.nanmax([trained, *predicted.values()], initial=0.1)))
    return styled(
        figure,
        title="Predicted and trained losses",
        caption="Sum of the curves at the predicted capacities, over the loss of ignoring everything, where readouts "
        "are not linear. Below the diagonal training does not reach what the curves promise.",
        x="trained loss, relative",
        y="predicted loss, relative",
        height=520,
    )


def _errors(result: Prediction, column: int) -> go.Figure:
    values = np.stack([*(result.error(name)[:, column] for name in COLUMNS), result.noise[:, column]], -1)
    figure = go.Figure()
    figure.add_heatmap(
        x=[*COLUMNS.values(), SECOND_START],
        y=list(result.architecture),
        z=values,
        zmin=0,
        zmax=LARGEST_ERROR,
        colorscale=SEQUENTIAL,
        showscale=False,
        texttemplate="%{z:.2f}",
        textfont={"size": 9},
        hovertemplate="%{y}<br>%{x}: %{z:.4f}<extra></extra>",
    )
    figure.update_xaxes(type="category", tickangle=-90)
    figure.update_yaxes(type="category", autorange="reversed", dtick=1, tickfont={"size": 11})
    p = result.probability[column]
    return styled(
        figure,
        title=f"Errors at p = {p:g}",
        caption="Mean absolute error of capacity: of measured curves with three patterns of interference, of two "
        "baselines, and of the second best start as a guess at the best. Violet: right; yellow: 0.5.",
        x="what predicts",
        y="architecture",
        height=max(LEAST_HEIGHT, 200 + ROW_HEIGHT * len(result.architecture)),
    )


def _diagonal(figure: go.Figure, end: float) -> None:
    figure.add_scatter(
        x=[0, end],
        y=[0, end],
        mode="lines",
        line={"dash": "dash", "color": THEORY},
        name="as predicted",
        hoverinfo="skip",
    )
    figure.update_layout(margin={"t": 110})
    margin = 0.04 * end
    figure.update_xaxes(range=[-margin, end + margin])
    figure.update_yaxes(range=[-margin, end + margin])
