"""Figures of large networks: every number shown is one of the result, and captions say what was found."""

import dataclasses

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from drawn import numbers
from polysem.measure import classify
from polysem.plots import layer_figures
from polysem.returns import Prices, equal_returns
from polysem.studies import Deep, Layers, State, by_rank, rank_edges

N = 300


def state(name: str, signal: str, benefit: Tensor, capacity: Tensor) -> State:
    kind = classify(capacity)
    price = torch.where(kind == 1, -benefit, 0.0)
    test = equal_returns(Prices(price, 0.1 * price.abs(), capacity, kind))
    return State(name, signal, test, capacity, benefit, benefit / 10, None)


def network(task: str, signals: tuple[str, ...], benefit: Tensor, capacity: Tensor) -> Deep:
    importance = 1 / torch.arange(1, N + 1).double()
    states = [
        state(name, signal, benefit, capacity * share)
        for signal in signals
        for share, name in enumerate(("embedding", "block 1"), 1)
    ]
    states.append(state("outputs", signals[-1], benefit, capacity))
    start = state("outputs", signals[-1], 100 * importance, torch.full((N,), 0.3).double())
    return Deep(task, 0.1, 0.4, tuple(states), start, torch.full((3,), 0.9).double())


@pytest.fixture(scope="module")
def result() -> Layers:
    capacity = torch.linspace(0.49, 0.06, N).double()
    rest = torch.linspace(1, 0, N).double()
    one = network("reconstruct", ("x",), torch.full((N,), 2.0).double(), capacity)
    two = network("compute", ("x", "|x|"), torch.linspace(-1, 1, N).double(), rest / 2)
    return Layers(1 / torch.arange(1, N + 1).double(), one, two)


@pytest.fixture(scope="module")
def figures(result: Layers) -> dict[str, go.Figure]:
    return dict(layer_figures(result))


def test_names(figures: dict[str, go.Figure]) -> None:
    assert list(figures) == [
        f"{task}-{name}" for task in ("reconstruct", "compute") for name in ("capacity", "benefit")
    ]


def test_maps_show_mean_capacities(result: Layers, figures: dict[str, go.Figure]) -> None:
    for task, deep in (("reconstruct", result.reconstruct), ("compute", result.compute)):
        maps = figures[f"{task}-capacity"].data
        signals = list(dict.fromkeys(one.signal for one in deep.states))
        assert len(maps) == len(signals)
        for trace, signal in zip(maps, signals, strict=True):
            assert list(trace.y) == [one.name for one in deep.of(signal)]
            assert_close(numbers(trace.x), torch.from_numpy(rank_edges(N)))
            expected = torch.stack([by_rank(one.capacity) for one in deep.of(signal)])
            assert_close(numbers(trace.z).reshape(expected.shape), expected)
            assert (trace.zmin, trace.zmax) == (0, 1)
    caption = figures["reconstruct-capacity"].layout.meta["caption"]
    total = float(result.reconstruct.states[0].capacity.sum())
    assert f"x: capacities add up to {total:.0f} in the embedding and to {total:.0f} in the outputs" in caption
    assert "with 0 features ignored, 300 impure and 0 pure" in caption
    assert "|x|: capacities add up to" in figures["compute-capacity"].layout.meta["caption"]


def test_lines_show_mean_benefits(result: Layers, figures: dict[str, go.Figure]) -> None:
    deep, lines = result.reconstruct, {trace.name: trace for trace in figures["reconstruct-benefit"].data}
    assert list(lines) == ["embedding", "block 1", "outputs", "outputs, untrained", "equal", "as importance"]
    edges = rank_edges(N)
    rank = torch.from_numpy(edges[1:] + edges[:-1]) / 2
    for name, one in (("outputs", deep.states[-1]), ("outputs, untrained", deep.start)):
        assert_close(numbers(lines[name].x), rank)
        assert_close(numbers(lines[name].y), one.mean_benefit)
    impure = deep.states[-1].test.feature_class == 1
    number = by_rank(impure.double()) * torch.from_numpy(np.diff(edges))
    error = 1.96 * (by_rank(deep.states[-1].test.stderr.square(), impure) / number).sqrt()
    assert_close(numbers(lines["outputs"].error_y.array), error)
    assert lines["outputs"].error_y.visible
    assert_close(numbers(lines["equal"].y), torch.tensor([2.0, 2.0]).double())
    expected = 100 * by_rank(result.importance)
    assert_close(numbers(lines["as importance"].y), expected)


def test_captions_say_what_was_found(result: Layers, figures: dict[str, go.Figure]) -> None:
    caption = figures["reconstruct-benefit"].layout.meta["caption"]
    says = result.reconstruct.states[-1].test.says
    assert f"Outputs, trained: means within a factor of 1; {says}." in caption
    ratio = result.reconstruct.start.price_ratio
    assert f"Untrained: means within a factor of {ratio:,.0f}, and prices scatter by" in caption
    assert "trained: means of both signs" in figures["compute-benefit"].layout.meta["caption"]


def test_what_is_not_positive_is_left_out(result: Layers, figures: dict[str, go.Figure]) -> None:
    line = {trace.name: trace for trace in figures["compute-benefit"].data}["outputs"]
    mean = result.compute.states[-1].mean_benefit
    assert_close(numbers(line.y), mean[mean > 0])
    assert len(line.y) < len(mean)
    zero = torch.zeros(N).double()
    states = tuple(state(one.name, one.signal, zero, zero) for one in result.reconstruct.states)
    none = dataclasses.replace(result.reconstruct, states=states)
    figure = dict(layer_figures(dataclasses.replace(result, reconstruct=none)))["reconstruct-benefit"]
    assert "equal" not in [trace.name for trace in figure.data]
