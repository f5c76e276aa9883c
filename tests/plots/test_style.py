"""Colours: one meaning each, in order, and told apart by lightness as well as by hue."""

import colorsys
import math
from itertools import pairwise

import plotly.graph_objects as go
import pytest
import torch

from polysem.measure import IGNORED_BELOW, PURE_ABOVE
from polysem.plots._style import (
    CAPACITY_SCALE,
    IGNORED,
    IMPURE_SCALE,
    PURE,
    TEMPLATE,
    array,
    drawing,
    figure_of,
    log_axis,
    styled,
)


def rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def test_positions_of_the_capacity_scale_ascend_from_0_to_1() -> None:
    positions = [position for position, _ in CAPACITY_SCALE]
    assert positions[0] == 0
    assert positions[-1] == 1
    assert all(low <= high for low, high in pairwise(positions))
    go.Heatmap(colorscale=CAPACITY_SCALE)  # Plotly's own validation


def test_the_capacity_scale_keeps_the_thresholds() -> None:
    at = {position: [colour for p, colour in CAPACITY_SCALE if p == position] for position, _ in CAPACITY_SCALE}
    assert at[0.0] == [IGNORED]
    assert at[IGNORED_BELOW] == [IGNORED, IMPURE_SCALE[0]]
    assert at[PURE_ABOVE] == [IMPURE_SCALE[-1], PURE]
    assert at[1.0] == [PURE]


def test_impure_colours_grow_lighter() -> None:
    lightness = [colorsys.rgb_to_yiq(*rgb(colour))[0] for colour in IMPURE_SCALE]
    assert all(high > low + 0.04 for low, high in pairwise(lightness))


def test_arrays_are_what_the_tensor_holds() -> None:
    tensor = torch.tensor([1.0, 2.5], requires_grad=True)
    assert array(tensor).tolist() == [1.0, 2.5]


def test_styled_figures_carry_their_labels() -> None:
    figure = styled(go.Figure(), caption="See.", x="width", y="loss", title="T", height=200)
    assert figure.layout.xaxis.title.text == "width"
    assert figure.layout.yaxis.title.text == "loss"
    assert figure.layout.height == 200
    assert figure.layout.meta == {"title": "T", "caption": "See."}
    assert figure.layout.template == TEMPLATE


def test_drawings_look_like_styled_figures() -> None:
    drawn = drawing(
        [{"type": "scatter", "y": [1.0, 2.0]}], caption="See.", x="width", y="loss", title="T", yaxis={"type": "log"}
    )
    built = go.Figure().add_scatter(y=[1.0, 2.0]).update_yaxes(type="log")
    assert figure_of(drawn) == styled(built, caption="See.", x="width", y="loss", title="T")
    with pytest.raises(ValueError, match="linecolour"):
        figure_of({**drawn, "data": [{"type": "scatter", "linecolour": "red"}]})


@pytest.mark.parametrize("decades", [0, 1e-6, 1e-3, 0.3, 0.69, 0.71, 1.49, 1.51, 2, 7, 8, 9, 40, 300, 610])
def test_logarithmic_axes_have_a_readable_number_of_labels(decades: float) -> None:
    """On few decades four, evenly spaced but for rounding to two digits; on many, powers of ten."""
    low = 10.0 ** (-decades / 2)
    axis = go.Figure(layout={"xaxis": log_axis(low, 1 / low)}).layout.xaxis
    assert axis.type == "log"
    if decades >= 1.5:
        assert axis.dtick == int(axis.dtick)
        assert 0.7 < decades / axis.dtick <= 4
    elif decades:
        assert len(axis.tickvals) == 4
        for k, value in enumerate(axis.tickvals):
            assert math.log10(value / low) == pytest.approx(decades * k / 3, abs=min(0.025, decades / 4))
    else:
        assert list(axis.tickvals) == [1.0]
