"""Equal returns or not: price against capacity, and where polytopes lock capacities."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from polysem.measure import FeatureClass
from polysem.plots._style import FIRST, IGNORED, IMPURE_SCALE, PURE, THEORY, array, log_axis, styled
from polysem.returns import EqualReturns
from polysem.studies import Locking, Pair

SEQUENTIAL = [[k / (len(IMPURE_SCALE) - 1), colour] for k, colour in enumerate(IMPURE_SCALE)]
KINDS = (
    (FeatureClass.IGNORED, "ignored", IGNORED),
    (FeatureClass.IMPURE, "impure", FIRST),
    (FeatureClass.PURE, "pure", PURE),
)
PANEL_HEIGHT = 170
NORMAL_95 = 1.96


def price_figure(result: EqualReturns, *, title: str = "Returns against capacity") -> go.Figure:
    """Marginal benefit against capacity of one network: flat over the impure features if the theory holds.

    Args:
        result: of one network.
        title: what network it is.

    Returns:
        The figure, with 95 % intervals; its caption gives the verdict.

    Raises:
        ValueError: the result of several networks.
    """
    if result.verdict.numel() != 1:
        raise ValueError(f"result must be of one network, got one of {result.verdict.numel()}")
    C, benefit, stderr, kind = (
        array(values.reshape(-1)) for values in (result.capacity, result.benefit, result.stderr, result.feature_class)
    )
    figure = go.Figure()
    for one, name, colour in KINDS:
        there = np.flatnonzero(kind == int(one))
        if not len(there) or (result.curves is None and one != FeatureClass.IMPURE):
            continue
        figure.add_scatter(
            x=C[there],
            y=benefit[there],
            error_y={"array": NORMAL_95 * stderr[there], "thickness": 1, "visible": bool(stderr[there].any())},
            mode="markers",
            marker={"color": colour, "size": 8},
            name=name,
            text=[f"feature {index + 1}" for index in there],
            hovertemplate="%{text}<br>C %{x:.3f}<br>−dL/dC %{y:.4g}<extra></extra>",
        )
    figure.add_scatter(
        x=[0, 1],
        y=[float(result.prices.mean)] * 2,
        mode="lines",
        line={"dash": "dash", "color": THEORY},
        name="mean of the impure",
        hoverinfo="skip",
    )
    figure.update_xaxes(range=[-0.03, 1.03])
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(margin={"t": 70})
    says = result.says
    return styled(
        figure,
        title=title,
        caption=f"If capacity is spent as the theory says, impure features lie on one line, pure ones on or above it, "
        f"ignored ones on or below. The test: {says}.",
        x="capacity C",
        y="marginal benefit −dL/dC",
    )


def pair_figure(result: Pair) -> go.Figure:
    """Capacity and price of the less important of two features in one dimension, against its importance."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    ratio = array(result.ratio)
    for index, p in enumerate(result.probability.tolist()):
        colour = IMPURE_SCALE[index * (len(IMPURE_SCALE) - 1) // max(1, len(result.probability) - 1)]
        line = {"color": colour, "width": 2}
        for row, values in enumerate((result.capacity, result.price_ratio), 1):
            figure.add_scatter(
                x=ratio,
                y=array(values[index]),
                mode="lines",
                line=line,
                name=f"p = {p:.2g}",
                legendgroup=f"{p}",
                showlegend=row == 1,
                hovertemplate=f"p {p:.2g}<br>I₂/I₁ %{{x:.3f}}: %{{y:.3f}}<extra></extra>",
                row=row,
                col=1,
            )
    for y, name, dash in ((ratio, "as importance", "dot"), (np.ones_like(ratio), "equal", "dash")):
        line = {"dash": dash, "color": THEORY}
        figure.add_scatter(x=ratio, y=y, mode="lines", line=line, name=name, hoverinfo="skip", row=2, col=1)
    sparse = result.probability.argmin()
    shared = result.price_ratio[sparse].isfinite()
    low = float(result.capacity[sparse][shared].min()) if bool(shared.any()) else float("nan")
    styled(
        figure,
        title="Two features in one dimension",
        caption="Exact losses, against the importance of feature 2 relative to that of 1. The sparser the features, "
        "the more rigid their antipodal pair: at p = "
        f"{float(result.probability[sparse]):.2g} feature 2 keeps at least {low:.3f} of the dimension while it is "
        "represented, and its price falls as its importance does (dotted); equal returns (dashed) mean one price.",
        x="I₂/I₁",
        y="",
        height=560,
    )
    figure.update_xaxes(**log_axis(float(ratio.min()), 1.0))
    figure.update_xaxes(title_text="", row=1)
    figure.update_yaxes(title_text="capacity C₂", range=[-0.02, 0.52], row=1)
    figure.update_yaxes(title_text="price₂/price₁", range=[0, 1.05], row=2)
    figure.update_layout(margin={"t": 80})
    return figure


def locking_figures(result: Locking) -> list[tuple[str, go.Figure]]:
    """Maps of decay × feature probability for each architecture and dimension."""
    n = result.importance.shape[-1]
    return [
        (
            "dispersion",
            _map(
                result,
                result.dispersion,
                "How unequal prices are",
                "dispersion",
                f"Dispersion of the prices of the impure features among {n}: 0 (violet) is what the theory predicts. "
                "Empty: fewer than two impure features.",
            ),
        ),
        (
            "elasticity",
            _map(
                result,
                result.elasticity,
                "What prices follow",
                "elasticity",
                "Slope of log price on log importance: 0 (violet) if prices are equal, 1 (yellow, as is more) if they "
                "go with importance while capacities do not. Empty: equal importances, or fewer than three impure "
                "features.",
            ),
        ),
        (
            "locked",
            _map(
                result,
                result.locked,
                "Capacities at a polytope's value",
                "share",
                "Share of the impure features with a capacity within 0.02 of 3/4, 2/3, 1/2, 2/5 or 3/8. Yellow: all.",
            ),
        ),
    ]


def _map(result: Locking, values: Tensor, title: str, unit: str, caption: str) -> go.Figure:
    rows, columns = len(result.architecture), len(result.d_hidden)
    n = result.importance.shape[-1]
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.09 / max(1, rows - 1) if rows > 1 else 0,
        subplot_titles=[f"{name}, N/D = {n / d:.2g}" for name in result.architecture for d in result.d_hidden],
    )
    for row in range(rows):
        for column in range(columns):
            figure.add_heatmap(
                x=[f"{p:g}" for p in result.probability],
                y=[f"{decay:g}" for decay in result.decay],
                z=array(values[row, column]),
                zmin=0,
                zmax=1,
                colorscale=SEQUENTIAL,
                showscale=row == column == 0,
                colorbar={"thickness": 10, "title": {"text": unit}},
                hovertemplate="p %{x}, decay %{y}: %{z:.3f}<extra></extra>",
                row=row + 1,
                col=column + 1,
            )
    styled(figure, title=title, caption=caption, x="", y="", height=90 + PANEL_HEIGHT * rows)
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category")
    figure.update_xaxes(title_text="feature probability p", row=rows)
    figure.update_yaxes(title_text="importance decay", col=1)
    figure.update_annotations(font={"size": 12})
    return figure
