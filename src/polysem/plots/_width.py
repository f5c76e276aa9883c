"""Optimal loss, price and kinds of features against width."""

import plotly.graph_objects as go

from polysem.plots._style import FIRST, IGNORED, PURE, SECOND, Drawing, array, drawing, figure_of
from polysem.studies import Width


def width_figures(result: Width) -> list[tuple[str, go.Figure]]:
    """Three figures over the width: optimal loss, what a dimension buys, and how many features are of which kind."""
    return [(name, figure_of(drawn)) for name, drawn in width_drawings(result)]


def width_drawings(result: Width) -> list[tuple[str, Drawing]]:
    """The drawings of `width_figures`."""
    return [("loss", _loss(result)), ("price", _price(result)), ("kinds", _kinds(result))]


def _loss(result: Width) -> Drawing:
    curve = {
        "type": "scatter",
        "x": array(result.fine.total),
        "y": array(result.fine.loss),
        "mode": "lines",
        "line": {"color": FIRST, "width": 2.5},
        "name": "L*(D)",
    }
    attained = {
        "type": "scatter",
        "x": array(result.whole.total),
        "y": array(result.whole.loss),
        "mode": "markers",
        "marker": {"color": FIRST, "size": 6},
        "name": "whole widths (attained)",
    }
    return drawing(
        [curve, attained],
        title="Loss",
        caption="The lowest loss that each width allows; at whole widths an embedding attains it.",
        x="width D in dimensions",
        y="optimal loss L*",
        height=400,
        yaxis={"rangemode": "tozero"},
    )


def _price(result: Width) -> Drawing:
    traces = []
    for plan, values, name, colour, mode in (
        (result.fine, result.fine.price, "price μ = −dL*/dD", SECOND, "lines"),
        (result.whole, result.whole.next_gain, "gain of the next whole dimension", FIRST, "markers"),
    ):
        shown = values > 1e-12 * values.max()
        traces.append(
            {
                "type": "scatter",
                "x": array(plan.total[shown]),
                "y": array(values[shown]),
                "mode": mode,
                "line": {"color": colour, "width": 2.5},
                "marker": {"color": colour, "size": 7},
                "name": name,
            }
        )
    return drawing(
        traces,
        title="What more width buys",
        caption="The price μ is what the next bit of width buys, the gain what the next whole dimension does: less, "
        "where the price falls on the way (F above 3).",
        x="width D in dimensions",
        y="loss per dimension",
        height=400,
        yaxis={"type": "log", "exponentformat": "power", "dtick": 1},
    )


def _kinds(result: Width) -> Drawing:
    bars = [
        {
            "type": "bar",
            "x": array(result.whole.total),
            "y": array(counts),
            "name": name,
            "marker": {"color": colour, "line": {"width": 0}},
        }
        for counts, name, colour in (
            (result.whole.n_pure, "pure", PURE),
            (result.whole.n_impure, "impure", "#24989a"),
            (result.whole.n_ignored, "ignored", IGNORED),
        )
    ]
    return drawing(
        bars,
        title="Kinds of features",
        caption="How many features are pure (a dimension of their own), impure (they share: polysemantic) and ignored "
        "at each width.",
        x="width D in dimensions",
        y="number of features",
        height=400,
        barmode="stack",
        bargap=0.1,
    )
