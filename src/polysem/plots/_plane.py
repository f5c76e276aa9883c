"""A gallery of embeddings in a plane."""

import plotly.graph_objects as go
import torch
from torch import Tensor

from polysem.plots._style import CAPACITY_SCALE, IGNORED, styled
from polysem.studies import Geometry, Learned

ROW_HEIGHT, RADIUS = 1.4, 0.4
"""Height of a row of the gallery, and length of its longest arrow; a column is 1 wide."""


def plane_figure(result: Geometry) -> go.Figure:
    """A drawing of the best start for each feature probability and number of features."""
    columns = list(dict.fromkeys(model.feature_probability for model in result.planes))
    rows = list(dict.fromkeys(len(model.W) for model in result.planes))
    scale = RADIUS / max(float(model.W.norm(dim=1).max()) for model in result.planes)
    lines: list[list[float | None]] = [[], []]
    tips, names = [], []
    for model in result.planes:
        x, y = columns.index(model.feature_probability), -ROW_HEIGHT * rows.index(len(model.W))
        for feature, (across, up) in enumerate((scale * _upright(model.W)).tolist()):
            C = float(model.capacity[feature])
            tips.append((x + across, y + up, C, f"feature {feature + 1}: C {C:.3f}"))
            for line, start, end in zip(lines, (x, y), (x + across, y + up), strict=True):
                line += [start, end, None]
        names.append((x, y - RADIUS - 0.1, f"{_short(model)}<br>{_range(model)}", model.says))
    figure = go.Figure()
    figure.add_scatter(
        x=lines[0], y=lines[1], mode="lines", line={"color": IGNORED, "width": 1.5}, hoverinfo="skip", showlegend=False
    )
    ends, tops, colours, hover = zip(*tips, strict=True)
    marker = {"size": 8, "color": colours, "cmin": 0, "cmax": 1, "colorscale": CAPACITY_SCALE}
    bar = {"orientation": "h", "y": 1.01, "yanchor": "bottom", "thickness": 10, "title": {"text": "capacity C"}}
    figure.add_scatter(
        x=ends,
        y=tops,
        mode="markers",
        marker={**marker, "colorbar": {**bar, "tickvals": [0, 0.25, 0.5, 0.75, 1]}},
        hovertext=hover,
        hoverinfo="text",
        showlegend=False,
    )
    places, levels, text, hover = zip(*names, strict=True)
    figure.add_scatter(
        x=places,
        y=levels,
        mode="text",
        text=text,
        textposition="bottom center",
        textfont={"size": 10},
        hovertext=hover,
        hoverinfo="text",
        showlegend=False,
    )
    bottom = -ROW_HEIGHT * (len(rows) - 1) - RADIUS - 0.6
    styled(
        figure,
        title="Features in a plane",
        caption="Rows of W as arrows, turned so that the longest points up and coloured by capacity (grey: not "
        "represented); below them the polytopes found and the capacities of the represented features.",
        x="feature probability p",
        y="number of features n",
        height=round(150 + 70 * ROW_HEIGHT * len(rows)),
    )
    figure.layout.xaxis.update(
        tickvals=list(range(len(columns))),
        ticktext=[f"{p:g}" for p in columns],
        range=[-0.5, len(columns) - 0.5],
        constrain="domain",
    )
    figure.layout.yaxis.update(
        tickvals=[-ROW_HEIGHT * k for k in range(len(rows))],
        ticktext=[str(n) for n in rows],
        range=[bottom, RADIUS + 0.1],
        scaleanchor="x",
        constrain="domain",
        constraintoward="top",
    )
    figure.update_layout(margin={"t": 80})
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        axis.update(showgrid=False, showline=False, ticks="")
    return figure


def _upright(W: Tensor) -> Tensor:
    """Rows in the plane, turned so that the longest points up."""
    first = torch.nn.functional.normalize(W[W.norm(dim=1).argmax()], dim=0)
    return torch.stack([W @ torch.stack([first[1], -first[0]]), W @ first], -1)


def _short(model: Learned) -> str:
    """Shapes in few letters: "2 pairs", "pair + 1" with a single feature."""
    parts = []
    for name, count in sorted(model.shapes.items()):
        short = name.removeprefix("antipodal ")
        parts.append(str(count) if name == "single feature" else short if count == 1 else f"{count} {short}s")
    return " + ".join(parts)


def _range(model: Learned) -> str:
    """Smallest and largest capacity of the represented features."""
    represented = model.capacity[model.represented]
    low, high = (f"{float(end):.2f}" for end in (represented.min(), represented.max()))
    return f"C {low}" if low == high else f"C {low}–{high}"
