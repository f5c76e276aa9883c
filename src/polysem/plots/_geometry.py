"""Learned polytopes: capacities against feature probability, features by block, and a gallery in the plane."""

import math
from itertools import accumulate

import plotly.graph_objects as go

from polysem.measure import Block
from polysem.plots._gram import cosine_figure
from polysem.plots._plane import plane_figure
from polysem.plots._style import CAPACITY_SCALE, FIRST, IGNORED, PURE, SECOND, styled
from polysem.studies import POLYTOPES, Geometry, block_shape

SHAPES = {
    "single feature": PURE,
    "tetrahedron": "#5cb86a",
    "triangle": "#d9c63a",
    "antipodal pair": FIRST,
    "pentagon": SECOND,
    "square antiprism": "#b35ab0",
    "another polytope": "#24989a",
    "no polytope": IGNORED,
}
"""Colours of blocks, in the order in which they are stacked."""

GOLDEN = (math.sqrt(5) - 1) / 2


def geometry_figures(result: Geometry) -> list[tuple[str, go.Figure]]:
    """The gallery in a plane, capacities, blocks, and cosines of a ReLU and of a quadratic model."""
    show, other = result.relu[result.showcase], result.quadratic
    p = f"p = {show.feature_probability:.2g}"
    return [
        ("plane", plane_figure(result)),
        ("capacities", _capacity_figure(result)),
        ("blocks", _block_figure(result)),
        (
            "relu",
            cosine_figure(
                show.W,
                show.blocks,
                title=f"ReLU autoencoder, {p}",
                caption=f"{len(show.blocks)} blocks for {int(show.represented.sum())} represented features: "
                f"{show.says}. White: orthogonal.",
            ),
        ),
        (
            "quadratic",
            cosine_figure(
                other.W,
                other.blocks,
                title=f"Quadratic model, {p}",
                caption=f"As many features and dimensions, and the same p: {other.says}; the biggest block holds "
                f"{other.biggest} features.",
            ),
        ),
    ]


def _capacity_figure(result: Geometry) -> go.Figure:
    last = len(result.relu) - 1
    places = [*range(last + 1), last + 3]
    x, capacity, hover = [], [], []
    for place, model in zip(places, [*result.relu, result.linear], strict=True):
        name = "linear" if model is result.linear else f"p {model.feature_probability:.3g}"
        for feature, C in enumerate(model.capacity.tolist()):
            x.append(place + 0.7 * (feature * GOLDEN % 1 - 0.5))
            capacity.append(C)
            hover.append(f"{name}<br>feature {feature + 1}: C {C:.3f}")
    figure = go.Figure()
    figure.add_scatter(
        x=x,
        y=capacity,
        mode="markers",
        marker={"size": 5, "color": capacity, "cmin": 0, "cmax": 1, "colorscale": CAPACITY_SCALE, "opacity": 0.85},
        hovertext=hover,
        hoverinfo="text",
        showlegend=False,
    )
    n, d = result.linear.W.shape
    kept = result.linear.capacity[result.linear.represented]
    styled(
        figure,
        title="Capacities stick",
        caption=f"A dot for each of {n} features in {d} dimensions. {result.sticky:.0%} of all represented ones are "
        f"within 0.02 of a polytope's line; of random directions {result.random_sticky:.0%} would be. The linear model "
        f"represents {len(kept)} features, none with C below {float(kept.min()):.3f}.",
        x="feature probability p",
        y="capacity C",
        height=640,
    )
    shown = range(0, last + 1, math.ceil(last / 3))
    figure.update_xaxes(
        tickvals=[*shown, places[-1]],
        ticktext=[*(f"{result.relu[k].feature_probability:.2g}" for k in shown), "linear"],
        tickfont={"size": 11},
        range=[-0.7, places[-1] + 0.9],
        tickangle=0,
        showgrid=False,
    )
    figure.update_yaxes(
        tickvals=[0, *(float(value) for value in POLYTOPES.values()), 1],
        ticktext=["0", *(f"{name} {value}" for name, value in POLYTOPES.items()), "1"],
        tickfont={"size": 11},
        gridwidth=1.5,
        range=[-0.04, 1.04],
    )
    return figure


def _block_figure(result: Geometry) -> go.Figure:
    models = [*result.relu, result.quadratic]
    places = [*range(len(result.relu)), len(result.relu) + 0.5]
    segments = []
    for place, model in zip(places, models, strict=True):
        found = sorted(model.blocks, key=lambda block: (list(SHAPES).index(_shape(block)), -len(block.members)))
        sizes = [len(block.members) for block in found]
        for block, size, end in zip(found, sizes, accumulate(sizes), strict=True):
            tip = f"{block_shape(block)}: {size} features in {block.dim} dimensions"
            segments.append((_shape(block), place, end - size, size, tip))
    figure = go.Figure()
    for name, colour in SHAPES.items():
        own = [segment[1:] for segment in segments if segment[0] == name]
        if own:
            at, starts, widths, hover = zip(*own, strict=True)
            figure.add_bar(
                orientation="h",
                x=widths,
                y=at,
                base=starts,
                hovertext=hover,
                hoverinfo="text",
                marker={"color": colour, "line": {"color": "#ffffff", "width": 1.5}},
                name=name,
            )
    styled(
        figure,
        title="Features by block",
        caption="Each piece is a block: features that interfere with each other only. At "
        f"p = {result.quadratic.feature_probability:.2g} the biggest has {result.relu[result.showcase].biggest} "
        f"features in the ReLU autoencoder and {result.quadratic.biggest} in the quadratic model of the same size.",
        x="represented features",
        y="feature probability p",
        height=560,
    )
    figure.update_layout(barmode="overlay", bargap=0.15, margin={"t": 90})
    figure.update_yaxes(
        tickvals=places,
        ticktext=[*(f"{model.feature_probability:.2g}" for model in result.relu), "quadratic"],
        range=[places[-1] + 0.6, -0.6],
    )
    return figure


def _shape(block: Block) -> str:
    name = block_shape(block)
    return name if name in SHAPES else "another polytope"
