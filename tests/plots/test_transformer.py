"""Figures of transformers: what they show is what was measured."""

from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest
from numpy.testing import assert_allclose

from made_transformers import PLACES, made_transformers
from polysem.plots import transformer_figures
from polysem.studies import Transformers, over_starts

SHOWN = ["ReLU", "GELU", "SoLU", "bilinear"]


@pytest.fixture(scope="module")
def result() -> Transformers:
    return made_transformers()


@pytest.fixture(scope="module")
def figures(result: Transformers) -> dict[str, go.Figure]:
    return dict(transformer_figures(result))


def test_loss_against_both_measures(result: Transformers, figures: dict[str, go.Figure]) -> None:
    figure = figures["loss"]
    for axis, values in (("x", result.in_stream), ("x2", result.features_per_neuron[..., 2])):
        traces = [trace for trace in figure.data if trace.xaxis == axis]
        *crosses, floor = traces
        assert list(floor.y) == [0.4, 0.4]
        for row, name in enumerate(SHOWN):
            single, mean = crosses[2 * row : 2 * row + 2]
            assert {single.name, mean.name} == {name}
            assert_allclose(single.x, values[row])
            assert_allclose(single.y, result.loss[row])
            across, up = over_starts(values[row]), over_starts(result.loss[row])
            assert_allclose([mean.x[0], mean.y[0]], [across.mean, up.mean])
            assert_allclose([mean.error_x.array[0], mean.error_y.array[0]], [across.half_width, up.half_width])
    means = over_starts(result.loss).mean
    lowest = np.argsort(means)[0]
    assert f"Mean losses: {SHOWN[lowest]} {means[lowest]:.2f}, " in figure.layout.meta["caption"]
    assert f"SoLU {means[2]:.2f}." in figure.layout.meta["caption"]


def test_places_and_stages(result: Transformers, figures: dict[str, go.Figure]) -> None:
    for row, name in enumerate(SHOWN):
        stream, neurons = [trace for trace in figures["places"].data if trace.name == name]
        means = over_starts(result.polysemanticity[row].T).mean
        assert_allclose([*stream.y, *neurons.y], means)
        assert [round(x) for x in (*stream.x, *neurons.x)] == list(range(7))
        (line,) = [trace for trace in figures["neurons"].data if trace.name == name]
        assert_allclose(line.y, over_starts(result.features_per_neuron[row].T).mean)
        assert_allclose(line.error_y.array, over_starts(result.features_per_neuron[row].T).half_width)
    names = list(figures["places"].layout.xaxis.ticktext)
    assert len(names) == len(PLACES)
    assert (names[0], names[3], names[-1]) == ("embedding", "after attention 2", "at neurons 2")


def test_capacities_are_means_in_their_columns(result: Transformers, figures: dict[str, go.Figure]) -> None:
    cells = [trace for trace in figures["capacity"].data if trace.type == "heatmap"]
    assert len(cells) == 16
    for index, trace in enumerate(cells):
        row, variable = divmod(index, 4)
        assert_allclose(trace.z, result.capacity[row, :, :5, variable].mean(0))
        assert list(trace.x) == [4 * variable, 4 * variable + 1, 4 * variable + 2]
        assert list(trace.y)[1] == "after attention 1"
    assert list(figures["capacity"].layout.xaxis4.tickvals) == [1, 5, 9, 13]


def test_returns_are_those_of_the_best_network(result: Transformers, figures: dict[str, go.Figure]) -> None:
    row, start = np.unravel_index(result.loss.argmin(), result.loss.shape)
    figure = figures["returns"]
    assert SHOWN[row] in figure.layout.meta["title"]
    (impure,) = [trace for trace in figure.data if trace.name == "impure"]
    chosen = result.kind[row, start, 4] == 1
    assert_allclose(impure.x, result.capacity[row, start, 4][chosen])
    assert_allclose(impure.y, -result.price[row, start, 4][chosen])


def test_single_networks_have_no_intervals() -> None:
    figures = dict(transformer_figures(made_transformers(n_starts=1)))
    bars = [trace.error_y.visible for name in ("loss", "places", "neurons") for trace in figures[name].data]
    assert not any(bars)


def test_networks_that_failed_are_left_out(result: Transformers) -> None:
    loss, capacity = result.loss.copy(), result.capacity.copy()
    best = np.unravel_index(loss.argmin(), loss.shape)
    loss[best], capacity[best] = np.nan, np.nan
    figures = dict(transformer_figures(replace(result, loss=loss, capacity=capacity, n_failed=1)))
    again = np.unravel_index(np.nanargmin(loss), loss.shape)
    (impure,) = [trace for trace in figures["returns"].data if trace.name == "impure"]
    assert_allclose(impure.x, result.capacity[again][4][result.kind[again][4] == 1])
    assert not any(
        np.isnan(np.asarray(trace.z, float)).any() for trace in figures["capacity"].data if trace.z is not None
    )
