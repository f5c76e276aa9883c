"""Large networks layer by layer: capacity and what more of it is worth, against importance."""

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from polysem.measure import FeatureClass
from polysem.plots._style import CAPACITY_SCALE, IGNORED, IMPURE_SCALE, PURE, THEORY, array, styled
from polysem.studies import Deep, Layers, State, by_rank, rank_edges

RANK = "feature, by falling importance"
NORMAL_95 = 1.96
ROW_HEIGHT = 44


def layer_figures(result: Layers) -> list[tuple[str, go.Figure]]:
    """For each network: capacity over states and features, and benefit against importance."""
    importance = array(by_rank(result.importance))
    return [
        (f"{network.task}-{name}", figure)
        for network in result.networks
        for name, figure in (("capacity", _capacities(network)), ("benefit", _benefits(network, importance)))
    ]


def _capacities(network: Deep) -> go.Figure:
    signals = list(dict.fromkeys(state.signal for state in network.states))
    edges = rank_edges(len(network.states[-1].capacity))
    figure = make_subplots(
        rows=len(signals),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.14,
        subplot_titles=[f"capacity of {signal}" for signal in signals] if len(signals) > 1 else None,
    )
    for row, signal in enumerate(signals, 1):
        states = network.of(signal)
        figure.add_heatmap(
            x=edges,
            y=[state.name for state in states],
            z=np.stack([array(by_rank(state.capacity)) for state in states]),
            zmin=0,
            zmax=1,
            colorscale=CAPACITY_SCALE,
            showscale=row == 1,
            colorbar={"thickness": 10, "title": {"text": "C"}},
            hovertemplate="feature %{x:.0f}<br>%{y}: C %{z:.3f}<extra></extra>",
            row=row,
            col=1,
        )
    n_rows = sum(len(network.of(signal)) for signal in signals)
    styled(
        figure,
        title=f"The network that {network.task}s: capacity in every layer",
        caption="Mean over features of like importance; grey: ignored, orange: pure. "
        + " ".join(_ends(network, signal) for signal in signals),
        x="",
        y="",
        height=110 + 40 * len(signals) + ROW_HEIGHT * n_rows,
    )
    figure.update_xaxes(type="log", dtick=1, range=np.log10(edges[[0, -1]]).tolist())
    figure.update_xaxes(title_text=RANK, row=len(signals))
    figure.update_yaxes(type="category", autorange="reversed", title_text="state")
    figure.update_annotations(font={"size": 12})
    return figure


def _ends(network: Deep, signal: str) -> str:
    """How the capacities of a signal change from the first state to the last."""
    states = network.of(signal)
    first, last = (float(states[k].capacity.sum()) for k in (0, -1))
    kinds = [int((states[-1].test.feature_class == one).sum()) for one in FeatureClass]
    return (
        f"{signal}: capacities add up to {first:.0f} in the {states[0].name} and to {last:.0f} in {_the(states[-1])}, "
        f"with {kinds[0]} features ignored, {kinds[1]} impure and {kinds[2]} pure."
    )


def _the(state: State) -> str:
    return state.name if state.name.startswith("block") else f"the {state.name}"


def _benefits(network: Deep, importance: npt.NDArray[np.float64]) -> go.Figure:
    figure = go.Figure()
    states = network.of(network.target)
    edges = rank_edges(len(states[-1].capacity))
    rank = (edges[1:] + edges[:-1]) / 2
    for index, state in enumerate(states):
        last = state is states[-1]
        _line(figure, rank, state, state.name, PURE if last else IMPURE_SCALE[index % len(IMPURE_SCALE)], bold=last)
    _line(figure, rank, network.start, "outputs, untrained", IGNORED, bold=False)
    test = states[-1].test
    mean = float(test.prices.mean)
    start = _binned(network.start)[0]
    first = np.flatnonzero(np.isfinite(start) & (start > 0))
    if mean > 0:
        figure.add_scatter(
            x=rank[[0, -1]],
            y=[mean, mean],
            mode="lines",
            line={"color": THEORY, "dash": "dash", "width": 1.5},
            name="equal",
            hoverinfo="skip",
        )
    if len(first):
        figure.add_scatter(
            x=rank,
            y=start[first[0]] * importance / importance[first[0]],
            mode="lines",
            line={"color": THEORY, "dash": "dot", "width": 1.5},
            name="as importance",
            hoverinfo="skip",
        )
    figure.update_layout(margin={"t": 90})
    styled(
        figure,
        title=f"The network that {network.task}s: what more capacity is worth",
        caption="Benefit to a feature's own loss, means over impure ones of like importance (no point: none, or a mean "
        "below 0). If capacity is spent as the theory says, lines are flat. Outputs, trained: means "
        f"{_within(states[-1])}; {test.says}. Untrained: means {_within(network.start)}, and prices scatter by "
        f"{float(network.start.test.prices.value):.0%}.",
        x=RANK,
        y="marginal benefit −dL/dC",
        height=460,
    )
    figure.update_xaxes(type="log", dtick=1, range=np.log10(edges[[0, -1]]).tolist())
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    return figure


def _within(state: State) -> str:
    """How far apart mean prices are, in words."""
    ratio = state.price_ratio
    if ratio == float("inf"):
        return "of both signs"
    return f"within a factor of {ratio:.2g}" if ratio < 10 else f"within a factor of {ratio:,.0f}"


def _binned(state: State) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean benefit of the impure features in each bin, and its standard error."""
    impure = state.test.feature_class == FeatureClass.IMPURE
    mean, square = array(state.mean_benefit), array(by_rank(state.test.stderr.square(), impure))
    number = array(by_rank(impure.double())) * np.diff(rank_edges(len(impure)))
    return mean, np.sqrt(square / np.where(number > 0, number, np.nan))


def _line(
    figure: go.Figure, rank: npt.NDArray[np.float64], state: State, name: str, colour: str, *, bold: bool
) -> None:
    """Where the mean benefit is positive: on a logarithmic axis there is no room for others."""
    mean, error = _binned(state)
    there = np.flatnonzero(np.isfinite(mean) & (mean > 0))
    low = np.minimum(NORMAL_95 * error[there], 0.9 * mean[there])
    figure.add_scatter(
        x=rank[there],
        y=mean[there],
        error_y={
            "array": NORMAL_95 * error[there],
            "arrayminus": low,
            "thickness": 1,
            "width": 0,
            "visible": bold,
        },
        mode="lines+markers",
        line={"color": colour, "width": 2.5 if bold else 1.2},
        marker={"color": colour, "size": 6 if bold else 4},
        name=name,
        hovertemplate=f"{name}<br>feature %{{x:.0f}}<br>−dL/dC %{{y:.3g}}<extra></extra>",
    )
