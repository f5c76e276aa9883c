"""Transformers of several activations: where features are represented, how polysemantically, and at what loss."""

from collections.abc import Iterator

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from polysem.plots._equal_returns import price_figure
from polysem.plots._style import CAPACITY_SCALE, FIRST, NULL, PURE, log_axis, styled
from polysem.studies import ACTIVATIONS, Transformers, over_starts
from polysem.zoo import KINDS

LOOKS = {
    "relu": (FIRST, "circle"),
    "gelu": ("#24989a", "square"),
    "solu": (PURE, "diamond"),
    "bilinear": ("#b35ab0", "triangle-up"),
}
"""Colour and symbol of each activation."""

STAGES = ("before the activation", "after it", "as written to the stream")
ROW_HEIGHT = 150
SPREAD = 0.18


def transformer_figures(result: Transformers) -> list[tuple[str, go.Figure]]:
    """Loss against polysemanticity, the latter by place and at neurons, capacity × place × importance, returns."""
    return [
        ("loss", _loss(result)),
        ("places", _places(result)),
        ("neurons", _neurons(result)),
        ("capacity", _capacity(result)),
        ("returns", _returns(result)),
    ]


def _loss(result: Transformers) -> go.Figure:
    """Every network, and the mean of each activation with 95 % intervals both ways."""
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.06)
    columns = {
        "polysemanticity": result.in_stream,
        "features/neuron": result.features_per_neuron[..., -1],
    }
    for column, values in enumerate(columns.values(), 1):
        for row, name in enumerate(result.activation):
            for trace in _cross(values[row], result.loss[row], name, shown=column == 1):
                figure.add_trace(trace, row=1, col=column)
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        margin = 0.1 * (high - low) + 0.01
        floor = go.Scatter(
            x=[low - margin, high + margin],
            y=[result.monosemantic] * 2,
            mode="lines",
            line={"dash": "dash", "color": NULL},
            name="best monosemantic stream",
            showlegend=column == 1,
            hoverinfo="skip",
        )
        figure.add_trace(floor, row=1, col=column)
    styled(
        figure,
        title="What an activation changes, and what it costs",
        caption="Small markers are single networks, large ones means, with 95 % intervals over the starts where there "
        "are several. Below the dashed line superposition beats a stream that holds one target without error in each "
        "of its dimensions. Polysemanticity: mean 4 C (1 − C) of what is represented, over the places of the stream. "
        f"Mean losses: {_means(result, result.loss)}.",
        x="",
        y="",
        height=460,
    )
    for column, label in enumerate(columns, 1):
        figure.update_xaxes(title_text=label, row=1, col=column)
    ends = [*result.loss[~np.isnan(result.loss)].tolist(), result.monosemantic]
    figure.update_yaxes(**log_axis(min(ends), max(ends)))
    figure.update_yaxes(title_text="loss / that of ignoring all", row=1, col=1)
    figure.update_layout(margin={"t": 90})
    return figure


def _cross(x: np.ndarray, y: np.ndarray, name: str, *, shown: bool) -> Iterator[go.Scatter]:
    label, (colour, symbol) = ACTIVATIONS[name], LOOKS[name]
    across, up = over_starts(x), over_starts(y)
    yield go.Scatter(
        x=x,
        y=y,
        mode="markers",
        marker={"color": colour, "size": 6, "symbol": symbol, "opacity": 0.5},
        legendgroup=name,
        showlegend=False,
        name=label,
        hovertemplate="%{x:.3f}, loss %{y:.3f}<extra>" + label + "</extra>",
    )
    yield go.Scatter(
        x=np.atleast_1d(across.mean),
        y=np.atleast_1d(up.mean),
        error_x=_bar(across.half_width),
        error_y=_bar(up.half_width),
        mode="markers",
        marker={"color": colour, "size": 12, "symbol": symbol},
        legendgroup=name,
        showlegend=shown,
        name=label,
        hovertemplate="mean %{x:.3f}, loss %{y:.3f}<extra>" + label + "</extra>",
    )


def _means(result: Transformers, values: np.ndarray) -> str:
    """Of each activation over the starts, the lowest first."""
    means = over_starts(values).mean
    return ", ".join(f"{ACTIVATIONS[result.activation[row]]} {means[row]:.2f}" for row in np.argsort(means))


def _bar(half_width: np.ndarray) -> dict[str, object]:
    width = np.nan_to_num(np.atleast_1d(half_width))
    return {"array": width, "thickness": 1.5, "width": 4, "visible": bool(width.any())}


