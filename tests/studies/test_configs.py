"""Settings reject nonsense when they are made, and need no torch for that."""

import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from polysem import studies

INF, NAN = float("inf"), float("nan")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("config", "argument", "values"),
    [
        ("PointsConfig", "n_grid", [1, 0, -3, 2.5, True, "7", None]),
        ("PointsConfig", "restarts", [0, 1.0]),
        ("PointsConfig", "seed", [-1, 0.5]),
        ("StackConfig", "n_features", [0, 3.0]),
        ("StackConfig", "n_grid", [1]),
        ("StackConfig", "decay", [0, -0.5, 1.01, NAN, INF]),
        ("StackConfig", "kurtosis", [1, 0.5, -2, NAN, INF]),
        ("PhaseConfig", "n_kurtosis", [1, 2.5]),
        ("PhaseConfig", "n_ratio", [0, 1, 3, 63, 2.0]),
        ("PhaseConfig", "kurtosis_range", [(1.0, 5.0), (5.0, 5.0), (6.0, 5.0), (1.2, INF), (NAN, 5.0), (2.0, NAN)]),
        ("PhaseConfig", "largest_ratio", [1, 0.5, -2, NAN, INF]),
        ("PhaseConfig", "restarts", [0]),
        ("PhaseConfig", "seed", [-1]),
        ("TrainedPhaseConfig", "kurtosis_range", [(1.79, 5.0), (1.2, 40.0), (5.0, 5.0), (NAN, 5.0)]),
        ("TrainedPhaseConfig", "n_ratio", [0, 3]),
        ("TrainedConfig", "n_features", [0, 5, 4, 20.0]),
        ("TrainedConfig", "d_hidden", [0, 20, 21, 2.5]),
        ("TrainedConfig", "decay", [0, 1.5, NAN]),
        ("TrainedConfig", "kurtosis", [1, NAN, INF]),
        ("TrainedConfig", "restarts", [0]),
        ("TrainedConfig", "seed", [-1]),
        ("GeometryConfig", "plane_features", [(), (2,), (5, 17), (3.5,)]),
        ("GeometryConfig", "plane_probabilities", [(), (0,), (0.5, 1.1), (NAN,)]),
        ("GeometryConfig", "plane_restarts", [0]),
        ("GeometryConfig", "plane_steps", [0, 1.5]),
        ("GeometryConfig", "n_features", [0, 12, 48.0]),
        ("GeometryConfig", "d_hidden", [0, 2.5]),
        ("GeometryConfig", "n_probability", [1]),
        ("GeometryConfig", "lowest_probability", [0, 1, NAN]),
        ("GeometryConfig", "steps", [0]),
        ("GeometryConfig", "null_draws", [0]),
        ("GeometryConfig", "seed", [-1]),
        ("PredictionConfig", "n_features", [0, 1, 12.0]),
        ("PredictionConfig", "d_hidden", [0, 12, 2.5]),
        ("PredictionConfig", "decay", [0, 1.5, NAN]),
        ("PredictionConfig", "probabilities", [(), (0,), (1.1, 0.5), (0.3, 0.3), (0.05, 1.0), (NAN,)]),
        ("PredictionConfig", "restarts", [1, 2.0]),
        ("PredictionConfig", "adam_steps", [0]),
        ("PredictionConfig", "batch_size", [0]),
        ("PredictionConfig", "n_grid", [3, 33.0]),
        ("PredictionConfig", "n_samples", [1]),
        ("PredictionConfig", "seed", [-1]),
        ("WordsConfig", "n_words", [0, 32, 300.0]),
        ("WordsConfig", "d_hidden", [0, 2.5]),
        ("WordsConfig", "n_neurons", [0]),
        ("WordsConfig", "steps", [0, 1.5]),
        ("WordsConfig", "batch_size", [0]),
        ("WordsConfig", "learning_rate", [0, -1, INF, NAN]),
        ("WordsConfig", "held_out", [3, 10.0]),
        ("WordsConfig", "passes", [0, 301]),
        ("WordsConfig", "seed", [-1]),
        ("WithoutDiminishingConfig", "tie_starts", [0, 1.5]),
        ("WithoutDiminishingConfig", "pair_starts", [0]),
        ("WithoutDiminishingConfig", "pair_steps", [0]),
        ("WithoutDiminishingConfig", "batch_size", [0]),
        ("WithoutDiminishingConfig", "n_kurtosis", [1]),
        ("WithoutDiminishingConfig", "n_ratio", [1, 2.5]),
        ("WithoutDiminishingConfig", "starts", [0]),
        ("WithoutDiminishingConfig", "seed", [-1]),
        ("WidthConfig", "n_features", [0, 1.5]),
        ("WidthConfig", "points_between", [0, 1.5]),
        ("WidthConfig", "decay", [0, 1.5, NAN]),
        ("WidthConfig", "kurtosis", [0.99, -3, NAN, INF]),
        ("WidthConfig", "feature_probability", [0, -0.1, 1.1, NAN]),
        ("WidthConfig", "widths", [(-1,), (3, 2.5), (1, NAN)]),
    ],
)
def test_values_out_of_range(config: str, argument: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(ValueError) as caught:
            getattr(studies, config)(**{argument: value})
        named = "d_hidden" if (config, argument) == ("TrainedConfig", "n_features") and value in (4, 5) else argument
        assert str(caught.value).startswith(f"{named} must be "), value
        assert ", got " in str(caught.value)


def test_values_at_the_ends_of_their_ranges() -> None:
    studies.PointsConfig(n_grid=2, restarts=1)
    studies.StackConfig(n_features=1, n_grid=2, decay=1, kurtosis=1.001)
    studies.PhaseConfig(n_kurtosis=2, n_ratio=2, kurtosis_range=(1.001, 1.002), largest_ratio=1.001, restarts=1)
    studies.TrainedConfig(n_features=2, d_hidden=1, decay=1, restarts=1)
    studies.GeometryConfig((3, 16), (1,), n_features=2, d_hidden=1, n_probability=2, lowest_probability=0.999)
    studies.PredictionConfig((), 2, 1, 1, (1.0,), restarts=2, adam_steps=1, batch_size=1, n_grid=4, n_samples=2)
    studies.WidthConfig(n_features=1, decay=1, kurtosis=1, widths=(0,), points_between=1)
    studies.WidthConfig(feature_probability=1)


@pytest.mark.bad_input
def test_kurtosis_and_probability_exclude_each_other() -> None:
    with pytest.raises(ValueError, match=r"kurtosis must be left out with a feature_probability, got 5"):
        studies.WidthConfig(kurtosis=5, feature_probability=0.1)


@pytest.mark.bad_input
def test_unknown_and_changed_settings() -> None:
    for name in (
        "PointsConfig",
        "StackConfig",
        "PhaseConfig",
        "TrainedPhaseConfig",
        "TrainedConfig",
        "WidthConfig",
        "ErrataConfig",
        "GeometryConfig",
        "LayersConfig",
        "PredictionConfig",
        "WithoutDiminishingConfig",
    ):
        config = getattr(studies, name)
        with pytest.raises(TypeError, match="sparsity"):
            config(sparsity=0.1)
        with pytest.raises(FrozenInstanceError):
            config().seed = 3


def test_settings_need_neither_torch_nor_plotly() -> None:
    code = (
        "import sys\n"
        "from polysem import studies\n"
        "for name in filter(lambda name: name.endswith('Config'), dir(studies)): getattr(studies, name)()\n"
        "print(sorted({'torch', 'numpy', 'scipy', 'plotly'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
