"""The experiments on equal returns: power of the test, rigid pairs, and where polytopes lock capacities."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch.testing import assert_close

from polysem.measure import FeatureClass
from polysem.returns import Prices, Verdict, equal_returns
from polysem.studies import (
    Locking,
    LockingConfig,
    PairConfig,
    PowerConfig,
    locking,
    locking_grid,
    pair,
    power,
    price_cells,
    read_locking,
)
from polysem.sweeps import Stack

SMALL = LockingConfig(
    ("quadratic", "tied relu"),
    n_features=5,
    d_hidden=(2,),
    decays=(1.0, 0.9),
    probabilities=(0.05,),
    restarts=4,
    adam_steps=500,
    price_samples=40_000,
)


def test_power_and_false_positives() -> None:
    found = power(PowerConfig(n_models=30, seed=3))
    assert (found.optimum.verdict == Verdict.EQUAL).all()
    assert len(found.others) == 4
    for test in found.others.values():
        assert (test.verdict == Verdict.UNEQUAL).all()
    moved = found.others["rows dealt out to other features"]
    assert moved.prices.value.max() < 1e-8


def test_a_sparse_pair_stays_half_and_half_and_its_prices_go_with_importance() -> None:
    found = pair(PairConfig((0.3, 0.003), n_ratio=4, lowest_ratio=0.1))
    assert_close(found.capacity[1], torch.full((4,), 0.5).double(), rtol=0, atol=2e-3)
    assert_close(found.price_ratio[1], found.ratio, rtol=0.01, atol=0)
    assert found.capacity[0, -1] < 1e-6
    assert found.price_ratio[0, -1].isnan()
    assert_close(found.price_ratio[0, 0], torch.tensor(1.0).double(), rtol=1e-6, atol=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("locking") / "store.zarr"
    locking(SMALL, path)
    return path


@pytest.fixture(scope="module")
def result(store: Path) -> Locking:
    return read_locking(xr.open_zarr(store))


def test_a_quadratic_model_moves_capacity_until_prices_are_equal(result: Locking) -> None:
    assert (result.test.verdict[0] == Verdict.EQUAL).all()
    assert_close(result.dispersion[0], torch.zeros(1, 2, 1).double(), rtol=0, atol=1e-6)
    assert_close(result.elasticity[0, 0, 1], torch.zeros(1).double(), rtol=0, atol=1e-6)
    C = result.test.capacity[0, 0, 1, 0]
    assert C[0] > 1.2 * C[-1]


def test_a_pentagon_keeps_its_capacities_and_its_prices_go_with_importance(result: Locking) -> None:
    assert_close(result.test.capacity[1, 0], torch.full((2, 1, 5), 0.4).double(), rtol=0, atol=0.02)
    assert (result.locked[1] == 1).all()
    assert result.test.verdict[1, 0, 1, 0] == Verdict.UNEQUAL
    assert 0.4 < result.elasticity[1, 0, 1, 0] < 1.6
    assert result.elasticity[1, 0, 0, 0].isnan()
    assert result.dispersion[1, 0, 1, 0] > 2 * result.dispersion[1, 0, 0, 0]
    assert (result.test.stderr[1] > 0).all()
    assert (result.test.stderr[0] == 0).all()


def test_the_best_start_counts(store: Path, result: Locking) -> None:
    data = xr.open_zarr(store)
    cell = data.sel(architecture="tied relu", d_hidden=2, decay=0.9, feature_probability=0.05)
    best = int(cell["loss"].values.argmin())
    assert_close(result.test.capacity[1, 0, 1, 0], torch.from_numpy(cell["capacity"].values[best]))
    assert_close(result.test.benefit[1, 0, 1, 0], -torch.from_numpy(cell["price"].values[best]))
    one = result.one("tied relu", 2, 0.9, 0.05)
    assert_close(one.benefit, result.test.benefit[1, 0, 1, 0])
    assert one.says.startswith("unequal: prices of 5 impure features")


def test_elasticity_by_hand() -> None:
    importance = 0.8 ** torch.arange(4, dtype=torch.float64)
    price = -torch.stack([importance.pow(0.7), torch.ones(4).double(), torch.tensor([1.0, 1.0, 1.0, -1.0]).double()])
    price = price[None, None, None]
    kind = torch.full(price.shape, int(FeatureClass.IMPURE))
    tested = equal_returns(Prices(price, torch.zeros_like(price), torch.full_like(price, 0.5), kind))
    found = Locking(("a",), (1,), (0.8,), (1.0, 0.5, 0.1), importance[None], tested, 0)
    assert_close(found.elasticity[0, 0, 0, :2], torch.tensor([0.7, 0.0]).double())
    assert found.elasticity[0, 0, 0, 2].isnan()
    assert (found.locked == 1).all()


def test_cells_without_a_result_have_no_features(store: Path) -> None:
    data = xr.open_zarr(store).load()
    for name in ("loss", "capacity", "price", "price_stderr"):
        data[name] = xr.full_like(data[name], np.nan)
    data["kind"] = xr.full_like(data["kind"], -1)
    found = read_locking(data)
    assert found.n_failed == 16
    assert found.dispersion.isnan().all()
    assert found.locked.isnan().all()


def test_the_same_stack_gives_the_same_bits() -> None:
    grid = locking_grid(dataclasses.replace(SMALL, adam_steps=20, price_samples=50))
    cells = {"feature_probability": np.array([0.1, 0.3]), "decay": np.array([1.0, 0.5])}
    stack = Stack({**cells, "architecture": "tied relu", "d_hidden": 2}, grid.fixed, np.array([1, 2]))
    first, second = price_cells(stack), price_cells(stack)
    for name, value in first.items():
        assert torch.equal(value, second[name])


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LockingConfig(d_hidden=(11,)), "d_hidden must be at most n_features, got 11"),
        (lambda: LockingConfig(decays=(0.0,)), "decays must be each in"),
        (lambda: LockingConfig(probabilities=()), "probabilities must be at least one"),
        (lambda: PairConfig(lowest_ratio=1.0), "lowest_ratio must be in"),
        (lambda: PairConfig(probabilities=(2.0,)), "probabilities must be at least one, each in"),
        (lambda: PowerConfig(kurtosis=3.0), "kurtosis must be above 3"),
        (lambda: PowerConfig(d_hidden=7), "d_hidden must be below 7"),
        (lambda: locking(LockingConfig(("nothing",)), Path("nowhere")), "architecture must be"),
    ],
)
def test_bad_input(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
