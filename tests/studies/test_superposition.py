import pytest
import torch
from torch.testing import assert_close

from polysem.studies import Superposition, SuperpositionConfig, SuperpositionPhase, superposition


@pytest.fixture(scope="module")
def result() -> Superposition:
    return superposition(SuperpositionConfig(n_probability=8, n_ratio=8, restarts=12))


def test_training_finds_the_best_configuration_built_by_hand(result: Superposition) -> None:
    assert_close(result.loss, result.built_loss, rtol=1e-8, atol=0)
    assert result.agreement == 1.0
    assert result.converged == 1.0


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


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_ratio": 1}, "n_ratio must be a whole number of at least 2, got 1"),
        ({"lowest_probability": 0.0}, r"lowest_probability must be in \(0, 1\), got 0.0"),
        ({"largest_ratio": 1.0}, "largest_ratio must be above 1, got 1.0"),
        ({"restarts": 0}, "restarts must be a whole number of at least 1, got 0"),
    ],
)
def test_nonsense_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SuperpositionConfig(**options)
