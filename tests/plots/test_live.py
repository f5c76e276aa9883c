"""Figures of a model that is watched: what changes brings them to where a new drawing would be."""

import json

import plotly.graph_objects as go
import pytest
import torch
from torch.testing import assert_close

from drawn import numbers
from polysem.measure import FeatureClass
from polysem.plots import live_changes, live_figures
from polysem.studies import POLYTOPES, LiveConfig, Moment, live


def moments(config: LiveConfig) -> list[Moment]:
    seen: list[Moment] = []
    live(config, seen.append)
    return seen


def apply(figures: dict[str, go.Figure], moment: Moment, shown: int) -> None:
    for name, changes in live_changes(moment, shown=shown).items():
        for trace, change in zip(figures[name].data, changes, strict=False):
            longer = change.get("extend")
            trace.update({axis: [*trace[axis], *more] for axis, more in longer.items()} if longer else change)


def plain(figure: go.Figure) -> list[dict]:
    """The traces of a figure, with numbers as numbers however they are packed."""
    traces = json.loads(figure.to_json())["data"]
    for trace in traces:
        for axis in {"x", "y", "z"} & set(trace):
            if isinstance(trace[axis], dict):
                trace[axis] = numbers(trace[axis]).tolist()
    return traces


@pytest.mark.parametrize("d_hidden", [1, 2, 3, 5])
def test_changes_lead_to_the_figures_of_the_last_moment(d_hidden: int) -> None:
    config = LiveConfig(architecture="quadratic", n_features=6, d_hidden=d_hidden, n_seeds=3, steps=20, frames=4)
    seen = moments(config)
    figures = dict(live_figures(config, seen[0], shown=1))
    for moment in seen[1:]:
        apply(figures, moment, 1)
    last = dict(live_figures(config, seen[-1], shown=1))
    for name in ("embedding", "capacity", "gram"):
        assert plain(figures[name]) == plain(last[name])
    for start in range(3):
        trace = figures["loss"].data[start]
        assert list(trace.x) == [0, 5, 10, 15, 20]
        assert_close(numbers(trace.y), torch.stack([moment.loss[start] for moment in seen]))
        index = torch.stack([moment.polysemanticity[start] for moment in seen])
        assert_close(numbers(figures["index"].data[start].y), index, rtol=0, atol=1e-4)


def test_what_is_drawn_is_what_there_is() -> None:
    config = LiveConfig(architecture="quadratic", n_features=5, decay=0.2, steps=200)
    last = live(config).last
    figures = dict(live_figures(config, last, shown=1, references=[("known", 3.0)]))
    tips = figures["embedding"].data[3]
    places = torch.stack([numbers(tips.x), numbers(tips.y)], -1)
    assert_close(places, last.W[1], rtol=0, atol=1e-4)
    spokes = figures["embedding"].data[2]
    assert_close(numbers(spokes.x)[1::2], numbers(tips.x))
    assert not numbers(spokes.x)[::2].any()
    bars = figures["capacity"].data[0]
    assert_close(numbers(bars.y), last.capacity[1], rtol=0, atol=1e-4)
    kinds = last.feature_class[1].tolist()
    colours = dict(zip(kinds, bars.marker.color, strict=True))
    assert len(set(colours.values())) == len(set(kinds)) > 1
    assert [colours[kind] for kind in kinds] == list(bars.marker.color)
    assert FeatureClass.IGNORED in kinds
    assert list(figures["loss"].data[2].y) == [3.0, 3.0]
    assert {float(value) for value in POLYTOPES.values()} < set(figures["capacity"].layout.yaxis.tickvals)
