"""Flattened returns: what penalties cost, how much suffices, and what happens once they are gone."""

import math

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from polysem.plots._style import FIRST, NULL, PURE, SECOND, array, styled
from polysem.studies import Flattening, Stage, Threshold, Way, Ways

ROW = 52


def flattening_figures(result: Flattening) -> list[tuple[str, go.Figure]]:
    """Losses by penalty, the share of it that suffices, and the course of training in both kinds of model."""
    last = result.relu[-1]
    return [
        ("losses", _loss_figure(result.ways)),
        ("thresholds", _threshold_figure(result.thresholds)),
        ("course_quadratic", _course_figure(result.quadratic, "Quadratic model")),
        ("course_relu", _course_figure(last, f"ReLU autoencoder, p = {last.feature_probability:.2g}")),
    ]


def _loss_figure(ways: tuple[Way, ...]) -> go.Figure:
    figure = go.Figure()
    for pure, colour, name in ((False, FIRST, "some features impure"), (True, PURE, "monosemantic")):
        loss, row, text = [], [], []
        for index, way in enumerate(ways):
            for k, (value, impure) in enumerate(zip(way.loss.tolist(), way.n_impure.tolist(), strict=True)):
                if (impure == 0) == pure:
                    loss.append(value)
                    row.append(index + 0.3 * (k / max(1, len(way.loss) - 1) - 0.5))
                    text.append(way.name)
        marker = {"color": colour, "size": 7, "opacity": 0.7}
        figure.add_scatter(x=loss, y=row, mode="markers", marker=marker, hovertext=text, name=name)
    first = ways[0]
    for value, dash in ((first.optimum, "dot"), (first.floor, "dash")):
        figure.add_vline(x=value, line={"color": NULL, "dash": dash})
    for index, way in enumerate(ways):
        figure.add_annotation(
            x=0, xref="x domain", xanchor="left", y=index - 0.36, text=way.name, showarrow=False, font={"size": 12}
        )
    numbers = list(range(len(ways)))
    figure.update_yaxes(range=[len(ways) - 0.5, -0.7], tickvals=numbers, ticktext=[str(k + 1) for k in numbers])
    return styled(
        figure,
        title="Loss of every start, by penalty",
        caption=f"The dotted line is the optimum ({first.optimum:.2f}), the dashed one the best monosemantic "
        f"allocation ({first.floor:.2f}); between them lies the price of monosemanticity, to the right of the dashed "
        "line the error of choice.",
        x="loss, without the penalty",
        y="penalty",
        height=120 + ROW * len(ways),
    )


def _threshold_figure(thresholds: tuple[Threshold, ...]) -> go.Figure:
    figure = go.Figure()
    for found, colour, name in zip(thresholds, (PURE, FIRST), ("the largest κ for all", "its own κ each"), strict=True):
        figure.add_scatter(
            x=array(found.shares),
            y=array(found.monosemantic),
            mode="lines+markers",
            line={"color": colour, "width": 2.5},
            name=name,
        )
        figure.add_vline(x=found.optimum, line={"color": colour, "dash": "dash"})
    figure.add_vline(x=thresholds[0].chord, line={"color": NULL, "dash": "dot"})
    figure.update_xaxes(type="log", tickvals=[0.01, 0.03, 0.1, 0.3, 1], tickformat="~g")
    figure.update_yaxes(range=[-0.05, 1.05])
    return styled(
        figure,
        title="How much penalty suffices",
        caption="Dashed: from there on the best allocation of the penalised curves is monosemantic. Dotted: the bound "
        "of the chord. At 1 every curve is concave.",
        x="share of the full κ",
        y="monosemantic starts",
        height=400,
    )


def _course_figure(ways: Ways, title: str) -> go.Figure:
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    paths = (
        ("penalty after training", SECOND, (ways.ordinary, ways.tuned, ways.tuned_released)),
        ("penalty from the start", FIRST, (ways.scratch, ways.scratch_released)),
    )
    for name, colour, stages in paths:
        steps, index, loss = _joined(stages)
        for row, values in ((1, index), (2, loss)):
            line = {"color": colour, "width": 2.5}
            figure.add_scatter(
                x=steps, y=values, mode="lines", line=line, name=name, showlegend=row == 1, row=row, col=1
            )
    length = float(ways.ordinary.steps[-1])
    for end in (1, 2):
        figure.add_vline(x=end * length, line={"color": NULL, "dash": "dot"})
    figure.update_yaxes(range=[-0.05, 1.1], row=1, col=1)
    low = min(float(stage.loss.mean(-1).min()) for _, _, stages in paths for stage in stages)
    figure.update_yaxes(type="log", range=[math.log10(low) - 0.2, 1.0], dtick=1, exponentformat="power", row=2, col=1)
    figure.update_layout(margin={"t": 60})
    styled(
        figure,
        title=title,
        caption="Means over starts. The penalty comes at the first line (or is there from the start) and is gone after "
        "the second (the first).",
        x="",
        y="",
        height=520,
    )
    figure.update_xaxes(title_text="steps of training", nticks=5, row=2, col=1)
    figure.update_yaxes(title_text="polysemanticity", row=1, col=1)
    figure.update_yaxes(title_text="loss / best monosemantic", row=2, col=1)
    return figure


def _joined(stages: tuple[Stage, ...]) -> tuple[list[float], list[float], list[float]]:
    """Steps, mean polysemanticity and mean loss of stages that follow each other."""
    steps: list[float] = []
    index: list[float] = []
    loss: list[float] = []
    offset = 0.0
    for stage in stages:
        steps += [offset + step for step in stage.steps.tolist()]
        index += _mean(stage.polysemanticity)
        loss += _mean(stage.loss)
        offset = steps[-1]
    return steps, index, loss


def _mean(values: Tensor) -> list[float]:
    means: list[float] = values.double().mean(-1).tolist()
    return means
