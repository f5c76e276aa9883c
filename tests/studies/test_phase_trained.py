"""The trained phase diagram: theory where there is one, other trainings, and losses summed over a grid of inputs."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.testing import assert_close

from polysem.features import SparseUniform
from polysem.studies import (
    PHASE_MODELS,
    PairConfig,
    TrainedPhaseConfig,
    TrainedPhases,
    pair,
    trained_phases,
)
from polysem.theory import allocate

SMALL = {"n_kurtosis": 3, "n_ratio": 4, "largest_ratio": 4.0, "kurtosis_range": (2.5, 25.0)}


@pytest.fixture(scope="module")
def found() -> dict[str, TrainedPhases]:
    return {name: trained_phases(TrainedPhaseConfig(architecture=name, **SMALL)) for name in PHASE_MODELS}


def cells(result: TrainedPhases) -> list[tuple[int, int, float, float]]:
    """Row, column, kurtosis and ratio of every cell."""
    axes = result.ratio.tolist(), result.kurtosis.tolist()
    return [(row, column, F, r) for row, r in enumerate(axes[0]) for column, F in enumerate(axes[1])]


def test_the_quadratic_model_is_that_of_theory(found: dict[str, TrainedPhases]) -> None:
    result = found["quadratic"]
    for row, column, F, ratio in cells(result):
        best = allocate([1.0, ratio], F, 1.0)
        assert_close(result.trained[row, column], best.capacity, rtol=0, atol=1e-6)
        assert_close(result.theory[row, column], best.capacity, rtol=0, atol=1e-9)
        assert float(result.loss[row, column]) == pytest.approx(float(best.loss) / max(1, ratio) ** 2, rel=1e-9)
    assert_close(SparseUniform(result.feature_probability, signed=True).kurtosis, result.kurtosis)


def test_a_relu_pair_is_the_pair_of_another_study(found: dict[str, TrainedPhases]) -> None:
    result = found["tied relu"]
    lowest = float(result.ratio[0])
    other = pair(PairConfig(tuple(result.feature_probability.tolist()), n_ratio=2, lowest_ratio=lowest**2, seed=5))
    assert_close(result.trained[0, :, 1], other.capacity[:, 1], rtol=0, atol=1e-6)
    shared = (result.trained[0, :, 1] > 0.05).tolist()
    assert shared == [False, False, True]


def test_a_linear_model_keeps_the_more_important_feature(found: dict[str, TrainedPhases]) -> None:
    result = found["tied identity"]
    for row, column, _, ratio in cells(result):
        second = float(ratio > 1)
        assert result.trained[row, column].tolist() == pytest.approx([1 - second, second], abs=1e-9)
        variance = float(SparseUniform(result.feature_probability[column]).variance)
        assert float(result.loss[row, column]) == pytest.approx(min(ratio, 1 / ratio) ** 2 * variance, rel=1e-9)


@pytest.mark.parametrize(("name", "act"), [("tied relu", lambda z: np.maximum(z, 0)), ("tied abs", np.abs)])
def test_losses_summed_over_inputs(found: dict[str, TrainedPhases], name: str, act: Any) -> None:
    """The least loss on a grid of inputs, by scipy from several starts, each input weighted by its chance."""
    result = found[name]
    row, column = result.nearest(25.0, 0.6)
    p, ratio = float(result.feature_probability[column]), float(result.ratio[row])
    points = (np.arange(50) + 0.5) / 50
    x1, x2 = (side.ravel() for side in np.meshgrid([0.0, *points], [0.0, *points]))
    weight = np.where(x1 > 0, p / 50, 1 - p) * np.where(x2 > 0, p / 50, 1 - p)

    def loss(theta: np.ndarray) -> float:
        w1, w2, b1, b2 = theta
        hidden = w1 * x1 + w2 * x2
        errors = (act(w1 * hidden + b1) - x1) ** 2 + ratio**2 * (act(w2 * hidden + b2) - x2) ** 2
        return float(weight @ errors)

    starts = ([1, -1, 0, 0], [1, 0.1, 0, 0], [0.1, 1, 0, 0], [1, -0.4, 0, 0], [0.7, 0.7, 0, 0])
    best = min((minimize(loss, start, method="Nelder-Mead") for start in starts), key=lambda end: float(end.fun))
    w1, w2 = best.x[:2] ** 2
    assert float(result.loss[row, column]) == pytest.approx(float(best.fun), rel=0.01)
    assert float(result.trained[row, column, 0]) == pytest.approx(w1 / (w1 + w2), abs=0.01)
    assert result.trained[row, column].sum() == pytest.approx(1, abs=1e-9)


def test_swapped_importances_swap_capacities(found: dict[str, TrainedPhases]) -> None:
    for result in found.values():
        assert_close(result.trained.flip(0), result.trained.flip(-1), rtol=0, atol=1e-6)
        assert_close(result.loss.flip(0), result.loss, rtol=1e-9, atol=0)
        assert ((result.reached > 0) & (result.reached <= 1)).all()


def test_probabilities_have_the_kurtosis_of_their_column() -> None:
    """On [0, 1] kurtosis is least, 27/16, at p = 0.8; what is sparser has every larger one."""
    p = torch.linspace(0.79, 0.81, 21, dtype=torch.float64)
    kurtosis = SparseUniform(p).kurtosis
    assert int(kurtosis.argmin()) == 10
    assert float(kurtosis[10]) == pytest.approx(27 / 16)
    config = TrainedPhaseConfig(architecture="tied identity", n_kurtosis=9, n_ratio=2, restarts=1)
    result = trained_phases(config)
    assert_close(SparseUniform(result.feature_probability).kurtosis, result.kurtosis)
    assert float(result.feature_probability.max()) < 0.8
    assert float(result.kurtosis[0]) == pytest.approx(1.8)


def test_the_nearest_cell(found: dict[str, TrainedPhases]) -> None:
    result = found["tied relu"]
    for row, column, F, ratio in cells(result):
        assert result.nearest(F * 1.2, ratio / 1.2) == (row, column)
    assert result.nearest(1e6, 0.0) == (0, 2)
    assert result.nearest(1.01, 1e6) == (3, 0)


def test_progress_rises_and_ends_the_work() -> None:
    config = TrainedPhaseConfig(architecture="tied identity", n_kurtosis=20, n_ratio=20, restarts=4)
    seen: list[float] = []
    trained_phases(config, seen.append)
    assert 0 < seen[0] < 0.01
    assert sorted(set(seen)) == seen
    assert 0.7 < seen[-1] < 1
    seen.clear()
    trained_phases(TrainedPhaseConfig(architecture="tied identity", n_kurtosis=2, n_ratio=2), seen.append)
    assert seen[-1] == 0.5

    def stop(share: float) -> None:
        if share > 0.2:
            raise InterruptedError(f"{share:.2f}")

    with pytest.raises(InterruptedError, match=r"0\.2"):
        trained_phases(config, stop)


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["untied relu", "tied gelu", "hidden relu", "theory", ""])
def test_other_architectures_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"architecture must be \"quadratic\" or .*, got"):
        trained_phases(TrainedPhaseConfig(architecture=name, n_kurtosis=2, n_ratio=2))
