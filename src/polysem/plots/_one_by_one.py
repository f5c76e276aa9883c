"""Features treated one by one: what is left after each round, and how good the choice was."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from polysem.plots._style import FIRST, IGNORED, PURE, SECOND, array, styled
from polysem.studies import OneByOneResult, TreatedModel


def one_by_one_figures(result: OneByOneResult) -> list[tuple[str, go.Figure]]:
    """Rounds, and the loss that each treatment ends with, for each of the models."""
    return [
        *((f"{model.name}-rounds", _rounds_figure(model)) for model in result.models),
        *((f"{model.name}-choice", _choice_figure(model)) for model in result.models),
    ]


def treatment_label(name: str) -> str:
    """What a treatment is called in figures and tables."""
    kind, _, how = name.partition(" ")
    if kind == "mask":
        return f"mask, {how}"
    if kind == "keep":
        return f"one-shot mask, {how}"
    return f"flatten, {how} a round" if how else "flatten, all at once"


def treated_model_label(name: str) -> str:
    """What a model is called in figures and tables."""
    return {"quadratic": "Quadratic model", "mixed": "Mixed kurtosis", "relu": "ReLU autoencoder"}[name]


def _rounds_figure(model: TreatedModel) -> go.Figure:
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    flattened = [each for each in model.treatments if each.name.startswith("flatten ")]
    shown = [*flattened, model.one("mask benefit")]
    colours = [FIRST, SECOND, "#24989a", "#b35ab0"][: len(flattened)]
    for treatment, colour in zip(shown, [*colours, PURE], strict=False):
        history = treatment.history
        assert history is not None
        for row, values in ((1, history.n_impure), (2, history.loss)):
            figure.add_scatter(
                x=list(range(len(values))),
                y=array(values.double().mean(-1)),
                mode="lines+markers",
                line={"color": colour, "width": 2},
                name=treatment_label(treatment.name),
                legendgroup=treatment.name,
                showlegend=row == 1,
                row=row,
                col=1,
            )
    figure.add_hline(y=model.best, line={"color": IGNORED, "dash": "dot"}, row=2, col=1)
    rounds = {each.name: float(each.n_rounds.double().mean()) for each in shown}
    styled(
        figure,
        title=f"{treated_model_label(model.name)}: round by round",
        caption=f"Means over restarts. Flattening {flattened[0].name.split()[1]} a round takes "
        f"{rounds[flattened[0].name]:.3g} rounds, masking {rounds['mask benefit']:.3g}. Dotted: the best loss of a "
        "monosemantic network.",
        x="rounds",
        y="impure features",
        height=520,
    )
    figure.update_layout(margin={"t": 90}, legend={"y": 1.02})
    figure.update_xaxes(title_text="", row=1, col=1)
    figure.update_yaxes(rangemode="tozero", nticks=5, row=1, col=1)
    figure.update_yaxes(title_text="expected loss", nticks=5, row=2, col=1)
    return figure


def _choice_figure(model: TreatedModel) -> go.Figure:
    figure, labels = go.Figure(), [treatment_label(treatment.name) for treatment in model.treatments]
    for impure, colour, symbol, name in (
        (False, PURE, "circle", "monosemantic"),
        (True, FIRST, "circle-open", "still polysemantic"),
    ):
        x: list[float] = []
        y: list[int] = []
        for row, treatment in enumerate(model.treatments):
            chosen = (treatment.n_impure > 0) == impure
            values = array(model.relative_error(treatment.name)[chosen]).tolist()
            x += values
            y += [row] * len(values)
        if not x:
            continue
        figure.add_scatter(
            x=x,
            y=y,
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 9, "opacity": 0.7, "line": {"width": 2}},
            name=name,
        )
    best = sum(model.share_best(treatment.name) == 1 for treatment in model.treatments)
    figure.add_vline(x=0, line={"color": IGNORED, "dash": "dot"})
    figure.update_yaxes(
        range=[len(labels) - 0.5, -0.5], tickvals=list(range(len(labels))), ticktext=labels, tickfont={"size": 12}
    )
    figure.update_xaxes(nticks=5)
    figure.update_layout(showlegend=True)
    return styled(
        figure,
        title=f"{treated_model_label(model.name)}: who is kept",
        caption=f"One dot a restart. 0 is the best monosemantic set, −1 the best polysemantic network. {best} of "
        f"{len(labels)} treatments end at the best set from every start.",
        x="choice error / price",
        y="treatment",
        height=140 + 28 * len(labels),
    )
