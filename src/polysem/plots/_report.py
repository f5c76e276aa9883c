"""Figures of one measured matrix: capacities beside their nulls, norms, and the spectrum of `M`."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from polysem.measure import CapacityReport
from polysem.networks import visible_label
from polysem.plots._cloud import MOST_MARKERS, add_cloud
from polysem.plots._style import FIRST, NULL, SECOND, array, escaped, log_axis, styled


def report_figures(report: CapacityReport, labels: Sequence[str] | None = None) -> list[tuple[str, go.Figure]]:
    """Three figures: histogram of capacity beside both nulls, norm against capacity, eigenvalues of `M`.

    Markers of single features carry the number of their row as `customdata`.
    """
    return [("capacity", histogram(report)), ("norm", _norms(report, labels)), ("spectrum", _spectrum(report))]


def histogram(report: CapacityReport) -> go.Figure:
    """Number of features over capacity, beside both nulls."""
    edges, middle = report.edges, (report.edges[1:] * report.edges[:-1]).sqrt()
    figure = go.Figure()
    figure.add_bar(
        x=array(middle),
        y=array(report.histogram),
        width=array(edges.diff()),
        name="this matrix",
        marker={"color": FIRST, "line": {"width": 0}},
        opacity=0.8,
    )
    for null, name, colour in (
        (report.isotropic, "random directions", NULL),
        (report.covariance, "same second moments", SECOND),
    ):
        figure.add_scatter(
            x=array(middle),
            y=array(null.histogram),
            mode="lines",
            line={"color": colour, "width": 2.5, "shape": "hvh"},
            name=f"null: {name}",
        )
    figure.update_layout(bargap=0, barmode="overlay")
    # Bins that are empty everywhere only squeeze the rest.
    used = (report.histogram + report.isotropic.histogram + report.covariance.histogram > 0).nonzero()[:, 0]
    if len(used):
        low, high = float(edges[used[0]]), float(edges[used[-1] + 1])
        figure.update_xaxes(log_axis(low, high), range=[math.log10(low) - 0.1, math.log10(high) + 0.1])
    figure.update_yaxes(rangemode="tozero")
    return styled(
        figure,
        title="Capacity of every feature",
        caption="How many features own how much: 1 is a dimension of its own. Lines: what chance gives, for random "
        "directions with the same norms, and for Gaussian rows that use each direction as much (same second moments).",
        x="capacity C",
        y="features per bin",
        height=420,
    )


def _norms(report: CapacityReport, labels: Sequence[str] | None) -> go.Figure:
    shown = (report.row_norm > 0) & (report.capacity > 0)
    norm, capacity = report.row_norm[shown], report.capacity[shown]
    figure = go.Figure()
    rows = shown.nonzero()[:, 0]
    named = rows.tolist() if len(rows) <= MOST_MARKERS else []
    names = [f"feature {row}" if labels is None else escaped(visible_label(labels[row])) for row in named]
    add_cloud(figure, norm, capacity, names, ("norm", "capacity"))
    figure.update_traces(customdata=array(rows), selector={"type": "scatter"})
    if len(norm):
        figure.update_xaxes(log_axis(float(norm.min()), float(norm.max())))
        figure.update_yaxes(log_axis(float(capacity.min()), float(capacity.max())))
    return styled(
        figure,
        title="Norm and capacity",
        caption="Whether long features own more: without structure, capacity goes with the squared norm (slope 2).",
        x="norm |W<sub>i</sub>|" + (" (after the norm policy)" if report.norm != "raw" or report.scaled else ""),
        y="capacity C",
        height=420,
    )


def _spectrum(report: CapacityReport) -> go.Figure:
    eigenvalues = report.singular_values.square()
    shown = (eigenvalues > 0) & eigenvalues.isfinite()
    shown[report.rank :] = False  # rounding, many decades below
    direction = shown.nonzero()[:, 0] + 1
    figure = go.Figure()
    figure.add_scatter(
        x=array(direction),
        y=array(eigenvalues[shown]),
        mode="lines+markers",
        line={"color": FIRST, "width": 1.5},
        marker={"size": 4},
        name="this matrix",
    )
    if len(direction):
        mean = float(eigenvalues[shown].sum() / len(eigenvalues))
        figure.add_scatter(
            x=[1, report.d_hidden], y=[mean, mean], mode="lines", line={"dash": "dot", "color": NULL}, name="mean"
        )
        figure.update_yaxes(log_axis(float(eigenvalues[shown].min()), float(eigenvalues[shown].max())))
    return styled(
        figure,
        title="How much each direction is used",
        caption=f"Eigenvalues of WᵀW: nearly equal for many random directions, steep where a few directions dominate. "
        f"{report.rank:,} of {report.d_hidden:,} are present beyond rounding.",
        x="direction, by falling eigenvalue",
        y="eigenvalue of M = WᵀW",
        height=420,
    )
