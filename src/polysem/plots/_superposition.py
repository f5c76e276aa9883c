"""The phase diagram of superposition: what a ReLU autoencoder does with a second feature."""

import math

import plotly.graph_objects as go
from torch import Tensor

from polysem.plots._style import FIRST, IGNORED, PURE, array, styled
from polysem.studies import Superposition

NAMES = ("not represented", "a dimension of its own", "antipodal pair")


def superposition_figures(result: Superposition) -> list[tuple[str, go.Figure]]:
    """The second feature's phase, trained and by comparing configurations built by hand."""
    return [
        (
            "trained",
            _figure(
                result,
                result.trained,
                "Trained",
                "Training on the exact loss: dense features are represented or dropped by importance, sparse ones "
                "share the dimension as an antipodal pair.",
            ),
        ),
        (
            "built",
            _figure(
                result,
                result.built,
                "Built by hand",
                "The best of three configurations built by hand (feature 1 alone, feature 2 alone, the best antipodal "
                f"pair): the same phase as trained in {result.agreement:.2%} of the cells.",
            ),
        ),
    ]


def _figure(result: Superposition, phases: Tensor, title: str, caption: str) -> go.Figure:
    colours = (IGNORED, PURE, FIRST)
    steps = [[edge, colour] for k, colour in enumerate(colours) for edge in (k / 3, (k + 1) / 3)]
    figure = go.Figure()
    figure.add_heatmap(
        x=array(result.probability),
        y=array(result.ratio),
        z=array(phases),
        zmin=-0.5,
        zmax=2.5,
        colorscale=steps,
        showscale=False,
        customdata=array(result.capacity),
        hovertemplate="p %{x:.3f}<br>I₂/I₁ %{y:.3f}<br>C₁ %{customdata[0]:.3f}, C₂ %{customdata[1]:.3f}<extra></extra>",
    )
    for name, colour in zip(NAMES, colours, strict=True):
        marker = {"symbol": "square", "size": 11, "color": colour}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=f"feature 2: {name}")
    ends = [math.log10(float(end)) for end in result.probability[[0, -1]]]
    figure.update_xaxes(type="log", range=ends, dtick="D2", tickformat="~g")
    ends = [math.log10(float(end)) for end in result.ratio[[0, -1]]]
    figure.update_yaxes(type="log", range=ends, dtick="D2", tickformat="~g")
    figure.update_layout(margin={"t": 90})
    return styled(
        figure, title=title, caption=caption, x="feature probability p", y="relative importance I₂/I₁", height=460
    )
