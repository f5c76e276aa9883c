"""What the report is made of: the settings of every experiment, and how sweeps are run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from polysem import studies, sweeps
from polysem.sweeps import SweepStatus


@dataclass(frozen=True)
class Sweeping:
    """Where and how the report's sweeps are run.

    Attributes:
        folder: holds their stores, from which a report that was interrupted goes on; by default one that is deleted
            when the report is made.
        workers: processes; 1 computes in this one.
        progress: called with the status of the sweep that is under way.
    """

    folder: Path | None = None
    workers: int = 1
    progress: Callable[[SweepStatus], None] | None = None

    @property
    def engine(self) -> sweeps.Engine | None:
        """Where stacks are computed."""
        return sweeps.LocalEngine(self.workers) if self.workers > 1 else None

    @contextmanager
    def store(self, name: str, grid: sweeps.Grid) -> Iterator[Path]:
        """Path of a sweep's store, inside a `with` block."""
        file = f"{name}-{grid.hash[:12]}.zarr"
        if self.folder is None:
            with TemporaryDirectory() as folder:
                yield Path(folder) / file
        else:
            self.folder.mkdir(exist_ok=True)
            yield self.folder / file


@dataclass(frozen=True)
class ReproduceConfig:
    """The experiments of the report, each with its own settings."""

    points: studies.PointsConfig = field(default_factory=lambda: studies.PointsConfig())
    stack: studies.StackConfig = field(default_factory=lambda: studies.StackConfig())
    phase: studies.PhaseConfig = field(default_factory=lambda: studies.PhaseConfig())
    trained: studies.TrainedConfig = field(default_factory=lambda: studies.TrainedConfig())
    width: studies.WidthConfig = field(default_factory=lambda: studies.WidthConfig())
    superposition: studies.SuperpositionConfig = field(default_factory=lambda: studies.SuperpositionConfig())
    superposition_three: studies.SuperpositionConfig = field(default_factory=lambda: _three_features())
    geometry: studies.GeometryConfig = field(default_factory=lambda: studies.GeometryConfig())
    comparison: studies.ComparisonConfig = field(default_factory=lambda: studies.ComparisonConfig())
    prediction: studies.PredictionConfig = field(default_factory=lambda: studies.PredictionConfig())
    power: studies.PowerConfig = field(default_factory=lambda: studies.PowerConfig())
    pair: studies.PairConfig = field(default_factory=lambda: studies.PairConfig())
    locking: studies.LockingConfig = field(default_factory=lambda: studies.LockingConfig())
    without_diminishing: studies.WithoutDiminishingConfig = field(
        default_factory=lambda: studies.WithoutDiminishingConfig()
    )
    layers: studies.LayersConfig = field(default_factory=lambda: studies.LayersConfig())
    transformer: studies.TransformerConfig = field(default_factory=lambda: studies.TransformerConfig())
    flattening: studies.FlatteningConfig = field(default_factory=lambda: studies.FlatteningConfig())
    real_penalty: studies.RealPenaltyConfig = field(default_factory=lambda: studies.RealPenaltyConfig())
    pareto: studies.ParetoConfig = field(default_factory=lambda: studies.ParetoConfig())
    one_by_one: studies.OneByOneConfig = field(default_factory=lambda: studies.OneByOneConfig())
    searching: studies.SearchingConfig = field(default_factory=lambda: studies.SearchingConfig())
    treating: studies.TreatingConfig = field(default_factory=lambda: studies.TreatingConfig())
    errata: studies.ErrataConfig = field(default_factory=lambda: studies.ErrataConfig())

    @classmethod
    def of(cls, *, seed: int = 0, quick: bool = False) -> "ReproduceConfig":
        """All experiments with one seed; the quick ones have coarser grids and fewer starts."""
        cells = 24 if quick else 64
        return cls(
            points=studies.PointsConfig(seed=seed),
            phase=studies.PhaseConfig(seed=seed, n_kurtosis=cells, n_ratio=cells),
            trained=studies.TrainedConfig(seed=seed, restarts=8 if quick else 32),
            superposition=studies.SuperpositionConfig(
                seed=seed, n_probability=10 if quick else 32, n_ratio=10 if quick else 32
            ),
            superposition_three=_three_features(seed, cells // 4),
            geometry=_quick_geometry(seed) if quick else studies.GeometryConfig(seed=seed),
            comparison=_quick_comparison(seed) if quick else studies.ComparisonConfig(seed=seed),
            prediction=_quick_prediction(seed) if quick else studies.PredictionConfig(seed=seed),
            power=studies.PowerConfig(seed=seed, n_models=40 if quick else 200),
            pair=studies.PairConfig(seed=seed, n_ratio=9 if quick else 25),
            locking=_quick_locking(seed) if quick else studies.LockingConfig(seed=seed),
            without_diminishing=(
                _quick_without_diminishing(seed) if quick else studies.WithoutDiminishingConfig(seed=seed)
            ),
            layers=_quick_layers(seed) if quick else studies.LayersConfig(seed=seed),
            transformer=_quick_transformer(seed) if quick else studies.TransformerConfig(seed=seed),
            flattening=_quick_flattening(seed) if quick else studies.FlatteningConfig(seed=seed),
            real_penalty=_quick_real_penalty(seed) if quick else studies.RealPenaltyConfig(seed=seed),
            pareto=_quick_pareto(seed) if quick else studies.ParetoConfig(seed=seed),
            one_by_one=_quick_one_by_one(seed) if quick else studies.OneByOneConfig(seed=seed),
            searching=_quick_searching(seed) if quick else studies.SearchingConfig(seed=seed),
            treating=_quick_treating(seed) if quick else studies.TreatingConfig(seed=seed),
            errata=studies.ErrataConfig(seed=seed, n_matrices=15 if quick else 40),
        )


def _three_features(seed: int = 0, cells: int = 16) -> studies.SuperpositionConfig:
    """More and shorter starts than for two features: in some cells few of them find the triangle."""
    return studies.SuperpositionConfig(
        n_features=3, n_probability=cells, n_ratio=cells, restarts=24, adam_steps=30, seed=seed
    )


def _quick_geometry(seed: int) -> studies.GeometryConfig:
    return studies.GeometryConfig(
        plane_features=(3, 4, 5, 6),
        plane_probabilities=(1.0, 0.3, 0.05),
        plane_restarts=4,
        plane_steps=250,
        n_features=32,
        d_hidden=8,
        n_probability=6,
        steps=500,
        seed=seed,
    )


def _quick_comparison(seed: int) -> studies.ComparisonConfig:
    return studies.ComparisonConfig(
        architectures=("quadratic", "tied identity", "tied relu", "untied relu", "hidden relu |x|"),
        n_features=8,
        d_hidden=(3,),
        n_probability=4,
        restarts=3,
        adam_steps=250,
        batch_size=64,
        seed=seed,
    )


def _quick_locking(seed: int) -> studies.LockingConfig:
    return studies.LockingConfig(
        architectures=("quadratic", "tied relu"),
        d_hidden=(4,),
        decays=(1.0, 0.9),
        probabilities=(0.3, 0.05),
        restarts=3,
        adam_steps=300,
        price_samples=10_000,
        seed=seed,
    )


def _quick_without_diminishing(seed: int) -> studies.WithoutDiminishingConfig:
    return studies.WithoutDiminishingConfig(
        tie_starts=128,
        pair_starts=4,
        pair_steps=200,
        batch_size=128,
        n_kurtosis=8,
        n_ratio=6,
        starts=12,
        seed=seed,
    )


def _quick_layers(seed: int) -> studies.LayersConfig:
    return studies.LayersConfig(
        n_features=96,
        d_hidden=16,
        d_mlp=16,
        feature_probability=0.03,
        adam_steps=300,
        batch_size=128,
        samples=10_000,
        seed=seed,
    )


def _quick_prediction(seed: int) -> studies.PredictionConfig:
    return studies.PredictionConfig(
        architectures=("quadratic", "tied identity", "tied relu", "untied square", "hidden relu |x|"),
        n_features=8,
        d_hidden=3,
        probabilities=(1.0, 0.1),
        restarts=3,
        adam_steps=250,
        batch_size=64,
        n_grid=17,
        n_samples=256,
        seed=seed,
    )


def _quick_transformer(seed: int) -> studies.TransformerConfig:
    return studies.TransformerConfig(
        activations=("relu", "solu"),
        n_features=6,
        feature_probability=0.1,
        d_model=6,
        d_mlp=6,
        starts=1,
        steps=300,
        batch_size=64,
        n_test=2048,
        seed=seed,
    )


def _quick_flattening(seed: int) -> studies.FlatteningConfig:
    return studies.FlatteningConfig(
        n_features=6,
        d_hidden=2,
        restarts=6,
        adam_steps=150,
        n_shares=5,
        probabilities=(0.05,),
        relu_features=4,
        relu_hidden=2,
        relu_restarts=3,
        relu_steps=60,
        batch_size=64,
        seed=seed,
    )


def _quick_real_penalty(seed: int) -> studies.RealPenaltyConfig:
    return studies.RealPenaltyConfig(
        hidden=32, kappa=(1.0, 10.0), starts=3, steps=60, batch_size=32, curve_images=64, null_draws=4, seed=seed
    )


def _quick_pareto(seed: int) -> studies.ParetoConfig:
    return studies.ParetoConfig(
        n_features=3,
        d_hidden=2,
        architectures=("tied identity", "untied relu"),
        restarts=2,
        n_shares=2,
        adam_steps=50,
        round_steps=20,
        batch_size=32,
        seed=seed,
    )


def _quick_one_by_one(seed: int) -> studies.OneByOneConfig:
    return studies.OneByOneConfig(
        n_features=4,
        d_hidden=2,
        restarts=2,
        round_steps=25,
        flatten_steps=120,
        at_once=(1,),
        relu_features=3,
        relu_hidden=2,
        relu_restarts=1,
        relu_steps=30,
        batch_size=32,
        seed=seed,
    )


def _quick_searching(seed: int) -> studies.SearchingConfig:
    return studies.SearchingConfig(
        ("quadratic",),
        (0.05,),
        (3,),
        n_features=6,
        opposed_decay=0.3,
        seeds=12,
        n_samples=1500,
        restarts=6,
        steps=25,
        seed=seed,
    )


def _quick_treating(seed: int) -> studies.TreatingConfig:
    return studies.TreatingConfig(
        n_features=3,
        d_hidden=1,
        seeds=2,
        n_samples=2000,
        steps=60,
        restarts=3,
        search_steps=25,
        digits_hidden=8,
        digits_steps=50,
        digits_rounds=1,
        digits_directions=3,
        digits_samples=150,
        seed=seed,
    )
