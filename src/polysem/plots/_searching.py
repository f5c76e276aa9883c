"""The search for features that are not given: what wins, and by how much."""

import math

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from polysem.plots._style import FIRST, PURE, styled
from polysem.studies import SearchedCell, Searching

NAMES = {
    "diminishing": "most diminishing returns",
    "importance": "least importance",
    "capacity": "highest capacity",
    "non_gaussian": "independent components",
}
PANEL_HEIGHT, LABELS, LEGEND = 130, 300, 90
SPREAD = 0.5


def searching_figures(result: Searching) -> list[tuple[str, go.Figure]]:
    """Shares of features among the winners, and scores of the winners beside those of features."""
    return [("shares", _shares(result)), ("scores", _scores(result))]


def cell_name(cell: SearchedCell) -> str:
    """What an axis calls a cell."""
    p = "F against v" if cell.opposed else f"p = {cell.probability:.2g}"
    return f"{cell.architecture}, {p}, D = {cell.d_hidden}"


def _shares(result: Searching) -> go.Figure:
    rows = len(result.objectives)
    figure = _panels(rows, [NAMES[objective] for objective in result.objectives])
    names = [cell_name(cell) for cell in result.cells]
    for row, objective in enumerate(result.objectives, 1):
        found = [cell.by(objective) for cell in result.cells]
        for shares, colour, name, shift in (
            ([one.share for one in found], PURE, "features", -0.15),
            ([one.share_beyond for one in found], FIRST, "mixtures beyond every feature", 0.15),
        ):
            figure.add_scatter(
                x=[index + shift for index in range(len(names))],
                y=[share for share, _, _ in shares],
                error_y={
                    "array": [high - share for share, _, high in shares],
                    "arrayminus": [share - low for share, low, _ in shares],
                    "thickness": 1,
                    "width": 2,
                },
                mode="markers",
                marker={"color": colour, "size": 7},
                name=name,
                legendgroup=name,
                showlegend=row == 1,
                hovertext=names,
                row=row,
                col=1,
            )
    seeds = len(result.cells[0].searched[0].true)
    styled(
        figure,
        title="What wins a search",
        caption=f"Of {seeds} networks in each cell, the share whose winning direction is a feature (|cos| > 0.9), and "
        "the share where it is a mixture that scores beyond every feature, with 95 % intervals. Where both are low, a "
        "mixture won without scoring higher.",
        x="",
        y="share",
        height=PANEL_HEIGHT * rows + LABELS,
    )
    figure.update_yaxes(range=[-0.05, 1.05], tickvals=[0, 0.5, 1])
    return _with_cells(figure, names, rows)


def _scores(result: Searching) -> go.Figure:
    shown = ("diminishing", "importance")
    figure = _panels(len(shown), [NAMES[objective] for objective in shown])
    names = [cell_name(cell) for cell in result.cells]
    for row, objective in enumerate(shown, 1):
        exponents = [0.0]
        for true, colour, name in ((True, PURE, "feature"), (False, FIRST, "mixture")):
            x, y = [], []
            for index, cell in enumerate(result.cells):
                found = cell.by(objective)
                ratios = zip(found.relative.tolist(), found.true.tolist(), strict=True)
                for k, (ratio, is_feature) in enumerate(ratios):
                    if is_feature == true and 0 < ratio < float("inf"):
                        x.append(index + SPREAD * (k / len(found.true) - 0.5))
                        y.append(ratio)
                        exponents.append(math.log10(ratio))
            figure.add_scatter(
                x=x,
                y=y,
                mode="markers",
                marker={"color": colour, "size": 5, "opacity": 0.7},
                name=name,
                legendgroup=name,
                showlegend=row == 1,
                row=row,
                col=1,
            )
        low, high = math.floor(min(exponents)), math.ceil(max(exponents))
        figure.update_yaxes(range=[low - 0.1, high + 0.1], dtick=max(1, math.ceil((high - low) / 4)), row=row)
        figure.add_hline(y=1, line={"width": 1, "dash": "dash", "color": "#8c8c8c"}, row=row, col=1)
    styled(
        figure,
        title="Winners beside the best feature",
        caption="Each point is a network: the winner's κ, and its |dL/dC|, over that of the best feature. Mixtures "
        "(blue) beat every feature above the line for diminishing returns, and below it for least importance. Not "
        "shown: where the best feature scores no more than 0, or where none has a price.",
        x="",
        y="winner / feature",
        height=(PANEL_HEIGHT + 40) * len(shown) + LABELS,
    )
    figure.update_yaxes(type="log", exponentformat="power")
    return _with_cells(figure, names, len(shown))


def _panels(rows: int, titles: list[str]) -> go.Figure:
    return make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.06, subplot_titles=titles)


def _with_cells(figure: go.Figure, names: list[str], rows: int) -> go.Figure:
    """The names of the cells below the last panel."""
    where = list(range(len(names)))
    figure.update_xaxes(tickvals=where, range=[-0.6, len(names) - 0.4], tickangle=-90)
    figure.update_xaxes(title_text="networks", tickvals=where, ticktext=names, tickfont={"size": 11}, row=rows)
    figure.update_annotations(font={"size": 12})
    room = figure.layout.height - LABELS
    figure.update_layout(margin={"t": LEGEND, "b": LABELS - LEGEND}, legend={"y": 1 + 24 / room})
    return figure
