"""Many features in a plane: one marker each, or their density where they are too many."""

import plotly.graph_objects as go
import torch
from torch import Tensor

from polysem.plots._style import FIRST, IMPURE_SCALE, array

MOST_MARKERS = 2000
"""More features than this are shown as a density instead of one marker each."""


def add_cloud(
    figure: go.Figure, x: Tensor, y: Tensor, names: list[str], hover: tuple[str, str], *, logarithmic: bool = True
) -> None:
    """Add features at `x` and `y`; on logarithmic axes cells of the density are even in logarithms."""
    x_label, y_label = hover
    if len(x) <= MOST_MARKERS:
        figure.add_scatter(
            x=array(x),
            y=array(y),
            mode="markers",
            marker={"color": FIRST, "size": 6, "opacity": 0.6},
            text=names,
            showlegend=False,
            hovertemplate=f"%{{text}}<br>{x_label} %{{x:.3g}}<br>{y_label} %{{y:.3g}}<extra></extra>",
        )
        return
    counts, x_edges, y_edges = _density(*((x.log10(), y.log10()) if logarithmic else (x, y)))
    middles = ((edges[1:] + edges[:-1]) / 2 for edges in (x_edges, y_edges))
    x_middle, y_middle = (10**middle if logarithmic else middle for middle in middles)
    figure.add_heatmap(
        x=array(x_middle),
        y=array(y_middle),
        z=array(torch.where(counts > 0, counts.log10(), torch.nan)),
        text=array(counts.int()),
        colorscale=IMPURE_SCALE,
        colorbar={
            "title": {"text": "features"},
            "thickness": 14,
            "tickvals": list(range(7)),
            "ticktext": [f"{10**k:,}" for k in range(7)],
        },
        hovertemplate=f"{x_label} %{{x:.3g}}<br>{y_label} %{{y:.3g}}<br>%{{text}} features<extra></extra>",
    )


def count_between(values: Tensor, edges: Tensor) -> Tensor:
    """How many values fall between edges; those beyond join the outermost."""
    index = torch.bucketize(values.to(edges), edges[1:-1], right=True)
    return torch.bincount(index, minlength=len(edges) - 1).double()


def _density(x: Tensor, y: Tensor, bins: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    """Counts `[y, x]` on a grid over both ranges, and the edges of its cells."""

    def edges(values: Tensor) -> Tensor:
        low, high = float(values.min()), float(values.max())
        margin = max((high - low) * 0.01, 1e-3)
        return torch.linspace(low - margin, high + margin, bins + 1, dtype=torch.float64)

    x_edges, y_edges = edges(x), edges(y)
    index = torch.bucketize(y, y_edges[1:-1]) * bins + torch.bucketize(x, x_edges[1:-1])
    counts = torch.bincount(index, minlength=bins * bins).view(bins, bins).double()
    return counts, x_edges, y_edges
