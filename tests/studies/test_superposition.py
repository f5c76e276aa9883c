from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch.testing import assert_close

from polysem.plots import superposition_map
from polysem.studies import (
    Superposition,
    SuperpositionConfig,
    SuperpositionPhase,
    superposition,
    superposition_cells,
)
from polysem.studies._superposition import superposition_phases
from polysem.sweeps import Grid, run
from reference import random_rotation, regular_polygon

THREE = {"n_features": 3, "restarts": 16, "adam_steps": 30}
CELLS = {"n_probability": 4, "n_ratio": 4, "lowest_probability": 0.06, "largest_ratio": 4.0}


@pytest.fixture(scope="module")
def result() -> Superposition:
    return superposition(SuperpositionConfig(n_probability=8, n_ratio=8, restarts=12))


@pytest.fixture(scope="module")
def three() -> Superposition:
    """Ratios 0.25, 0.63, 1.6, 4; probabilities 1, 0.39, 0.15, 0.06."""
    return superposition(SuperpositionConfig(**THREE, **CELLS))


@pytest.fixture(scope="module")
def about_equal() -> Superposition:
    """Three features, ratios 0.81, 1 and 1.24; probabilities 1 and 0.3."""
    return superposition(
        SuperpositionConfig(**THREE, n_probability=2, n_ratio=3, lowest_probability=0.3, largest_ratio=1.24)
    )


@pytest.mark.parametrize("name", ["result", "three"])
def test_training_finds_the_best_configuration_built_by_hand(name: str, request: pytest.FixtureRequest) -> None:
    result: Superposition = request.getfixturevalue(name)
    assert_close(result.loss, result.built_loss, rtol=1e-8, atol=0)
    assert abs(result.excess) < 1e-8
    assert result.agreement == 1.0
    assert result.converged == 1.0
    assert not result.tied.any()


def test_dense_features_are_represented_or_dropped_by_importance(result: Superposition) -> None:
    dense = result.trained[:, 0]
    phases = SuperpositionPhase.NOT_REPRESENTED, SuperpositionPhase.OWN_DIMENSION
    assert dense.tolist() == [phases[int(ratio > 1)] for ratio in result.ratio.tolist()]


def test_sparse_features_are_superposed(result: Superposition) -> None:
    assert (result.trained[:, -1] == SuperpositionPhase.ANTIPODAL).all()
    assert (result.capacity[:, -1] > 0.2).all()


def test_superposition_grows_with_sparsity(result: Superposition) -> None:
    for row in result.trained:
        antipodal = (row == SuperpositionPhase.ANTIPODAL).int()
        assert (antipodal.diff() >= 0).all()


def test_exchanging_the_features_mirrors_the_diagram(result: Superposition) -> None:
    assert_close(result.loss, result.loss.flip(0), rtol=1e-8, atol=0)
    assert_close(result.capacity, result.capacity.flip(0).flip(-1), rtol=0, atol=1e-4)


def test_dropping_a_feature_costs_its_variance(result: Superposition) -> None:
    """`I_2 Var x = I_2 (p/3 − p²/4)`: written out here, for the cells of the dense column."""
    p = result.probability[0]
    variance = p / 3 - p**2 / 4
    ratio = result.ratio / result.ratio.clamp(min=1)  # importances are scaled so that the larger is 1
    smaller = torch.minimum(ratio, 1 / result.ratio.clamp(min=1))
    assert_close(result.loss[:, 0], smaller * variance, rtol=1e-9, atol=0)


def test_a_third_feature_of_more_importance_owns_a_dimension(three: Superposition) -> None:
    own = three.ratio > 1
    assert (three.trained[own] == SuperpositionPhase.OWN_DIMENSION).all()
    assert_close(three.capacity[own][..., 2], torch.ones(2, 4, dtype=torch.float64), rtol=0, atol=1e-6)


def test_a_third_feature_of_less_importance_is_dropped_or_paired(three: Superposition) -> None:
    """What is orthogonal to a pair does not interact with it: the loss is that of two features in one dimension."""
    fewer = three.ratio < 1
    pair = superposition(SuperpositionConfig(**CELLS, restarts=8))
    assert_close(three.loss[fewer], pair.loss[fewer], rtol=1e-8, atol=0)
    assert torch.equal(three.trained[fewer], pair.trained[fewer])
    phases = {SuperpositionPhase.NOT_REPRESENTED, SuperpositionPhase.ANTIPODAL}
    assert set(three.trained[fewer].flatten().tolist()) == phases


