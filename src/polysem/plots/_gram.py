"""Cosines between embeddings, features sorted by block."""

import plotly.graph_objects as go
import torch
from torch import Tensor

from polysem.measure import Block
from polysem.plots._style import DIVERGING_SCALE, array, styled


def cosines(W: Tensor, blocks: list[Block]) -> tuple[list[str], list[str], Tensor]:
    """Labels of columns and rows, and the cosines between all rows of `W` that belong to a block."""
    order = [member for block in blocks for member in block.members]
    units = torch.nn.functional.normalize(W[order], dim=1)
    labels = [str(member + 1) for member in order]
    return labels, labels, units @ units.mT


def cosine_figure(W: Tensor, blocks: list[Block], *, caption: str, title: str = "") -> go.Figure:
    """Heatmap of the cosines between all rows that belong to a block."""
    x, y, z = cosines(W, blocks)
    figure = go.Figure()
    figure.add_heatmap(
        x=x,
        y=y,
        z=array(z),
        zmin=-1,
        zmax=1,
        colorscale=DIVERGING_SCALE,
        colorbar={"title": {"text": "cosine"}, "thickness": 14},
        hovertemplate="features %{x}, %{y}<br>cosine %{z:.3f}<extra></extra>",
    )
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category", autorange="reversed", scaleanchor="x", constrain="domain")
    return styled(
        figure, title=title, caption=caption, x="feature, sorted by block", y="feature, sorted by block", height=480
    )
