"""Polysemanticity without diminishing returns: capacities at a tie, losses against the split, where starts end."""

import math

import plotly.graph_objects as go

from polysem.plots._style import FIRST, IMPURE_SCALE, NULL, PURE, TEMPLATE, TRAINED, array, log_axis, styled
from polysem.studies import Basins, DependentPair, Tie, WithoutDiminishing


def without_diminishing_figures(result: WithoutDiminishing) -> list[tuple[str, go.Figure]]:
    """Ties, both pairs, and the ends of starts in quadratic models and in ReLU autoencoders."""
    return [
        ("ties", _tie_figure(result.ties)),
        ("linear", _pair_figure(result.linear, "Linear autoencoder", "a straight line")),
        ("quadratic", _pair_figure(result.quadratic, "Quadratic model", "an arch")),
        ("rising", _rising_figure(result.rising)),
        ("relu", _relu_figure(result.relu)),
    ]


def _tie_figure(ties: tuple[Tie, ...]) -> go.Figure:
    figure = go.Figure()
    for index, (tie, colour) in enumerate(zip(ties, TEMPLATE.layout.colorway, strict=False)):
        count = len(tie.capacity)
        figure.add_scatter(
            x=array(tie.capacity),
            y=[(k + 1) / count for k in range(count)],
            mode="lines",
            line={"color": colour, "width": 2.5, "shape": "hv"},
            name=f"N = {tie.n_features}, D = {tie.d_hidden}",
        )
        figure.add_scatter(
            x=array(tie.capacity),
            y=array(tie.expected),
            mode="lines",
            line={"color": NULL, "width": 1.5, "dash": "dash"},
            name="random subspaces",
            showlegend=index == 0,
        )
    excess = max(float((tie.loss - 1).abs().max()) for tie in ties)
    figure.update_layout(margin={"t": 70})
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_yaxes(range=[0, 1.02])
    return styled(
        figure,
        title="Where starts end at a tie",
        caption=f"{len(ties[0].capacity)} starts each: all capacities occur, as often as in random subspaces (dashed, "
        f"Beta(D/2, (N − D)/2)), and all at the optimal loss (to {excess:.0e}).",
        x="capacity C₁ of the first feature",
        y="share of starts with at most that",
        height=420,
    )


def _pair_figure(pair: DependentPair, model: str, shape: str) -> go.Figure:
    figure = go.Figure()
    for index, rho in enumerate(pair.correlation):
        figure.add_scatter(
            x=array(pair.split),
            y=array(pair.least[index]),
            mode="lines",
            line={"color": [NULL, *IMPURE_SCALE][index], "width": 3},
            name=f"ρ = {rho:.2g}".replace("-", "−") if rho else "independent",
        )
    figure.add_scatter(
        x=array(pair.capacity[:, 0]),
        y=array(pair.loss),
        mode="markers",
        marker={"symbol": "x-thin", "size": 10, "color": TRAINED, "line": {"width": 2.5, "color": TRAINED}},
        name="trained",
    )
    last = float(pair.capacity[-1, 0])
    figure.update_layout(margin={"t": 70})
    figure.update_xaxes(range=[-0.03, 1.03])
    figure.update_yaxes(rangemode="tozero")
    return styled(
        figure,
        title=f"{model}, F = {pair.kurtosis:.2g}",
        caption=f"Independent features: {shape}, least at an end. Features that exclude each other (the last curve): "
        f"least where they share, C₁ = {last:.2f} trained, with a loss {float(pair.saved[-1]):.0%} lower than "
        "at either end.",
        x="capacity C₁ (C₂ = 1 − C₁)",
        y="least loss / loss of ignoring both",
        height=420,
    )


def _rising_figure(basins: Basins) -> go.Figure:
    figure = _endings(basins)
    figure.add_vline(x=3, line={"color": NULL, "dash": "dot"})
    figure.update_xaxes(type="log", tickvals=[1.2, 2, 3, 5, 12], tickformat="~g")
    return styled(
        figure,
        title="Quadratic models",
        caption=f"Where the best is monosemantic (at 1, to the left) {basins.share_above:.0%} of the starts end at "
        f"minima above it: {int(basins.stuck.sum())} of these {int(basins.above.sum())} are polysemantic, the others "
        "have the wrong features pure. Bigger dots: more starts.",
        x="kurtosis F",
        y="loss / best monosemantic loss",
        height=420,
    )


def _relu_figure(basins: Basins) -> go.Figure:
    figure = _endings(basins)
    figure.update_xaxes(**log_axis(float(basins.setting[0]), float(basins.setting[-1])))
    figure.update_yaxes(type="log", tickvals=[0.6, 0.8, 1, 2, 4, 8], tickformat="~g")
    return styled(
        figure,
        title="ReLU autoencoders",
        caption=f"Where the best is monosemantic (at 1, to the left) {basins.share_stuck:.1%} of the starts end at "
        f"polysemantic minima, with up to {basins.worst:.3g} times its loss. Bigger dots: more starts.",
        x="relative importance I₃ / I₁",
        y="loss / best monosemantic loss",
        height=420,
    )


def _endings(basins: Basins) -> go.Figure:
    figure = go.Figure()
    for impure, colour, name in ((False, PURE, "monosemantic"), (True, FIRST, "polysemantic")):
        own = [ending for ending in basins.endings if ending.impure == impure]
        figure.add_scatter(
            x=[ending.setting for ending in own],
            y=[ending.loss for ending in own],
            mode="markers",
            marker={"color": colour, "size": [4 + 12 * math.sqrt(ending.share) for ending in own], "opacity": 0.75},
            hovertext=[f"{ending.share:.1%} of the starts" for ending in own],
            name=name,
        )
    figure.update_layout(legend={"itemsizing": "constant"})
    return figure
