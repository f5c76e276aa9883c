"""Figures of the equal-returns test: every number shown is one of the result."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from drawn import numbers
from polysem.measure import FeatureClass
from polysem.plots import locking_figures, pair_figure, price_figure
from polysem.returns import EqualReturns, Prices, equal_returns
from polysem.studies import Locking, PairConfig, PowerConfig, pair, power


def prices_of(*batch: int) -> Prices:
    g = torch.Generator().manual_seed(0)
    shape = (*batch, 4)
    price, stderr = -torch.rand(shape, generator=g).double() - 0.1, 0.1 * torch.rand(shape, generator=g).double()
    return Prices(price, stderr, 0.1 + 0.8 * torch.rand(shape, generator=g).double(), torch.ones(shape).long())


@pytest.fixture(scope="module")
def optimum() -> EqualReturns:
    return power(PowerConfig(n_models=1)).optimum


def test_a_marker_for_every_feature_and_the_common_benefit(optimum: EqualReturns) -> None:
    figure = price_figure(optimum, title="at rest")
    impure, mean = figure.data
    there = optimum.feature_class[0] == FeatureClass.IMPURE
    assert_close(numbers(impure.x), optimum.capacity[0, there])
    assert_close(numbers(impure.y), optimum.benefit[0, there])
    assert_close(numbers(mean.y), optimum.prices.mean.expand(2))
    assert not impure.error_y.visible
    assert figure.layout.meta["title"] == "at rest"
    assert "The test: equal: prices of 7 impure" in figure.layout.meta["caption"]


def test_errors_are_shown_at_95_percent() -> None:
    found = equal_returns(prices_of())
    bars = price_figure(found).data[0]
    assert bars.error_y.visible
    assert_close(numbers(bars.error_y.array), 1.96 * found.stderr)


def test_one_network_only() -> None:
    with pytest.raises(ValueError, match="result must be of one network, got one of 3"):
        price_figure(equal_returns(prices_of(3)))


def test_pair_lines() -> None:
    result = pair(PairConfig((0.1, 0.01), n_ratio=3, restarts=3))
    figure = pair_figure(result)
    assert_close(numbers(figure.data[0].y), result.capacity[0])
    assert_close(numbers(figure.data[3].y), result.price_ratio[1], equal_nan=True)
    low = result.capacity[1][result.price_ratio[1].isfinite()].min()
    assert f"at least {float(low):.3f}" in figure.layout.meta["caption"]


def test_maps_have_a_panel_for_each_architecture_and_dimension(tmp_path: Path) -> None:
    test = equal_returns(prices_of(2, 3, 2, 2))
    importance = torch.stack([torch.ones(4).double(), 0.5 ** torch.arange(4).double()])
    result = Locking(("a", "b"), (1, 2, 3), (1.0, 0.5), (0.3, 0.1), importance, test, 0)
    figures = dict(locking_figures(result))
    assert list(figures) == ["dispersion", "elasticity", "locked"]
    for name, figure in figures.items():
        panels = [numbers(trace.z) for trace in figure.data]
        assert len(panels) == 6
        values = getattr(result, name)
        for index, panel in enumerate(panels):
            assert_close(panel, values[index // 3, index % 3], equal_nan=True)
        titles = [note.text for note in figure.layout.annotations]
        assert titles == [f"{name}, N/D = {ratio}" for name in "ab" for ratio in ("4", "2", "1.3")]
