"""The penalty on networks that read real images: polysemanticity against loss, and against what it does not see."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from polysem.plots._style import FIRST, NULL, PURE, THEORY, styled
from polysem.studies import Penalised, RealPenalty, over_starts

PANEL = 190


def real_penalty_figures(result: RealPenalty) -> list[tuple[str, go.Figure]]:
    """Test loss, and an independent count, against the polysemanticity that each strength leaves."""
    loss = _panels(result, "loss", ["test loss<br>/ ignoring all"] * len(result.networks))
    for row, network in enumerate(result.networks, 1):
        if network.monosemantic is not None:
            loss.add_hline(y=float(network.monosemantic.mean()), line={"color": THEORY, "dash": "dot"}, row=row, col=1)
    count = _panels(result, "count", [_broken(network.counts) for network in result.networks])
    n_starts = result.networks[0].kappa.shape[-1]
    intervals = f"Means over {n_starts} starts with 95 % intervals; dashed: random directions of like norms"
    loss.update_layout(
        meta={
            "title": "What monosemantic features cost",
            "caption": "Lines start at the control (square); dots: stronger and stronger penalties. Circles: the same "
            f"networks after the penalty was taken away. {intervals}; dotted: as many features as there are dimensions "
            "known exactly, the others not at all.",
        }
    )
    count.update_layout(
        meta={
            "title": "Do neurons and pixels stand for fewer things?",
            "caption": "What the penalty does not see, on test images; where it follows, lines fall to the left. "
            f"{intervals}.",
        }
    )
    return [("loss", loss), ("count", count)]


def _broken(label: str) -> str:
    """On two lines, for a short axis."""
    first, second, *rest = label.split()
    return f"{first} {second}<br>{' '.join(rest)}"


def _panels(result: RealPenalty, what: str, labels: list[str]) -> go.Figure:
    titles = [f"{one.name}: {one.n_features} {one.features}, {one.width} dimensions" for one in result.networks]
    figure = make_subplots(rows=len(titles), cols=1, shared_xaxes=True, vertical_spacing=0.07, subplot_titles=titles)
    for row, network in enumerate(result.networks, 1):
        _lines(figure, network, what, row)
        figure.add_vline(x=float(network.null.mean()), line={"color": NULL, "dash": "dash"}, row=row, col=1)
    styled(figure, caption="", x="", y="", height=120 + PANEL * len(titles))
    for row, label in enumerate(labels, 1):
        figure.update_yaxes(title={"text": label, "font": {"size": 12}}, rangemode="tozero", nticks=4, row=row, col=1)
    figure.update_xaxes(title_text="polysemanticity of the features", row=len(titles), col=1)
    figure.update_xaxes(range=[-0.03, 1.03], tickvals=[0, 0.25, 0.5, 0.75, 1])
    figure.update_annotations(font={"size": 12})
    figure.update_layout(margin={"t": 80}, legend={"y": 1.05})
    return figure


def _lines(figure: go.Figure, network: Penalised, what: str, row: int) -> None:
    order = network.kappa.mean(-1).argsort()
    strength = [f"κ {value:.3g}" for value in network.kappa.mean(-1)[order]]
    for reading, colour, symbol, name in (
        (network.removed, FIRST, "circle-open", "taken away"),
        (network.penalised, PURE, "circle", "with the penalty"),
    ):
        x, y = (over_starts(values[order]) for values in (reading.polysemanticity, getattr(reading, what)))
        after = name == "taken away"
        figure.add_scatter(
            x=x.mean,
            y=y.mean,
            error_x={"array": x.half_width, "thickness": 1, "width": 0},
            error_y={"array": y.half_width, "thickness": 1, "width": 0},
            mode="markers" if after else "lines+markers",
            line={"color": colour, "width": 2},
            marker={
                "color": colour,
                "size": 8 if after else 7,
                "symbol": symbol if after else ["square", *["circle"] * (len(order) - 1)],
            },
            text=strength,
            hovertemplate=f"{name}, %{{text}}<br>index %{{x:.3f}}<br>%{{y:.3g}}<extra></extra>",
            name=name,
            showlegend=row == 1,
            row=row,
            col=1,
        )
