"""Marginal-benefit curves: two features at a point of the phase diagram, many features under one total."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import plotly.graph_objects as go
from torch import Tensor

from polysem.plots._style import FIRST, SECOND, TRAINED, Drawing, array, drawing, figure_of
from polysem.studies import PairCurves, Points, Stack


def point_figures(result: Points) -> list[tuple[str, go.Figure]]:
    """One figure per point: both features' curves against `C_1`, the optimum and the trained capacity marked."""
    return [(point.name, _point_figure(result, index)) for index, point in enumerate(result.points)]


def _point_figure(result: Points, index: int) -> go.Figure:
    point = result.points[index]
    optimum = "optimum", result.optimum.capacity[index], result.optimum_benefit[index]
    trained = "trained", result.trained_capacity[index], result.trained_benefit[index]
    traces = _pair_traces(result.first_capacity, result.benefit[index], (optimum, trained))
    caption = f"{point.name}. {point.says[0].upper()}{point.says[1:]}. {point.look}"
    title = f"{point.name}: F = {point.kurtosis:g}, v₂/v₁ = {point.ratio:g}"
    return figure_of(_pair_drawing(traces, title=title, caption=caption, height=360))


def pair_curves_figure(result: PairCurves) -> go.Figure:
    """Both features' curves against `C_1`, with the optimum on the line of equal marginal benefit."""
    return figure_of(pair_curves_drawing(result))


def pair_curves_drawing(result: PairCurves) -> Drawing:
    """The drawing of `pair_curves_figure`."""
    optimum = "optimum", result.optimum.capacity, result.optimum_benefit
    price = float(result.optimum.price)
    line = {
        "type": "scatter",
        "x": [-0.04, 1.04],
        "y": [price, price],
        "mode": "lines",
        "line": {"dash": "dot", "color": TRAINED},
        "name": "price μ",
        "hoverinfo": "skip",
    }
    return _pair_drawing(
        [*_pair_traces(result.first_capacity, result.benefit, (optimum,)), line],
        title=f"F = {result.kurtosis:.3g}, v₂/v₁ = {result.ratio:.3g}",
        caption="What the next bit of capacity would save on each feature; to the right feature 1 has more, feature 2 "
        "less. Where both share at the optimum, it lies where the curves meet; where one has all, its curve ends "
        "above the other's. The price μ is what a little more than the one dimension would save.",
        height=460,
    )


def _pair_drawing(traces: Iterable[dict[str, Any]], *, title: str, caption: str, height: int) -> Drawing:
    return drawing(
        traces,
        title=title,
        caption=caption,
        x="capacity C₁ (C₂ = 1 − C₁)",
        y="marginal benefit −dL/dC",
        height=height,
        xaxis={"range": [-0.04, 1.04]},
        yaxis={"rangemode": "tozero"},
    )


def _pair_traces(x: Tensor, curves: Tensor, marks: Sequence[tuple[str, Tensor, Tensor]]) -> Iterator[dict[str, Any]]:
    """Two curves `[2, n_grid]`, and capacities `[2]` with their benefits `[2]` marked on them."""
    for feature, colour in enumerate((FIRST, SECOND)):
        yield {
            "type": "scatter",
            "x": array(x),
            "y": array(curves[feature]),
            "mode": "lines",
            "line": {"color": colour, "width": 3},
            "name": f"feature {feature + 1}",
            "hovertemplate": "C₁ %{x:.3f}<br>benefit %{y:.3f}<extra>feature " + str(feature + 1) + "</extra>",
        }
    for (label, capacities, benefits), (symbol, size) in zip(marks, (("circle-open", 15), ("x-thin", 9)), strict=False):
        capacity, other = capacities.tolist()
        benefit = benefits.tolist()
        yield {
            "type": "scatter",
            "x": [capacity],
            "y": [benefit[0 if capacity >= other else 1]],  # on the curve of the feature that owns more
            "mode": "markers",
            "marker": {"symbol": symbol, "size": size, "color": TRAINED, "line": {"width": 2.5, "color": TRAINED}},
            "name": label,
            "hovertemplate": f"{label}: C₁ = {capacity:.4f}<extra></extra>",
        }


def stack_figure(result: Stack) -> go.Figure:
    """All features' curves on a logarithmic axis, circles at the optimal capacities, a slider for several totals."""
    return figure_of(stack_drawing(result))


def stack_drawing(result: Stack) -> Drawing:
    """The drawing of `stack_figure`."""
    count, start = len(result.v), len(result.totals) // 3
    grid = array(result.grid)
    curves = [
        {
            "type": "scatter",
            "x": grid,
            "y": benefit,
            "mode": "lines",
            "line": {"color": _shade(feature, count), "width": 2},
            "name": f"feature {feature + 1}",
            "showlegend": False,
            "hovertemplate": f"feature {feature + 1}, v = {v:.3f}<br>C %{{x:.3f}}<br>benefit %{{y:.4g}}<extra></extra>",
        }
        for feature, (v, benefit) in enumerate(zip(result.v.tolist(), array(result.benefit), strict=True))
    ]
    circles, line = _at_total(result, start)
    circles = {
        "type": "scatter",
        "mode": "markers",
        "marker": {"size": 11, "color": "rgba(0,0,0,0)", "line": {"width": 2.5, "color": TRAINED}},
        "name": "optimal capacity",
        **circles,
    }
    line = {
        "type": "scatter",
        "mode": "lines",
        "line": {"dash": "dot", "color": TRAINED},
        "name": "price μ",
        "hoverinfo": "skip",
        **line,
    }
    several = len(result.totals) > 1
    filled = "Move the slider: capacity" if several else "Capacity"
    slider: dict[str, Any] = {"sliders": [_slider(result, start)]} if several else {}
    return drawing(
        [*curves, circles, line],
        title="What the next bit of capacity saves on each feature",
        caption="A curve for each feature, the first blue, the last yellow; a circle where the best division puts it. "
        f"{filled} fills falling curves (F above 3) from above: all partly represented features sit at one height, "
        "the price μ; those whose curve ends above it are pure, those that start below it ignored. Where curves rise "
        "(F below 3), features get whole dimensions, one after another.",
        x="capacity C of a feature",
        y="marginal benefit −dL/dC",
        height=680,
        xaxis={"range": [-0.04, 1.04]},
        yaxis={"type": "log", "tickformat": "~g", "dtick": 1},
        **slider,
    )


def _slider(result: Stack, start: int) -> dict[str, Any]:
    """Moves circles and line, the last two traces, to another total."""
    count, steps = len(result.v), []
    for index, total in enumerate(result.totals.tolist()):
        circles, line = _at_total(result, index)
        change = {key: [circles[key], line[key]] for key in ("x", "y")}
        steps.append({"method": "restyle", "label": f"{total:g}", "args": [change, [count, count + 1]]})
    return {"active": start, "steps": steps, "currentvalue": {"prefix": "total capacity "}, "pad": {"t": 60}}


def _at_total(result: Stack, index: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Circles at the optimal capacities, and the ends of the line at the price (none where the price is 0)."""
    price = float(result.allocation.price[index])
    circles = {"x": result.allocation.capacity[index].tolist(), "y": result.reached[index].tolist()}
    return circles, {"x": [-0.04, 1.04], "y": 2 * [price]} if price > 0 else {"x": [], "y": []}


def _shade(feature: int, count: int) -> str:
    """From the first feature's colour to the second's."""
    share = feature / max(count - 1, 1)
    first, second = (tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in (FIRST, SECOND))
    mixed = (round(a + share * (b - a)) for a, b in zip(first, second, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)
