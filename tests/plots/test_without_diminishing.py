"""Figures of the three ways to polysemanticity without diminishing returns."""

import plotly.graph_objects as go
import pytest
from torch.testing import assert_close

from drawn import numbers
from polysem.plots import without_diminishing_figures
from polysem.studies import Basins, Pair, WithoutDiminishing, WithoutDiminishingConfig, without_diminishing


@pytest.fixture(scope="module")
def result() -> WithoutDiminishing:
    return without_diminishing(
        WithoutDiminishingConfig(
            tie_starts=5, pair_starts=2, pair_steps=50, batch_size=32, n_kurtosis=3, n_ratio=2, starts=6
        )
    )


@pytest.fixture(scope="module")
def figures(result: WithoutDiminishing) -> dict[str, go.Figure]:
    return dict(without_diminishing_figures(result))


def test_ties(result: WithoutDiminishing, figures: dict[str, go.Figure]) -> None:
    traces = figures["ties"].data
    for tie, drawn, law in zip(result.ties, traces[::2], traces[1::2], strict=True):
        assert drawn.name == f"N = {tie.n_features}, D = {tie.d_hidden}"
        assert_close(numbers(drawn.x), tie.capacity, rtol=0, atol=0)
        assert list(drawn.y) == [0.2, 0.4, 0.6, 0.8, 1]
        assert_close(numbers(law.y), tie.expected, rtol=0, atol=0)
    assert [law.showlegend for law in traces[1::2]] == [True, False, False]


@pytest.mark.parametrize("kind", ["linear", "quadratic"])
def test_pairs(kind: str, result: WithoutDiminishing, figures: dict[str, go.Figure]) -> None:
    pair: Pair = getattr(result, kind)
    *curves, trained = figures[kind].data
    for index, curve in enumerate(curves):
        assert_close(numbers(curve.x), pair.split, rtol=0, atol=0)
        assert_close(numbers(curve.y), pair.least[index], rtol=0, atol=0)
    names = {"linear": ["ρ = 0.3", "ρ = 0.6", "ρ = −1"], "quadratic": ["ρ = −0.2", "ρ = −0.4", "ρ = −0.67"]}
    assert [curve.name for curve in curves] == ["independent", *names[kind]]
    assert_close(numbers(trained.x), pair.capacity[:, 0], rtol=0, atol=0)
    assert_close(numbers(trained.y), pair.loss, rtol=0, atol=0)
    assert f"{float(pair.saved[-1]):.0%} lower" in figures[kind].layout.meta["caption"]


@pytest.mark.parametrize("kind", ["rising", "relu"])
def test_endings(kind: str, result: WithoutDiminishing, figures: dict[str, go.Figure]) -> None:
    basins: Basins = getattr(result, kind)
    for trace, impure in zip(figures[kind].data, (False, True), strict=True):
        assert trace.name == ("polysemantic" if impure else "monosemantic")
        own = [ending for ending in basins.endings if ending.impure == impure]
        assert list(trace.x) == [ending.setting for ending in own]
        assert list(trace.y) == [ending.loss for ending in own]
        bigger = sorted(own, key=lambda ending: ending.share)
        sizes = dict(zip(trace.hovertext, trace.marker.size, strict=True))
        assert [sizes[f"{ending.share:.1%} of the starts"] for ending in bigger] == sorted(trace.marker.size)
    caption = figures[kind].layout.meta["caption"]
    assert f"{basins.share_above:.0%} of the starts" in caption or f"{basins.share_stuck:.1%} of the starts" in caption
