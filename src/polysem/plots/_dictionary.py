"""Figures of one dictionary: its encoder beside its decoder, and latents beside their nearest."""

import plotly.graph_objects as go
import torch
from torch import Tensor

from polysem.networks import DictionaryAnalysis
from polysem.plots._cloud import add_cloud, count_between
from polysem.plots._style import FIRST, NULL, SECOND, array, log_axis, styled


def dictionary_figures(analysis: DictionaryAnalysis) -> list[tuple[str, go.Figure]]:
    """Figures beside those of the capacity report; without an encoder only that of nearest latents."""
    figures = []
    if analysis.response is not None and analysis.alignment is not None:
        figures = [("response", _response(analysis, analysis.response)), ("alignment", _alignment(analysis.alignment))]
    if analysis.searched:
        figures.append(("nearest", _nearest(analysis)))
    return figures


def _response(analysis: DictionaryAnalysis, response: Tensor) -> go.Figure:
    own = analysis.report.capacity
    shown = (own > 0) & (response > 0)
    x, y = own[shown], response[shown]
    figure = go.Figure()
    add_cloud(figure, x, y, _names(analysis.latents[shown]), ("read by its own row", "read by the encoder"))
    if len(x):
        low, high = float(x.min()), float(x.max())
        figure.add_scatter(
            x=[low, high], y=[low, high], mode="lines", line={"dash": "dot", "color": NULL}, name="equal"
        )
        figure.update_xaxes(log_axis(float(x.min()), float(x.max())))
        figure.update_yaxes(log_axis(float(y.min()), float(y.max())))
    return styled(
        figure,
        title="What the encoder makes of it",
        caption="Each latent's capacity where its own decoder row reads it, and where the encoder does: above the line "
        "the encoder avoids interference that the decoder leaves, below it picks up more.",
        x="capacity, own row as readout",
        y="capacity, encoder as readout",
        height=420,
    )


def _alignment(alignment: Tensor) -> go.Figure:
    low = min(0.0, float(alignment.min()) if len(alignment) else 0.0)
    edges = torch.linspace(-1.0 if low < 0 else 0.0, 1.0, 61, dtype=torch.float64)
    figure = go.Figure()
    figure.add_bar(
        x=array((edges[1:] + edges[:-1]) / 2),
        y=array(count_between(alignment, edges)),
        width=array(edges.diff()),
        marker={"color": FIRST, "line": {"width": 0}},
        opacity=0.8,
    )
    figure.update_layout(bargap=0)
    return styled(
        figure,
        title="Encoder beside decoder",
        caption="Cosine between what each latent reads and what it writes: 1 where the encoder is the decoder's "
        "transpose up to scale.",
        x="cosine of encoder and decoder",
        y="latents per bin",
        height=420,
    )


def _nearest(analysis: DictionaryAnalysis) -> go.Figure:
    capacity = analysis.report.capacity[analysis.of_searched]
    cosine = analysis.nearest.cosine.abs()
    figure = go.Figure()
    add_cloud(
        figure,
        cosine,
        capacity,
        _names(analysis.nearest.feature),
        ("|cosine| to the nearest", "capacity"),
        logarithmic=False,
    )
    bound = torch.linspace(0, 1, 101, dtype=torch.float64)
    figure.add_scatter(
        x=array(bound),
        y=array(1 / (1 + bound.square())),
        mode="lines",
        line={"color": NULL, "dash": "dot"},
        name="bound 1 / (1 + c²)",
    )
    figure.add_scatter(
        x=[analysis.duplicate_above] * 2,
        y=[0, 1],
        mode="lines",
        line={"color": SECOND, "width": 1.5},
        name="duplicates",
    )
    figure.update_xaxes(range=[0, 1.02])
    figure.update_yaxes(range=[0, 1.05])
    return styled(
        figure,
        title="Duplicates",
        caption="Capacity of each latent against its nearest other latent. One equally long neighbour leaves it at "
        "most what the dotted line says, so that a duplicate halves it; far below, many neighbours share it.",
        x="|cosine| to the nearest other latent",
        y="capacity C",
        height=420,
    )


def _names(latents: Tensor) -> list[str]:
    return [f"latent {latent}" for latent in latents.tolist()]