def test_two_dense_features_of_equal_importance_share_a_dimension_unequally(three: Superposition) -> None:
    """Beside a third that owns the other dimension, where all inputs are always active."""
    unequal = three.capacity[-1, 0, :2].sort().values
    assert_close(unequal, torch.tensor([0.1336, 0.8664], dtype=torch.float64), rtol=0, atol=1e-4)
    variance = 1 / 12
    assert three.loss[-1, 0] < variance * 0.9995 / three.ratio[-1]  # dropping one of them costs this variance


def test_dense_features_of_equal_importance_form_a_triangle(about_equal: Superposition) -> None:
    assert about_equal.trained[1, 0] == about_equal.built[1, 0] == SuperpositionPhase.TRIANGLE
    assert_close(about_equal.loss, about_equal.built_loss, rtol=1e-8, atol=0)
    low, middle, high = about_equal.capacity[1, 0].sort().values.tolist()
    assert min(middle - low, high - middle) < 1e-5  # isosceles
    assert low > 0.05


def test_configurations_that_cost_the_same_are_ties_and_not_counted(about_equal: Superposition) -> None:
    """Of equally important sparse features it is chance which one the last makes a pair with, if any."""
    assert about_equal.tied.tolist() == [[False, False], [False, True], [False, False]]
    same = about_equal.trained == about_equal.built
    assert same[~about_equal.tied].all()
    for trained in (SuperpositionPhase.OWN_DIMENSION, SuperpositionPhase.ANTIPODAL):
        codes = about_equal.trained.clone()
        codes[1, 1] = trained
        assert replace(about_equal, trained=codes).agreement == 1.0


def test_phases_of_rows_built_by_hand() -> None:
    """Turned at random, which no phase minds."""
    W = torch.zeros(5, 3, 2, dtype=torch.float64)
    W[0, :2] = torch.eye(2)
    W[1] = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    W[2] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    W[3] = regular_polygon(3)
    W[4] = torch.tensor([[1.0, 0.0], [1e-4, 1e-4], [0.0, 1.0]])  # feature 2 is not represented
    turned = W @ random_rotation(2, torch.Generator().manual_seed(0))
    phases = SuperpositionPhase
    expected = [phases.NOT_REPRESENTED, phases.OWN_DIMENSION, phases.ANTIPODAL, phases.TRIANGLE, phases.OWN_DIMENSION]
    assert superposition_phases(turned).tolist() == expected


def test_cells_of_a_sweep_are_those_of_the_diagram(tmp_path: Path) -> None:
    config = SuperpositionConfig(n_probability=3, n_ratio=2, restarts=12, adam_steps=30)
    whole = superposition(config)
    axes = {"feature_probability": whole.probability.tolist(), "ratio": whole.ratio.tolist()}
    fixed = {"n_features": 2, "restarts": 12, "adam_steps": 30}
    swept = run(Grid(axes, fixed=fixed), superposition_cells, tmp_path / "store.zarr")
    swept = swept.transpose("ratio", "feature_probability", ...).load()
    assert_close(torch.tensor(swept["loss"].values), whole.loss, rtol=1e-8, atol=0)
    assert swept["phase"].values.tolist() == whole.trained.tolist()
    assert (swept["converged"] == 1).all()
    figure = superposition_map(swept)
    assert figure.data[0].z.tolist() == swept["phase"].values.tolist()
    assert "6 of 6 cells" in figure.layout.meta["caption"]


def test_missing_cells_are_shown_as_missing() -> None:
    cells = ("ratio", "feature_probability")
    phase, capacity = np.array([[0, 2], [-1, 1]]), np.zeros((2, 2, 2))
    coordinates = {"ratio": [0.5, 2.0], "feature_probability": [1.0, 0.1]}
    data = xr.Dataset({"phase": (cells, phase), "capacity": ((*cells, "feature"), capacity)}, coordinates)
    figure = superposition_map(data)
    assert np.isnan(figure.data[0].z).tolist() == [[False, False], [True, False]]
    assert "3 of 4 cells" in figure.layout.meta["caption"]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_features": 4}, "n_features must be 2 or 3, got 4"),
        ({"n_ratio": 1}, "n_ratio must be a whole number of at least 2, got 1"),
        ({"lowest_probability": 0.0}, r"lowest_probability must be in \(0, 1\), got 0.0"),
        ({"largest_ratio": 1.0}, "largest_ratio must be above 1, got 1.0"),
        ({"restarts": 0}, "restarts must be a whole number of at least 1, got 0"),
    ],
)
def test_nonsense_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SuperpositionConfig(**options)
