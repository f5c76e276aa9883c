"""The phase diagram over kurtosis and relative importance."""

import plotly.graph_objects as go
import torch
from torch import Tensor

from polysem.plots._style import CAPACITY_SCALE, array, styled
from polysem.studies import PhaseDiagram, Point

LABEL_PLACES = {"A": "bottom right", "B": "top right", "C": "top center", "F": "bottom right"}
"""Where the letters of points stand that lie on a boundary or near it."""


def phase_figures(result: PhaseDiagram, points: tuple[Point, ...]) -> list[tuple[str, go.Figure]]:
    """The second feature's capacity by theory and by training, each with the boundaries and the points A to F."""
    return [
        (
            "theory",
            phase_map(
                result.kurtosis,
                result.ratio,
                result.theory,
                points,
                "Theory",
                "Theory: below the lower line feature 2 owns nothing, above the upper one a whole dimension, between "
                "them both share; up to F = 3 the more important takes all. Grey: C₂ < 0.05; accent: C₂ > 0.95.",
            ),
        ),
        (
            "trained",
            phase_map(
                result.kurtosis,
                result.ratio,
                result.trained,
                points,
                "Trained",
                f"Training, cell by cell: no capacity differs from theory by more than {result.deviation:.1e}; the "
                f"measured boundary lies within {result.boundary_offset:.2f} cells of the formula's.",
            ),
        ),
    ]


def phase_map(
    kurtosis: Tensor, ratio: Tensor, capacity: Tensor, points: tuple[Point, ...], title: str, caption: str
) -> go.Figure:
    """Both features' capacities `[n_ratio, n_kurtosis, 2]`: the second's as colour, with the theory's boundaries."""
    figure = go.Figure()
    figure.add_heatmap(
        x=array(kurtosis),
        y=array(ratio),
        z=array(capacity[..., 1]),
        customdata=array(capacity[..., 0]),
        zmin=0,
        zmax=1,
        colorscale=CAPACITY_SCALE,
        colorbar={"title": {"text": "C₂"}, "thickness": 14},
        hovertemplate="F %{x:.2f}<br>v₂/v₁ %{y:.3f}<br>C₁ %{customdata:.3f}, C₂ %{z:.3f}<extra></extra>",
    )
    across, up = torch.stack([kurtosis[[0, -1]], ratio[[0, -1]]]).log10().tolist()
    F = torch.logspace(across[0], across[1], 400, dtype=torch.float64)
    for boundary in ((2 / (F - 1)).clamp(max=1), ((F - 1) / 2).clamp(min=1)):  # both are 1 up to F = 3
        figure.add_scatter(
            x=array(F),
            y=array(boundary),
            mode="lines",
            line={"color": "#ffffff", "width": 2.5},
            hoverinfo="skip",
            showlegend=False,
        )
    figure.add_scatter(
        x=[point.kurtosis for point in points],
        y=[point.ratio for point in points],
        text=[point.name for point in points],
        mode="markers+text",
        textposition=[LABEL_PLACES.get(point.name, "middle right") for point in points],
        textfont={"color": "#ffffff", "size": 15},
        marker={"color": "#ffffff", "size": 8, "line": {"color": "#000000", "width": 1}},
        hovertext=[f"{point.name}: {point.says}" for point in points],
        hoverinfo="text",
        showlegend=False,
    )
    # A second axis along the top names the density of ±1 features that has this kurtosis: p = 1 / F.
    figure.add_scatter(x=[None], y=[None], xaxis="x2", showlegend=False, hoverinfo="skip")
    densities = [0.8, 0.5, 0.2, 0.1, 0.05]
    styled(figure, title=title, caption=caption, x="kurtosis F", y="relative importance v₂/v₁", height=460)
    figure.update_layout(
        xaxis2={
            "overlaying": "x",
            "matches": "x",
            "side": "top",
            "type": "log",
            "tickangle": 0,
            "tickvals": [1 / p for p in densities],
            "ticktext": [f"{p:g}" for p in densities],
            "title": {"text": "density p = 1/F of ±1 features"},
        },
        margin={"t": 60},
    )
    ticks = [2.0, 3, 5, 10, 20, 40]
    figure.layout.xaxis.update(
        type="log", range=across, tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks], tickangle=0
    )
    ticks = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20]
    figure.update_yaxes(type="log", range=up, tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    return figure
