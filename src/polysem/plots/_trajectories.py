"""Capacity of a network's matrices while it trains."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from polysem._checks import require
from polysem.plots._style import IGNORED, IMPURE_SCALE, PURE, THEORY, styled

COLUMNS = 2
PANEL_HEIGHT = 190
SHARES = (("n_ignored", "ignored", IGNORED), ("n_impure", "impure", IMPURE_SCALE[2]), ("n_pure", "pure", PURE))


def capacity_trajectories(history: xr.Dataset) -> go.Figure:
    """One panel for each matrix that a `networks.CapacityMonitor` watched, over the steps of training.

    Areas are the shares of its features that are ignored, impure and pure; lines are its total capacity over `D` and
    that of random directions with the same norms (plug-in value). Gaps: weights that were not finite.

    Args:
        history: `CapacityMonitor.history`; of many matrices take some with `history.sel(matrix=[...])`.

    Returns:
        The figure.

    Raises:
        ValueError: nothing was measured yet.

    Example:
        >>> import torch
        >>> from polysem.networks import CapacityMonitor
        >>> with CapacityMonitor(torch.nn.Linear(4, 6)) as monitor:
        ...     monitor.step()
        >>> [trace.name for trace in capacity_trajectories(monitor.history).data]
        ['ignored', 'impure', 'pure', 'total / D', 'random directions']

    Source: ours.
    """
    require(history.sizes["step"] > 0, "history", dict(history.sizes), "of at least one step")
    names = [str(name) for name in history.matrix.values]
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[_panel_title(history.sel(matrix=name)) for name in names],
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.07,
        vertical_spacing=0.28 / rows,
    )
    for index, name in enumerate(names):
        place = {"row": index // columns + 1, "col": index % columns + 1}
        _panel(figure, history.sel(matrix=name), place, first=index == 0)
    height = PANEL_HEIGHT * rows
    figure.update_layout(margin={"t": 70, "b": 50}, legend={"y": 1 + 26 / height})  # above the first panel's title
    styled(
        figure,
        title="Capacity while training",
        caption="Grey, teal and orange: shares of features that are ignored, impure and pure; blue: total capacity "
        f"over D, dotted that of random directions with the same norms. {_largest_change(history)}",
        x="",
        y="",
        height=120 + height,
    )
    figure.update_yaxes(range=[0, 1.02])
    figure.update_yaxes(title_text="share", col=1)
    figure.update_xaxes(title_text="step", row=rows)
    if rows * columns > len(names):  # above a place without a panel
        figure.update_xaxes(title_text="step", showticklabels=True, row=rows - 1, col=columns)
    figure.update_annotations(font={"size": 11})
    return figure


def _panel_title(one: xr.Dataset) -> str:
    side = "" if str(one.features.values) == "rows" else ", columns"
    return f"{one.matrix.values} ({int(one.n_features):,} × {int(one.d_hidden):,}{side})"


def _panel(figure: go.Figure, one: xr.Dataset, place: dict[str, int], *, first: bool) -> None:
    step, there = one.step.values, one.total.notnull()
    common: dict[str, Any] = {"x": step, "mode": "lines", "showlegend": first}
    for key, name, colour in SHARES:
        figure.add_scatter(
            **common,
            y=(one[key] / one.n_features).where(there).values,
            stackgroup=f"{place}",
            line={"width": 0, "color": colour},
            name=name,
            legendgroup=name,
            hovertemplate=f"step %{{x}}<br>{name} %{{y:.1%}}<extra></extra>",
            **place,
        )
    for key, name, dash in (
        ("total_per_dimension", "total / D", "solid"),
        ("null_per_dimension", "random directions", "dot"),
    ):
        figure.add_scatter(
            **common,
            y=one[key].values,
            line={"width": 2.5, "color": THEORY, "dash": dash},
            name=name,
            legendgroup=name,
            hovertemplate=f"step %{{x}}<br>{name} %{{y:.4f}}<extra></extra>",
            **place,
        )


def _largest_change(history: xr.Dataset) -> str:
    """The matrix whose total moved most from the first step to the last, in words."""
    first, last = (history.total_per_dimension.isel(step=k) for k in (0, -1))
    change = abs(last - first)
    if not bool(change.notnull().any()):
        return "No matrix is finite at both ends."
    name = str(history.matrix.values[np.nanargmax(change.values)])
    ends = " to ".join(f"{float(values.sel(matrix=name)):.3f}" for values in (first, last))
    pure = " to ".join(f"{int(history.n_pure.sel(matrix=name)[k]):,}" for k in (0, -1))
    return f"Most moved {name}: total / D from {ends}, pure features from {pure}."
