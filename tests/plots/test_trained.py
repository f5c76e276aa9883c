"""Trained beside predicted capacities, and cosines sorted by block."""

import plotly.graph_objects as go
import pytest
import torch
from torch.testing import assert_close

from drawn import numbers
from polysem.plots import capacity_figure, gram_figure
from polysem.studies import Trained, TrainedConfig, trained


@pytest.fixture(scope="module")
def result() -> Trained:
    return trained(TrainedConfig(n_features=12, d_hidden=3, decay=0.7, kurtosis=9.0, restarts=2))


def test_capacities(result: Trained) -> None:
    figure = capacity_figure(result)
    predicted, found = figure.data
    for trace, capacity in ((predicted, result.predicted.capacity), (found, result.capacity)):
        assert list(trace.x) == list(range(1, 13))
        assert_close(numbers(trace.y), capacity, rtol=0, atol=0)
    assert (predicted.name, found.name) == ("predicted", "trained")
    assert f"{result.deviation:.1e}" in figure.layout.meta["caption"]
    low, high = figure.layout.yaxis.range
    assert low < 0
    assert high > 1


@pytest.fixture(scope="module")
def gram(result: Trained) -> go.Figure:
    return gram_figure(result)


def test_cosines(result: Trained, gram: go.Figure) -> None:
    (cells,) = gram.data
    order = [int(label) - 1 for label in cells.x]
    assert cells.x == cells.y
    assert sorted(order) == (result.capacity > 1e-6).nonzero()[:, 0].tolist()
    for row, i in enumerate(order):
        for column, j in enumerate(order):
            cosine = float(result.W[i] @ result.W[j]) / float(result.W[i].norm() * result.W[j].norm())
            assert numbers(cells.z)[row, column] == pytest.approx(cosine, abs=1e-12)


def test_features_of_a_block_stand_together(result: Trained, gram: go.Figure) -> None:
    (cells,) = gram.data
    order = [int(label) - 1 for label in cells.x]
    block = {member: index for index, b in enumerate(result.blocks) for member in b.members}
    blocks = [block[member] for member in order]
    assert blocks == sorted(blocks)
    assert len(set(blocks)) > 1
    apart = torch.tensor(blocks)[:, None] != torch.tensor(blocks)
    assert float(numbers(cells.z)[apart].abs().max()) < 1e-6
    assert (cells.zmin, cells.zmax) == (-1, 1)
    sizes = ", ".join(f"{len(b.members)} in {b.dim}" for b in result.blocks)
    assert f"({'features in dimensions: ' + sizes})" in gram.layout.meta["caption"]