def _lines(figure: go.Figure, result: Transformers, values: np.ndarray, x: list[str], parts: list[slice]) -> None:
    """Means of `values` `[n_activations, n_starts, n]` over the starts with intervals, joined within each part."""
    band = over_starts(values.swapaxes(1, 2))
    n = len(result.activation)
    for row, name in enumerate(result.activation):
        label, (colour, symbol) = ACTIVATIONS[name], LOOKS[name]
        shift = SPREAD * (2 * row / (n - 1) - 1) if n > 1 else 0.0
        for part in parts:
            figure.add_scatter(
                x=np.arange(len(x))[part] + shift,
                y=band.mean[row, part],
                error_y=_bar(band.half_width[row, part]),
                mode="lines+markers",
                line={"color": colour, "width": 1.5},
                marker={"color": colour, "size": 8, "symbol": symbol},
                name=label,
                legendgroup=name,
                showlegend=part == parts[0],
                text=x[part],
                hovertemplate="%{text}: %{y:.3f}<extra>" + label + "</extra>",
            )
    figure.update_xaxes(tickvals=list(range(len(x))), ticktext=x, tickangle=-90, range=[-0.5, len(x) - 0.5])


def place_names(result: Transformers) -> list[str]:
    """What the places are called on axes: after which part of the network, or whose neurons."""
    layers = len(result.places) - result.n_stream
    parts = [f"after {part} {layer + 1}" for layer in range(layers) for part in ("attention", "neurons")]
    return ["embedding", *parts, *(f"at neurons {layer + 1}" for layer in range(layers))]


def _places(result: Transformers) -> go.Figure:
    figure, end = go.Figure(), result.n_stream
    _lines(figure, result, result.polysemanticity, place_names(result), [slice(0, end), slice(end, None)])
    figure.update_yaxes(range=[-0.03, 1.03])
    return styled(
        figure,
        title="Polysemanticity at every place",
        caption="Mean 4 C (1 − C) of what is represented there: 0 if every variable is pure, 1 if each has capacity "
        "1/2. Left line: along the residual stream; right: in the space of each block's neurons. 95 % intervals over "
        f"the starts where there are several. At the end of the stream: {_means(result, result.at_end)}.",
        x="place in the network",
        y="polysemanticity",
        height=460,
    )


def _neurons(result: Transformers) -> go.Figure:
    figure = go.Figure()
    _lines(figure, result, result.features_per_neuron, list(STAGES), [slice(None)])
    figure.update_yaxes(rangemode="tozero")
    return styled(
        figure,
        title="How many features a neuron answers to",
        caption="Participation ratio of the features, here and before, in the variance of a neuron: 1 if it answers to "
        "one alone; mean over the neurons that are not dead. Only SoLU has a layer norm after its activation. As "
        f"written: {_means(result, result.features_per_neuron[..., -1])}.",
        x="stage",
        y="features per neuron",
        height=420,
    )


def _capacity(result: Transformers) -> go.Figure:
    """One strip for each activation: places down, features across, one group of columns for each kind of variable."""
    names, n = place_names(result)[: result.n_stream], len(result.importance)
    figure = make_subplots(
        rows=len(result.activation),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.16 / len(result.activation),
        subplot_titles=[ACTIVATIONS[name] for name in result.activation],
    )
    mean = over_starts(np.moveaxis(result.capacity[:, :, : result.n_stream], 1, -1)).mean
    for row in range(len(result.activation)):
        for index, kind in enumerate(KINDS):
            figure.add_heatmap(
                x=index * (n + 1) + np.arange(n),
                y=names,
                z=mean[row, :, index],
                zmin=0,
                zmax=1,
                colorscale=CAPACITY_SCALE,
                showscale=row == index == 0,
                colorbar={"thickness": 10, "title": {"text": "C"}},
                customdata=np.tile(np.arange(1, n + 1), (len(names), 1)),
                hovertemplate=kind + " of feature %{customdata}, %{y}: C %{z:.3f}<extra></extra>",
                row=row + 1,
                col=1,
            )
    styled(
        figure,
        title="What the stream holds, and where it comes from",
        caption="Capacity, mean over the starts, of what can be known of each feature, the most important ones to the "
        "left of every group. Values come with the embedding; magnitudes can only come with neurons, what was before "
        "only with attention.",
        x="",
        y="place",
        height=120 + ROW_HEIGHT * len(result.activation),
    )
    middles = [index * (n + 1) + (n - 1) / 2 for index in range(len(KINDS))]
    figure.update_xaxes(tickvals=middles, ticktext=[kind.replace(" ", "<br>") for kind in KINDS], ticks="")
    figure.update_xaxes(title_text="features, by falling importance", row=len(result.activation))
    figure.update_yaxes(type="category", autorange="reversed", dtick=1, tickfont={"size": 11})
    figure.update_annotations(font={"size": 12})
    return figure


def _returns(result: Transformers) -> go.Figure:
    """The equal-returns test at the end of the stream of the network with the lowest loss."""
    activation, start = np.unravel_index(np.nanargmin(result.loss), result.loss.shape)
    name = ACTIVATIONS[result.activation[activation]]
    test = result.test(int(activation), int(start), result.n_stream - 1)
    return price_figure(test, title=f"Returns at the end of the stream, best {name} network")
