import dataclasses
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy import stats

from polysem.measure import FeatureClass
from polysem.studies import (
    Comparison,
    ComparisonConfig,
    architecture_cells,
    comparison,
    comparison_grid,
    over_starts,
    read_comparison,
)
from polysem.sweeps import Stack

SMALL = ComparisonConfig(
    architectures=("quadratic", "tied identity", "tied relu"),
    n_features=5,
    d_hidden=(2,),
    n_probability=3,
    restarts=4,
    adam_steps=150,
    batch_size=64,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("comparison") / "store.zarr"
    comparison(SMALL, path)
    return path


@pytest.fixture(scope="module")
def result(store: Path) -> Comparison:
    return read_comparison(xr.open_zarr(store))


def test_a_linear_model_represents_whole_features_at_any_sparsity(result: Comparison) -> None:
    linear = result.architecture.index("tied identity")
    assert_allclose(result.represented[linear], 2 / 5)
    assert_allclose(result.polysemanticity[linear], 0, atol=1e-9)
    assert_allclose(result.relative_loss[linear], result.monosemantic[linear], rtol=1e-9)
    assert not result.rises[linear].any()


def test_the_quadratic_model_superposes_sparse_features(result: Comparison) -> None:
    quadratic = result.architecture.index("quadratic")
    assert_allclose(result.represented[quadratic, 0, 0], 2 / 5)
    assert_allclose(result.represented[quadratic, 0, -1], 1)
    assert (result.polysemanticity[quadratic, 0, -1] > 0.5).all()
    assert result.rises[quadratic].all()


def test_superposition_beats_the_monosemantic_allocation_of_sparse_features(result: Comparison) -> None:
    for name in ("quadratic", "tied relu"):
        row = result.architecture.index(name)
        assert (result.relative_loss[row, 0, -1] < result.monosemantic[row, 0, -1]).all()


def test_monosemantic_share_is_that_of_the_features_left_out(result: Comparison) -> None:
    importance = 0.9 ** np.arange(5)
    assert_allclose(result.monosemantic, importance[2:].sum() / importance.sum(), rtol=1e-12)


def test_shares_add_up_and_follow_the_stored_kinds(result: Comparison, store: Path) -> None:
    assert_allclose(sum(result.share.values()), 1)
    stored = xr.open_zarr(store)
    cell = stored.isel(architecture=2, d_hidden=0, feature_probability=1, seed=3)
    kinds, C = cell.kind.values, cell.capacity.values
    for kind in FeatureClass:
        share = sum(one == kind for one in kinds) / 5
        assert_allclose(result.share[kind][2, 0, 1, 3], share)
    spent = [4 * c * (1 - c) for c, kind in zip(C, kinds, strict=True) if kind != FeatureClass.IGNORED]
    assert_allclose(result.polysemanticity[2, 0, 1, 3], sum(spent) / len(spent))


def test_cells_without_a_result_are_left_out(store: Path) -> None:
    data = xr.open_zarr(store).load()
    data["loss"][0, 0, 0, 1] = np.nan
    data["kind"][0, 0, 0, 1] = -1
    data["capacity"][0, 0, 0, 1] = np.nan
    result = read_comparison(data)
    assert result.n_failed == 1
    assert np.isnan(result.represented[0, 0, 0]).tolist() == [False, True, False, False]
    assert not np.isnan(over_starts(result.represented).mean).any()
    assert result.best[0, 0, 0] != 1


def test_bands_are_the_intervals_of_scipy() -> None:
    values = np.random.default_rng(0).normal(size=(3, 6))
    band = over_starts(values)
    for row, mean, width in zip(values, band.mean, band.half_width, strict=True):
        low, high = stats.t.interval(0.95, 5, loc=row.mean(), scale=stats.sem(row))
        assert_allclose([mean - width, mean + width], [low, high], rtol=1e-12)


def test_all_architectures_are_compared_by_default() -> None:
    grid = comparison_grid()
    assert (grid.dims, grid.shape[1:]) == (("architecture", "d_hidden", "feature_probability", "seed"), (2, 8, 8))
    assert grid.axes["feature_probability"][0] == 1.0
    assert_allclose(grid.axes["feature_probability"][-1], 1e-3)


def test_the_same_stack_gives_the_same_bits() -> None:
    grid = comparison_grid(dataclasses.replace(SMALL, adam_steps=5))
    settings = {"architecture": "tied relu", "d_hidden": 2}
    stack = Stack({"feature_probability": np.array([1.0, 0.1]), **settings}, grid.fixed, np.array([3, 4]))
    first, second = (architecture_cells(stack) for _ in range(2))
    for name, values in first.items():
        assert (values == second[name]).all(), name


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architectures": ("transformer",)}, "architecture must be .*, got 'transformer'"),
        ({"d_hidden": (21,)}, "d_hidden must be from 1 to n_features = 20, got 21"),
        ({"d_hidden": ()}, r"d_hidden must be at least one dimension, got \(\)"),
        ({"n_probability": 1}, "n_probability must be a whole number of at least 2, got 1"),
        ({"lowest_probability": 1.0}, r"lowest_probability must be in \(0, 1\), got 1.0"),
    ],
)
def test_nonsense_is_refused(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        comparison(ComparisonConfig(**options), tmp_path / "store.zarr")
