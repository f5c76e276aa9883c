"""The phase diagram over kurtosis and relative importance."""

from collections.abc import Callable

import plotly.graph_objects as go
import torch
from torch import Tensor

from polysem.features import SparseFeatures, SparseSign
from polysem.plots._style import CAPACITY_SCALE, array, styled
from polysem.studies import PhaseDiagram, Point, TrainedPhases, architecture

LABEL_PLACES = {"A": "bottom right", "B": "top center", "C": "top center", "F": "bottom right"}
"""Where the letters of points stand that lie on a boundary or near it."""

TRAINED_SAYS = {
    "quadratic": ("quadratic model", "This is the model of the theory: it must agree, cell by cell."),
    "tied relu": (
        "ReLU autoencoder",
        "A pair points in opposite directions and takes about half each, however unequal it is, until the less "
        "important feature is dropped; and sharing ends on other lines than in theory.",
    ),
    "tied abs": (
        "|x| autoencoder",
        "The absolute value confuses opposite directions: the more important feature takes all but for a trace.",
    ),
    "tied identity": ("linear autoencoder", "It never shares: the more important feature takes all, whatever F."),
}
"""Name of each architecture, and what to see in its trained diagram."""


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


def trained_phase_figure(result: TrainedPhases, points: tuple[Point, ...]) -> go.Figure:
    """The second feature's trained capacity, with the boundaries of the quadratic theory and the points A to F."""
    name, says = TRAINED_SAYS[result.architecture]
    return phase_map(
        result.kurtosis,
        result.ratio,
        result.trained,
        points,
        f"Who gets the dimension: {name}, trained",
        f"{says} Colour: how much of the dimension feature 2 owns. White lines: where sharing begins and ends by the "
        "theory of the quadratic model, from which these capacities differ by "
        f"{float((result.trained - result.theory).abs().mean()):.2g} on average.",
        probability=result.feature_probability,
        law=architecture(result.architecture).features,
    )


def phase_map(
    kurtosis: Tensor,
    ratio: Tensor,
    capacity: Tensor,
    points: tuple[Point, ...],
    title: str,
    caption: str,
    *,
    probability: Tensor | None = None,
    law: Callable[[Tensor], SparseFeatures] = SparseSign,
) -> go.Figure:
    """Both features' capacities `[n_ratio, n_kurtosis, 2]`: the second's as colour, with the theory's boundaries.

    A second axis along the top names the probabilities of features of a `law`; `probability` `[n_kurtosis]` is named
    in the hover.
    """
    told, beside = capacity[..., :1], ""
    if probability is not None:
        told = torch.stack([capacity[..., 0], probability.expand(capacity.shape[:2])], -1)
        beside = " (p = %{customdata[1]:.3f})"
    figure = go.Figure()
    figure.add_heatmap(
        x=array(kurtosis),
        y=array(ratio),
        z=array(capacity[..., 1]),
        customdata=array(told),
        zmin=0,
        zmax=1,
        colorscale=CAPACITY_SCALE,
        colorbar={"title": {"text": "C₂"}, "thickness": 14},
        hovertemplate=f"F %{{x:.2f}}{beside}<br>v₂/v₁ %{{y:.3f}}<br>"
        "C₁ %{customdata[0]:.3f}, C₂ %{z:.3f}<extra></extra>",
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
        textposition=[LABEL_PLACES.get(point.name, "top right") for point in points],
        textfont={"color": "#ffffff", "size": 16, "weight": "bold", "shadow": "0 0 3px #000000"},
        marker={"color": "#ffffff", "size": 8, "line": {"color": "#000000", "width": 1}},
        hovertext=[f"{point.name}: {point.says}" for point in points],
        hoverinfo="text",
        showlegend=False,
    )
    # A second axis along the top names the density that has this kurtosis.
    figure.add_scatter(x=[None], y=[None], xaxis="x2", showlegend=False, hoverinfo="skip")
    chance = "p = 1/F (±1 features)" if law is SparseSign else "p (uniform features)"
    densities = [0.8, 0.5, 0.2, 0.1, 0.05] if law is SparseSign else [0.6, 0.4, 0.2, 0.1, 0.05]
    styled(figure, title=title, caption=caption, x="kurtosis F", y="relative importance v₂/v₁", height=460)
    figure.update_layout(
        xaxis2={
            "overlaying": "x",
            "matches": "x",
            "side": "top",
            "type": "log",
            "tickangle": 0,
            "tickvals": law(torch.tensor(densities)).kurtosis.tolist(),
            "ticktext": [f"{p:g}" for p in densities],
            "title": {"text": f"active with chance {chance}"},
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
