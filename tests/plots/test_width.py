"""Loss, price and kinds of features are those of the plan."""

from pathlib import Path

import plotly.graph_objects as go
import pytest
from torch.testing import assert_close

from drawn import numbers
from polysem.plots import width_figures
from polysem.plots._style import IGNORED, PURE
from polysem.studies import Width, WidthConfig, width


@pytest.fixture(scope="module")
def result() -> Width:
    return width(WidthConfig(n_features=6, points_between=4))


@pytest.fixture(scope="module")
def figures(result: Width) -> dict[str, go.Figure]:
    return dict(width_figures(result))


def test_loss(result: Width, figures: dict[str, go.Figure]) -> None:
    curve, marks = figures["loss"].data
    for trace, plan in ((curve, result.fine), (marks, result.whole)):
        assert_close(numbers(trace.x), plan.total, rtol=0, atol=0)
        assert_close(numbers(trace.y), plan.loss, rtol=0, atol=0)


def test_price_without_the_zeros_that_a_logarithm_cannot_show(result: Width, figures: dict[str, go.Figure]) -> None:
    curve, marks = figures["price"].data
    assert figures["price"].layout.yaxis.type == "log"
    assert_close(numbers(curve.x), result.fine.total[:-1], rtol=0, atol=0)
    assert_close(numbers(curve.y), result.fine.price[:-1], rtol=0, atol=0)
    assert_close(numbers(marks.x), result.whole.total[:-1], rtol=0, atol=0)
    assert_close(numbers(marks.y), result.whole.next_gain[:-1], rtol=0, atol=0)
    assert result.fine.price[-1] == result.whole.next_gain[-1] == 0


def test_kinds(result: Width, figures: dict[str, go.Figure]) -> None:
    bars = {trace.name: trace for trace in figures["kinds"].data}
    assert list(bars) == ["pure", "impure", "ignored"]
    for name, trace in bars.items():
        assert_close(numbers(trace.x), result.whole.total, rtol=0, atol=0)
        assert numbers(trace.y).tolist() == getattr(result.whole, f"n_{name}").tolist()
    assert bars["pure"].marker.color == PURE
    assert bars["ignored"].marker.color == IGNORED
    assert figures["kinds"].layout.barmode == "stack"


@pytest.mark.parametrize(
    "config",
    [
        WidthConfig(n_features=1),
        WidthConfig(n_features=3, widths=(2,)),
        WidthConfig(n_features=3, widths=(0,)),
        WidthConfig(n_features=3, widths=(3, 9)),
        WidthConfig(n_features=3, kurtosis=1),
        WidthConfig(n_features=4, kurtosis=2),
    ],
)
def test_degenerate_plans(config: WidthConfig) -> None:
    """One width, no width, more dimensions than features, features without worth: figures, and no warning."""
    for _, figure in width_figures(width(config)):
        assert "NaN" not in figure.to_json()
        assert len(figure.data) >= 2


def test_worthless_features(tmp_path: Path) -> None:
    (tmp_path / "features.csv").write_text("importance\n0\n0\n")
    loss, price, _ = (figure for _, figure in width_figures(width(WidthConfig(csv=tmp_path / "features.csv"))))
    assert numbers(loss.data[1].y).tolist() == [0.0, 0.0]
    assert len(price.data[0].y) == 0
