"""Trained against predicted capacities, and the geometry of a trained embedding."""

import plotly.graph_objects as go

from polysem.plots._gram import cosine_figure
from polysem.plots._style import THEORY, TRAINED, array, styled
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
    sizes = ", ".join(f"{len(block.members)} in {block.dim}" for block in result.blocks)
    caption = (
        f"Orthogonal blocks (features in dimensions: {sizes}): pure features stand alone, all impure ones share one "
        "tight frame."
    )
    return cosine_figure(result.W, result.blocks, caption=caption)
