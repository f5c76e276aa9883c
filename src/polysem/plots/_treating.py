"""Features that are not given, found and treated: losses, and pictures of directions of pixels."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from polysem.plots._style import DIVERGING_SCALE, FIRST, NULL, PURE, array, styled
from polysem.studies import Digits, PixelDirections, Treating

ROW, PICTURE, COLUMNS, SIDE = 52, 180, 2, 8
TITLES = {"diminishing": "κ =", "non_gaussian": "|F − 3| ="}


def treating_figures(result: Treating) -> list[tuple[str, go.Figure]]:
    """Losses after each procedure; and, where there are any, the directions of pixels that were found."""
    figures = [("treated", _losses(result))]
    if result.digits is not None:
        figures.append(("pixels", _pictures(result.digits)))
    return figures


def _losses(result: Treating) -> go.Figure:
    figure = go.Figure()
    for pure, colour, name in ((False, FIRST, "some features impure"), (True, PURE, "monosemantic")):
        x, y = [], []
        for index, way in enumerate(result.ways):
            for k, (loss, impure) in enumerate(zip(way.loss.tolist(), way.n_impure.tolist(), strict=True)):
                if (impure == 0) == pure:
                    x.append(loss)
                    y.append(index + 0.3 * (k / max(1, len(way.loss) - 1) - 0.5))
        marker = {"color": colour, "size": 7, "opacity": 0.7}
        figure.add_scatter(x=x, y=y, mode="markers", marker=marker, name=name)
    figure.add_vline(x=result.floor, line={"color": NULL, "dash": "dash"})
    for index, way in enumerate(result.ways):
        figure.add_annotation(
            x=0, xref="x domain", xanchor="left", y=index - 0.36, text=way.name, showarrow=False, font={"size": 12}
        )
    numbers = list(range(len(result.ways)))
    figure.update_yaxes(range=[len(result.ways) - 0.5, -0.7], tickvals=numbers, ticktext=[str(k + 1) for k in numbers])
    return styled(
        figure,
        title="Quadratic models whose features are not given",
        caption="Loss of each model over all features, without penalties, after each procedure; the last two know the "
        f"features. The dashed line is the best monosemantic allocation ({result.floor:.2f}).",
        x="loss",
        y="procedure",
        height=120 + ROW * len(result.ways),
    )


def _pictures(digits: Digits) -> go.Figure:
    shown = [(one, index) for one in digits.found for index in range(len(one.directions))]
    rows = -(-len(shown) // COLUMNS)
    figure = make_subplots(
        rows=rows,
        cols=COLUMNS,
        horizontal_spacing=0.06,
        vertical_spacing=0.2 / rows,
        subplot_titles=[_title(one, index) for one, index in shown],
    )
    for k, (one, index) in enumerate(shown):
        figure.add_heatmap(
            z=array((one.directions[index] / one.directions[index].abs().max()).reshape(SIDE, SIDE)),
            zmid=0,
            zmin=-1,
            zmax=1,
            colorscale=DIVERGING_SCALE,
            showscale=k == 0,
            colorbar={
                "orientation": "h",
                "thickness": 10,
                "y": -70 / (PICTURE * rows),
                "yanchor": "top",
                "tickvals": [-1, 0, 1],
                "title": {"text": "weight / largest weight", "side": "bottom"},
            },
            hovertemplate="row %{y}, column %{x}: %{z:.2f}<extra></extra>",
            row=k // COLUMNS + 1,
            col=k % COLUMNS + 1,
        )
    styled(
        figure,
        title="Directions of pixels",
        caption="Unit directions in the space of 8 × 8 pixels: those of the most strongly diminishing returns of the "
        "network, with κ; and the least Gaussian components of the images alone (FastICA), with |F_u − 3|.",
        x="",
        y="",
        height=190 + PICTURE * rows,
    )
    ends = {"tickvals": [0, SIDE - 1], "ticktext": ["1", str(SIDE)]}
    figure.update_xaxes(showticklabels=False, ticks="", **ends)
    figure.update_yaxes(showticklabels=False, ticks="", autorange="reversed", **ends)
    figure.update_xaxes(title_text="column of pixels", showticklabels=True, row=rows, col=1)
    figure.update_yaxes(title_text="row of pixels", showticklabels=True, col=1)
    figure.update_annotations(font={"size": 11})
    figure.update_layout(margin={"r": 10, "b": 130})
    return figure


def _title(one: PixelDirections, index: int) -> str:
    score = float(one.score[index])
    return f"{TITLES[one.name]} {f'{score:,.0f}' if score >= 100 else f'{score:.3g}'}"
