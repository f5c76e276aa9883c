"""Curves and markers are the study's numbers, at every step of the slider."""

import plotly.graph_objects as go
import pytest
import torch
from torch.testing import assert_close

from drawn import numbers
from polysem.plots import point_figures, stack_figure
from polysem.studies import Points, PointsConfig, Stack, StackConfig, points, stack
from polysem.theory import allocate, marginal_benefit


@pytest.fixture(scope="module")
def result() -> Points:
    return points(PointsConfig(n_grid=7, restarts=8))


def test_curves(result: Points) -> None:
    figures = point_figures(result)
    assert [name for name, _ in figures] == ["A", "B", "C", "D", "E", "F"]
    for index, (name, figure) in enumerate(figures):
        assert figure.layout.meta["title"].startswith(f"{name}: F = ")
        for feature in (0, 1):
            trace = figure.data[feature]
            assert trace.name == f"feature {feature + 1}"
            assert_close(numbers(trace.x), result.first_capacity, rtol=0, atol=0)
            assert_close(numbers(trace.y), result.benefit[index, feature], rtol=0, atol=0)


@pytest.mark.parametrize("which", [2, 3])
def test_markers_lie_on_the_curve_of_the_feature_that_owns_more(which: int, result: Points) -> None:
    """Whatever the grid: E's optimum, 0.79, lies between two of these grid points."""
    capacities = (result.optimum.capacity, result.trained_capacity)[which - 2]
    for index, (_, figure) in enumerate(point_figures(result)):
        point, trace = result.points[index], figure.data[which]
        first, second = capacities[index].tolist()
        assert trace.name == ("optimum", "trained")[which - 2]
        assert numbers(trace.x).tolist() == [first]
        v, C = (1.0, first) if first >= second else (point.ratio, second)
        assert_close(numbers(trace.y), marginal_benefit(v, point.kurtosis, C)[None], rtol=1e-12, atol=0)


def test_both_curves_meet_at_a_shared_optimum(result: Points) -> None:
    figure = dict(point_figures(result))["E"]
    assert numbers(figure.data[2].x).item() == pytest.approx(3.8 / 4.8)
    assert numbers(figure.data[2].y).item() == pytest.approx(float(marginal_benefit(0.6, 6.0, 1 - 3.8 / 4.8)))


CONFIG = StackConfig(n_features=5, decay=0.6, kurtosis=9.0, n_grid=11)


@pytest.fixture(scope="module")
def many() -> Stack:
    return stack(CONFIG)


@pytest.fixture(scope="module")
def tall(many: Stack) -> go.Figure:
    return stack_figure(many)


def test_stacked_curves(many: Stack, tall: go.Figure) -> None:
    assert len(tall.data) == 7
    assert tall.layout.yaxis.type == "log"
    for feature in range(5):
        assert_close(numbers(tall.data[feature].x), many.grid, rtol=0, atol=0)
        assert_close(numbers(tall.data[feature].y), many.benefit[feature], rtol=0, atol=0)
    colours = [trace.line.color for trace in tall.data[:5]]
    assert len(set(colours)) == 5


def test_circles_at_every_step_of_the_slider(tall: go.Figure) -> None:
    (slider,) = tall.layout.sliders
    v = [0.6**i for i in range(5)]
    assert [step.label for step in slider.steps] == [f"{k / 2:g}" for k in range(11)]
    for step in slider.steps:
        change, traces = step.args
        best = allocate(v, 9.0, float(step.label))
        assert step.method == "restyle"
        assert [tall.data[trace].name for trace in traces] == ["optimal capacity", "price μ"]
        assert_close(numbers(change["x"][0]), best.capacity, rtol=0, atol=1e-12)
        assert_close(numbers(change["y"][0]), marginal_benefit(v, 9.0, best.capacity), rtol=1e-9, atol=0)
        line = numbers(change["y"][1])
        if float(step.label) < 5:
            assert_close(line, best.price.expand(2), rtol=1e-9, atol=0)
        else:
            assert len(line) == 0


def test_the_figure_opens_at_the_step_that_is_active(tall: go.Figure) -> None:
    (slider,) = tall.layout.sliders
    change, traces = slider.steps[slider.active].args
    for position, trace in enumerate(traces):
        for key in ("x", "y"):
            assert_close(numbers(tall.data[trace][key]), numbers(change[key][position]), rtol=0, atol=0)
    assert 0 < slider.active < 10


def test_all_circles_of_impure_features_sit_at_the_price(tall: go.Figure) -> None:
    (slider,) = tall.layout.sliders
    impure = 0
    for step in slider.steps[1:-1]:
        (C, _), (height, line) = (tuple(map(numbers, step.args[0][key])) for key in ("x", "y"))
        inside = (C > 0) & (C < 1)
        impure += int(inside.sum())
        assert_close(height[inside], line[0].expand(int(inside.sum())), rtol=1e-9, atol=0)
    assert impure > 10


@pytest.mark.parametrize("n_features", [1, 2])
def test_few_features(n_features: int) -> None:
    figure = stack_figure(stack(StackConfig(n_features=n_features)))
    assert len(figure.data) == n_features + 2
    assert torch.isfinite(numbers(figure.data[-2].x)).all()
