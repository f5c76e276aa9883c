"""Polysemanticity against loss, for interventions and architectures."""

import math

import plotly.graph_objects as go

from polysem.plots._style import FIRST, IGNORED, PURE, SECOND, styled
from polysem.studies import Pareto, ParetoPoint

LOOKS = {
    "architecture": ("architectures", IGNORED, "circle-open"),
    "ordinary": ("no intervention", FIRST, "square"),
    "penalty": ("penalty, κ rising", FIRST, "circle"),
    "one by one": ("one by one", SECOND, "diamond"),
    "mask": ("mask", "#24989a", "triangle-up"),
}


def pareto_figures(result: Pareto) -> list[tuple[str, go.Figure]]:
    """Both models, each with its interventions."""
    return [
        ("quadratic", _figure(result.quadratic, "Quadratic model")),
        ("relu", _figure(result.relu, "ReLU autoencoder, and architectures")),
    ]


def _figure(points: tuple[ParetoPoint, ...], title: str) -> go.Figure:
    figure = go.Figure()
    for kind, (name, colour, symbol) in LOOKS.items():
        own = [point for point in points if point.kind == kind]
        if not own:
            continue
        figure.add_scatter(
            x=[float(point.polysemanticity.mean) for point in own],
            y=[float(point.loss.mean) for point in own],
            error_x=_bars([float(point.polysemanticity.half_width) for point in own]),
            error_y=_bars([float(point.loss.half_width) for point in own]),
            mode="lines+markers" if kind == "penalty" else "markers",
            line={"color": colour, "width": 1.5},
            marker={"color": colour, "symbol": symbol, "size": 9, "line": {"width": 2, "color": colour}},
            hovertext=[point.name for point in own],
            name=name,
        )
    star = {"symbol": "star", "size": 14, "color": PURE}
    figure.add_scatter(x=[0], y=[1], mode="markers", marker=star, name="best monosemantic")
    low = min(float(point.loss.mean) for point in points)
    figure.update_layout(margin={"t": 110}, legend={"itemsizing": "constant"})
    figure.update_xaxes(range=[-0.05, 1.05])
    marks = [10**power * digit for power in (-3, -2, -1, 0) for digit in (1, 3)]
    figure.update_yaxes(type="log", range=[math.log10(low) - 0.1, 0.6], tickvals=marks, tickformat="~g")
    return styled(
        figure,
        title=title,
        caption="Means over starts with 95 % intervals. Down is better, left is purer; the star is the least loss of a "
        "model all of whose features are pure or ignored.",
        x="polysemanticity",
        y="loss / best monosemantic loss",
        height=520,
    )


def _bars(half: list[float]) -> dict[str, object]:
    return {"type": "data", "array": half, "thickness": 1, "width": 0}
