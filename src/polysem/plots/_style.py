"""The look that all figures share: colours that tell features apart for every eye, on light and dark pages."""

import math
from collections.abc import Iterable
from typing import Any

import numpy.typing as npt
import plotly.graph_objects as go
from torch import Tensor

IGNORED = "#8c8c8c"
PURE = "#d55e00"
FIRST, SECOND = "#2f86c9", "#e09f1f"
THEORY, TRAINED, NULL = "#2f86c9", "#d55e00", "#8c8c8c"
IMPURE_SCALE = ["#5b4a9c", "#3573b1", "#24989a", "#5cb86a", "#d9c63a"]

CAPACITY_SCALE = [
    [0.0, IGNORED],
    [0.05, IGNORED],
    *([round(0.05 + 0.9 * k / (len(IMPURE_SCALE) - 1), 6), colour] for k, colour in enumerate(IMPURE_SCALE)),
    [0.95, PURE],
    [1.0, PURE],
]
"""Capacity from 0 to 1: ignored grey, impure on a sequential scale, pure the accent colour."""

DIVERGING_SCALE = "RdBu"

_axis = {
    "showline": True,
    "linewidth": 1,
    "ticks": "outside",
    "ticklen": 4,
    "automargin": True,
    "zeroline": False,
    "title": {"standoff": 10},
}

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 13},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": [FIRST, SECOND, "#24989a", "#b35ab0", PURE, IGNORED],
        "margin": {"l": 60, "r": 20, "t": 40, "b": 50},
        "xaxis": _axis,
        "yaxis": _axis,
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0},
        "hoverlabel": {"font": {"family": "inherit"}},
    }
)


def log_axis(low: float, high: float) -> dict[str, Any]:
    """A logarithmic axis over a range, with as many labels as can be read: four on few decades, else powers."""
    decades = math.log10(high) - math.log10(low)
    if decades < 1.5:
        even = (low * 10 ** (decades * step / 3) for step in range(4))
        digits = 1 if decades > 0.3 else max(3, math.ceil(-math.log10(max(decades, 1e-12))) + 1)
        tickvals = sorted({float(f"{value:.{digits}e}") for value in even})
        return {"type": "log", "tickvals": tickvals, "tickformat": f".{max(6, digits + 1)}~g"}
    return {"type": "log", "dtick": math.ceil(decades / 4), "exponentformat": "power"}


def array(values: Tensor) -> npt.NDArray[Any]:
    """What a figure takes for a tensor."""
    result: npt.NDArray[Any] = values.detach().cpu().numpy()
    return result


def escaped(name: str) -> str:
    """A name in a hover label, where Plotly reads some HTML."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


Drawing = dict[str, Any]
"""A figure as Plotly's JSON has it, traces under `data` and the rest under `layout`, but for the template."""


def drawing(
    traces: Iterable[dict[str, Any]],
    *,
    caption: str,
    x: str,
    y: str,
    height: int = 380,
    title: str = "",
    xaxis: dict[str, Any] | None = None,
    yaxis: dict[str, Any] | None = None,
    **layout: Any,
) -> Drawing:
    """What `figure_of` makes a figure of, with labels as in `styled`.

    Plotly checks every property that is set: a figure takes some twenty times as long as its drawing.
    """
    axes = {"xaxis": {"title": {"text": x}, **(xaxis or {})}, "yaxis": {"title": {"text": y}, **(yaxis or {})}}
    return {"data": list(traces), "layout": {**_named(title, caption, height), **axes, **layout}}


def figure_of(drawn: Drawing) -> go.Figure:
    """A drawing as a figure with the project's template, checked by Plotly."""
    return go.Figure(drawn["data"], {**drawn["layout"], "template": TEMPLATE})


def styled(figure: go.Figure, *, caption: str, x: str, y: str, height: int = 380, title: str = "") -> go.Figure:
    """Give a figure the project's template, axis labels with units, a title and the one line that says what to see.

    Title and caption are kept in `layout.meta`: a page sets them as text, where they wrap on a narrow screen.
    """
    figure.update_layout(template=TEMPLATE, **_named(title, caption, height))
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y)
    return figure


def _named(title: str, caption: str, height: int) -> dict[str, Any]:
    return {"height": height, "meta": {"title": title, "caption": caption}}
