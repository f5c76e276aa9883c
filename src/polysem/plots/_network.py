"""Figures of a measured network: capacity layer by layer beside its nulls, kind by kind."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from polysem.measure import CapacityReport
from polysem.networks import Analysis, Measured
from polysem.plots._report import histogram
from polysem.plots._style import FIRST, NULL, SECOND, escaped, log_axis, styled

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BAND = {"0.05": "rgba(47, 134, 201, 0.18)", "0.25": "rgba(47, 134, 201, 0.38)"}
_NULL_BAND = "rgba(140, 140, 140, 0.3)"
_OF_FEWER = "total / min(N, D)"
"""Where a layer has fewer features than dimensions: no total exceeds their number."""

_LARGEST_SAMPLE = 2**24
"""As many values as torch takes quantiles of."""


def network_figures(analysis: Analysis) -> list[tuple[str, go.Figure]]:
    """For each group of matrices: capacities over layers, or their histogram where there is a single matrix."""
    figures = []
    for number, (title, group) in enumerate(groups_of(analysis)):
        if len(group) == 1:
            figure = histogram(group[0].report)
            figure.update_layout(meta={**figure.layout.meta, "title": title})
        else:
            figure = _over_layers(title, group)
        figures.append((f"group-{number}", figure))
    return figures


def groups_of(analysis: Analysis) -> list[tuple[str, tuple[Measured, ...]]]:
    """The matrices that go together, with a title: one kind of a family's, one reading of any other network's."""
    groups: dict[str, list[Measured]] = {}
    for one in analysis.measured:
        if analysis.family is None and one.kind != "Embedding":
            title = f"What layers {'read' if one.stream == 'reads' else 'write'}"
        elif analysis.family is None:
            title = one.name
        else:
            title = one.kind[0].upper() + one.kind[1:]
        groups.setdefault(title, []).append(one)
    return [(title, tuple(group)) for title, group in groups.items()]


def _over_layers(title: str, group: Sequence[Measured]) -> go.Figure:
    """Quantiles of capacity, and the total, against the number of the layer."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.09, row_heights=[0.58, 0.42])
    layers = [0 if one.layer is None else one.layer for one in group]
    observed = torch.stack([_quantiles(one.report) for one in group])
    null = torch.stack([_null_quantiles(one.report) for one in group])

    def line(y: Sequence[float] | Tensor, row: int, **style: object) -> None:
        values = y.tolist() if isinstance(y, Tensor) else list(y)
        figure.add_scatter(x=layers, y=[v if v > 0 or row == 2 else None for v in values], row=row, col=1, **style)

    def band(low: Sequence[float] | Tensor, high: Sequence[float] | Tensor, row: int, colour: str) -> None:
        plain = {"mode": "lines", "line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
        line(low, row, **plain)
        line(high, row, fill="tonexty", fillcolor=colour, **plain)

    band(observed[:, 0], observed[:, 4], 1, _BAND["0.05"])
    band(observed[:, 1], observed[:, 3], 1, _BAND["0.25"])
    both = {"mode": "lines+markers", "marker": {"size": 5}, "line": {"color": FIRST, "width": 2}}
    names = [one.name for one in group]
    line(
        observed[:, 2],
        1,
        name="this network",
        text=[escaped(name) for name in names],
        hovertemplate="%{text}<br>median C %{y:.3g}<extra></extra>",
        **both,
    )
    for column, dash in ((0, "dot"), (2, "dash"), (4, "dot")):
        line(
            null[:, column],
            1,
            mode="lines",
            line={"color": NULL, "width": 1.5, "dash": dash},
            name="random directions",
            showlegend=column == 2,
            hovertemplate=f"random directions, {_QUANTILES[column]:.0%} of features below C %{{y:.3g}}<extra></extra>",
        )
    d = [max(min(one.report.n_features, one.report.d_hidden), 1) for one in group]
    share = "total / D" if all(one.report.d_hidden == width for one, width in zip(group, d, strict=True)) else _OF_FEWER
    for which, colour, fill, name in (
        ("isotropic", NULL, _NULL_BAND, "random directions"),
        ("covariance", SECOND, "rgba(224, 159, 31, 0.3)", "same second moments"),
    ):
        nulls = [getattr(one.report, which) for one in group]
        band(
            [drawn.interval[0] / width for drawn, width in zip(nulls, d, strict=True)],
            [drawn.interval[1] / width for drawn, width in zip(nulls, d, strict=True)],
            2,
            fill,
        )
        line(
            [drawn.mean / width for drawn, width in zip(nulls, d, strict=True)],
            2,
            mode="lines",
            line={"color": colour, "width": 1.5, "dash": "dash"},
            name=name,
            showlegend=which == "covariance",
            hovertemplate=f"{name}: %{{y:.3f}}<extra></extra>",
        )
    totals = [one.report.total / width for one, width in zip(group, d, strict=True)]
    line(
        totals,
        2,
        name="this network",
        showlegend=False,
        text=[escaped(name) for name in names],
        hovertemplate="%{text}<br>%{y:.3f}<extra></extra>",
        **both,
    )
    styled(
        figure,
        title=title,
        caption="Above: 5 to 95 % of features, 25 to 75 % and the median, beside the same of random directions with "
        f"the same norms (dotted and dashed). Below: {share} beside both nulls and their 95 % intervals.",
        x="",
        y="",
        height=500,
    )
    shown = torch.cat((observed, null)).flatten()
    shown = shown[shown > 0]
    if len(shown):
        low, high = float(shown.min()), float(shown.max())
        figure.update_yaxes(log_axis(low, high), range=[math.log10(low) - 0.1, math.log10(high) + 0.1], row=1, col=1)
    figure.update_yaxes(title_text="capacity C", row=1, col=1)
    figure.update_yaxes(title_text=share, rangemode="tozero", row=2, col=1)
    figure.update_xaxes(title_text="layer", row=2, col=1)
    figure.update_xaxes(dtick=max(1, math.ceil((max(layers) - min(layers)) / 8)), tick0=0)
    return figure


def _quantiles(report: CapacityReport) -> Tensor:
    """Of the capacities of all rows but zero rows."""
    capacity = report.capacity[report.row_norm > 0].cpu()
    if not len(capacity):
        return torch.zeros(len(_QUANTILES), dtype=torch.float64)
    sample = capacity[:: math.ceil(len(capacity) / _LARGEST_SAMPLE)]
    return torch.quantile(sample, torch.tensor(_QUANTILES, dtype=torch.float64))


def _null_quantiles(report: CapacityReport) -> Tensor:
    """Of capacities of random directions, from their histogram: within a bin as if spread evenly on its logarithms."""
    counts, edges = report.isotropic.histogram.cpu().clone(), report.edges.cpu()
    counts[0] = max(float(counts[0]) - report.n_zero, 0.0)
    if not float(counts.sum()):
        return torch.zeros(len(_QUANTILES), dtype=torch.float64)
    below = torch.cat((counts.new_zeros(1), counts.cumsum(0))) / counts.sum()
    result = []
    for share in _QUANTILES:
        bin_ = min(int(torch.searchsorted(below, share)), len(counts)) - 1
        inside = (share - below[bin_]) / (below[bin_ + 1] - below[bin_])
        result.append(edges[bin_] ** (1 - inside) * edges[bin_ + 1] ** inside)
    return torch.stack(result)
