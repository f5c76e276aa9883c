"""Trained against predicted capacities, and the geometry of a trained embedding."""

import plotly.graph_objects as go
import torch

from polysem.plots._style import DIVERGING_SCALE, THEORY, TRAINED, array, styled
from polysem.studies import Trained


def capacity_figure(result: Trained) -> go.Figure:
    """Capacity of each feature, predicted and trained."""
    feature = list(range(1, len(result.v) + 1))
    figure = go.Figure()
    figure.add_scatter(
        x=feature,
        y=array(result.predicted.capacity),
        mode="lines+markers",
        line={"color": THEORY, "width": 2},
        marker={"size": 12, "symbol": "circle-open", "line": {"width": 2}},
        name="predicted",
    )
    figure.add_scatter(
        x=feature,
        y=array(result.capacity),
        mode="markers",
        marker={"size": 8, "symbol": "x-thin", "line": {"width": 2.5, "color": TRAINED}},
        name="trained",
    )
    figure.update_yaxes(range=[-0.04, 1.08])
    return styled(
        figure,
        caption=f"Every cross in its circle: no trained capacity is off by more than {result.deviation:.1e}.",
        x="feature, by falling importance",
        y="capacity C",
        height=420,
    )


def gram_figure(result: Trained) -> go.Figure:
    """Cosines of the trained embeddings, features sorted by block, without the ignored ones."""
    order = [member for block in result.blocks for member in block.members]
    units = torch.nn.functional.normalize(result.W[order], dim=1)
    labels = [str(member + 1) for member in order]
    figure = go.Figure()
    figure.add_heatmap(
        x=labels,
        y=labels,
        z=array(units @ units.mT),
        zmin=-1,
        zmax=1,
        colorscale=DIVERGING_SCALE,
        colorbar={"title": {"text": "cosine"}, "thickness": 14},
        hovertemplate="features %{x}, %{y}<br>cosine %{z:.3f}<extra></extra>",
    )
    sizes = ", ".join(f"{len(block.members)} in {block.dim}" for block in result.blocks)
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category", autorange="reversed", scaleanchor="x", constrain="domain")
    return styled(
        figure,
        caption=f"Orthogonal blocks (features in dimensions: {sizes}): pure features stand alone, all impure ones "
        "share one tight frame.",
        x="feature, sorted by block",
        y="feature, sorted by block",
        height=480,
    )
