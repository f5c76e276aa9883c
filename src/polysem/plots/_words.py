"""Words of real text in the states of a network: what more capacity is worth to each, and what nobody asked for."""

import numpy as np
import plotly.graph_objects as go

from polysem.measure import FeatureClass
from polysem.networks import FeatureDirections
from polysem.plots._style import FIRST, IGNORED, PURE, SECOND, THEORY, array, log_axis, styled
from polysem.studies import Words, WordState


def words_figures(result: Words) -> list[tuple[str, go.Figure]]:
    """Prices of the words before and after training, and capacities of the kinds of books."""
    return [("prices", _prices(result)), ("kinds", _kinds(result))]


def _prices(result: Words) -> go.Figure:
    figure = go.Figure()
    ignoring = array(result.ignoring)
    shown = ignoring[_priced(result.before[-1]) | _priced(result.after[-1])]
    low, high = (float(shown.min()), float(shown.max())) if len(shown) else (0.1, 1.0)
    for state, name, colour in (
        (result.before[-1], "before training", IGNORED),
        (result.after[-1], "after it", FIRST),
    ):
        there = np.flatnonzero(_priced(state))
        figure.add_scatter(
            x=ignoring[there],
            y=array(state.test.benefit)[there],
            mode="markers",
            marker={"color": colour, "size": 6},
            name=name,
            text=[result.words[k] for k in there],
            customdata=array(state.test.capacity)[there],
            hovertemplate="%{text}<br>C %{customdata:.3f}<br>−dL/dC %{y:.3g}<extra></extra>",
        )
    mean = float(result.after[-1].test.prices.mean)
    if mean > 0:
        figure.add_scatter(
            x=[low, high],
            y=[mean, mean],
            mode="lines",
            line={"color": THEORY, "dash": "dash", "width": 1.5},
            name="equal",
            hoverinfo="skip",
        )
    least, most = (float(result.null.quantile(q)) for q in (0.025, 0.975))
    before, after = result.before[-1].test, result.after[-1].test
    styled(
        figure,
        title="Words of real text: what more capacity is worth to each",
        caption="Benefit to a word's own loss against what ignoring it costs, impure words with a benefit above 0; if "
        "capacity is spent as the theory says, points lie on one level. Prices scatter by "
        f"{float(before.prices.value):.0%} before training and {float(after.prices.value):.0%} after it (95 % interval "
        f"{float(after.prices.low):.0%} to {float(after.prices.high):.0%}); if each had the loss of another word by "
        f"{least:.0%} to {most:.0%}.",
        x="loss of ignoring the word (nats a verse)",
        y="marginal benefit −dL/dC (nats a verse)",
        height=440,
    )
    figure.update_xaxes(**log_axis(low, high))
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    return figure


def _priced(state: WordState) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    """Where there is a price, with a benefit that a logarithmic axis can show."""
    test = state.test
    found: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = array(
        (test.feature_class == FeatureClass.IMPURE) & (test.benefit > 0)
    )
    return found


def _kinds(result: Words) -> go.Figure:
    figure = go.Figure()
    *_, last = result.kinds
    shown = ((f"{last}, before training", result.kinds_before[last]), *result.kinds.items())
    for (name, found), colour in zip(shown, (IGNORED, SECOND, PURE), strict=True):
        figure.add_bar(
            x=list(found.names),
            y=array(found.explained),
            marker={"color": colour},
            name=name,
            customdata=np.stack([array(found.capacity), array(found.p_value)], -1),
            hovertemplate="%{x}<br>explained %{y:.3f}, C %{customdata[0]:.2f} (p %{customdata[1]:.2f})<extra></extra>",
        )
    figure.update_layout(margin={"t": 70})
    styled(
        figure,
        title="What the network was not asked for: the kind of book",
        caption=f"Squared correlation of the best linear readout with the kind, on verses that it has not seen. In the "
        f"{last}: {_total(result.kinds[last])}; before training {_total(result.kinds_before[last])}.",
        x="kind of book",
        y="share explained",
    )
    return figure


def _total(found: FeatureDirections) -> str:
    low, high = found.interval
    return f"capacity {found.total:.1f} (with the labels of other verses {max(low, 0):.1f} to {high:.1f})"
