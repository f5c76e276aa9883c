"""Settings of the experiments: numbers only, without torch."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polysem import _checks


@dataclass(frozen=True)
class PointsConfig:
    """Which points to look at, on how fine a grid of capacity, trained from how many starts."""

    n_grid: int = 101
    restarts: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        _checks.whole("n_grid", self.n_grid, 2)
        _checks.whole("restarts", self.restarts)
        _checks.whole("seed", self.seed, 0)


@dataclass(frozen=True)
class StackConfig:
    """Features with importances `decay^i` and equal kurtosis; totals from 0 to `n_features` in steps of a half."""

    n_features: int = 14
    decay: float = 0.85
    kurtosis: float = 12.0
    n_grid: int = 101

    def __post_init__(self) -> None:
        """Check the ranges."""
        _checks.whole("n_features", self.n_features)
        _checks.whole("n_grid", self.n_grid, 2)
        _checks.require(0 < self.decay <= 1, "decay", self.decay, "in (0, 1]")
        _checks.require(1 < self.kurtosis < math.inf, "kurtosis", self.kurtosis, "above 1 and finite")


@dataclass(frozen=True)
class PhaseConfig:
    """A grid of kurtosis × relative importance, logarithmic on both axes, and the number of starts a cell.

    An even number of ratios, symmetric around 1, avoids the tie at ratio 1.
    """

    n_kurtosis: int = 64
    n_ratio: int = 64
    kurtosis_range: tuple[float, float] = (1.2, 40.0)
    largest_ratio: float = 25.0
    restarts: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("n_kurtosis", "n_ratio"):
            _checks.whole(name, getattr(self, name), 2)
        low, high = self.kurtosis_range
        ascending = 1 < low < high < math.inf
        _checks.require(ascending, "kurtosis_range", self.kurtosis_range, "ascending, above 1 and finite")
        _checks.require(self.n_ratio % 2 == 0, "n_ratio", self.n_ratio, "even")
        _checks.require(1 < self.largest_ratio < math.inf, "largest_ratio", self.largest_ratio, "above 1 and finite")
        _checks.whole("restarts", self.restarts)
        _checks.whole("seed", self.seed, 0)


@dataclass(frozen=True)
class TrainedPhaseConfig(PhaseConfig):
    """A coarse grid of kurtosis × relative importance on which one architecture is trained.

    Attributes:
        architecture: one of `studies.PHASE_MODELS`.
        kurtosis_range: from 1.8 on, which uniform features have at their densest.
    """

    n_kurtosis: int = 16
    n_ratio: int = 16
    kurtosis_range: tuple[float, float] = (1.8, 40.0)
    architecture: str = "tied relu"

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        sparse = self.kurtosis_range[0] >= 1.8
        _checks.require(sparse, "kurtosis_range", self.kurtosis_range, "from 1.8 on")


@dataclass(frozen=True)
class TrainedConfig:
    """Features with importances `decay^i` and equal kurtosis in fewer dimensions, trained from many starts."""

    n_features: int = 20
    d_hidden: int = 5
    decay: float = 0.8
    kurtosis: float = 15.0
    restarts: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("n_features", "d_hidden", "restarts"):
            _checks.whole(name, getattr(self, name))
        scarce = self.d_hidden < self.n_features
        _checks.require(scarce, "d_hidden", self.d_hidden, f"below n_features, {self.n_features}")
        _checks.require(0 < self.decay <= 1, "decay", self.decay, "in (0, 1]")
        _checks.require(1 < self.kurtosis < math.inf, "kurtosis", self.kurtosis, "above 1 and finite")
        _checks.whole("seed", self.seed, 0)


@dataclass(frozen=True, kw_only=True)
class ErrataConfig:
    """Settings of `errata`.

    Attributes:
        n_features: number of inputs, 3 to 8; they have `3 ** n_features` outcomes.
        d_hidden: embedding dimension of the random matrices, 1 to 100.
        n_matrices: number of random matrices, 1 to 1000.
        seed: seed of the random matrices.

    Raises:
        ValueError: a setting that is not a whole number in its range.
    """

    n_features: int = 4
    d_hidden: int = 2
    n_matrices: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        for name, minimum, maximum in (
            ("n_features", 3, 8),
            ("d_hidden", 1, 100),
            ("n_matrices", 1, 1000),
            ("seed", 0, 2**63 - 1),
        ):
            value = getattr(self, name)
            valid = isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum
            _checks.require(valid, name, value, f"a whole number from {minimum} to {maximum}")


Slab = Literal["sign", "uniform", "gaussian", "laplace"]


@dataclass(frozen=True)
class WidthConfig:
    """Features, and the widths to plan for them.

    Attributes:
        n_features: number of features with importances `decay^i` (without `csv`).
        decay: ratio of one importance to the one before (without `csv`).
        csv: a table of features for `features.read_csv`.
        kurtosis: kurtosis of all features; 20 where nothing else says it.
        feature_probability: probability that a feature is active, instead of the kurtosis.
        slab: values of an active feature, where probabilities are given.
        widths: whole widths; by default from 1 to the number of features, thinned out beyond 40.
        points_between: totals of the finer grid per step from one width to the next.
    """

    n_features: int = 40
    decay: float = 0.9
    csv: Path | None = None
    kurtosis: float | None = None
    feature_probability: float | None = None
    slab: Slab = "sign"
    widths: tuple[int, ...] = ()
    points_between: int = 8

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("n_features", "points_between"):
            _checks.whole(name, getattr(self, name))
        _checks.require(0 < self.decay <= 1, "decay", self.decay, "in (0, 1]")
        if self.kurtosis is not None:
            _checks.require(1 <= self.kurtosis < math.inf, "kurtosis", self.kurtosis, "at least 1 and finite")
            _checks.require(
                self.feature_probability is None, "kurtosis", self.kurtosis, "left out with a feature_probability"
            )
        if self.feature_probability is not None:
            _checks.require(
                0 < self.feature_probability <= 1, "feature_probability", self.feature_probability, "in (0, 1]"
            )
        for width in self.widths:
            _checks.whole("widths", width, 0)


@dataclass(frozen=True)
class SuperpositionConfig:
    """Two or three features in one dimension less, on a grid of feature probability × relative importance of the last.

    Both axes are logarithmic; every cell is trained from `restarts` starts.
    """

    n_features: int = 2
    n_probability: int = 32
    n_ratio: int = 32
    lowest_probability: float = 0.01
    largest_ratio: float = 10.0
    restarts: int = 16
    adam_steps: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        _checks.require(self.n_features in (2, 3), "n_features", self.n_features, "2 or 3")
        for name in ("n_probability", "n_ratio"):
            _checks.whole(name, getattr(self, name), 2)
        _checks.require(0 < self.lowest_probability < 1, "lowest_probability", self.lowest_probability, "in (0, 1)")
        _checks.require(self.largest_ratio > 1, "largest_ratio", self.largest_ratio, "above 1")
        _checks.whole("restarts", self.restarts)
        _checks.whole("adam_steps", self.adam_steps, 0)
        _checks.whole("seed", self.seed, 0)


@dataclass(frozen=True)
class GeometryConfig:
    """Sparse ReLU autoencoders in a plane and in more dimensions, and what they are compared with.

    Attributes:
        plane_features: numbers of features to embed in a plane, each from 3 to 16.
        plane_probabilities: feature probabilities there.
        plane_restarts: starts of each, of which the best is shown.
        plane_steps: steps of Adam of each.
        n_features: number of features of the larger models.
        d_hidden: their dimension.
        n_probability: number of feature probabilities there, from 1 down on a logarithmic scale.
        lowest_probability: the last of them.
        steps: steps of Adam; one start each.
        null_draws: random matrices to compare capacities with, for each feature probability.
        seed: seed of all starts and samples.
    """

    plane_features: tuple[int, ...] = (3, 4, 5, 6, 7, 8)
    plane_probabilities: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03)
    plane_restarts: int = 8
    plane_steps: int = 500
    n_features: int = 48
    d_hidden: int = 12
    n_probability: int = 13
    lowest_probability: float = 0.1
    steps: int = 2500
    null_draws: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        _checks.require(bool(self.plane_features), "plane_features", self.plane_features, "at least one number")
        for size in self.plane_features:
            _checks.require(_checks.whole("plane_features", size, 3) <= 16, "plane_features", size, "at most 16")
        _checks.require(
            bool(self.plane_probabilities) and all(0 < p <= 1 for p in self.plane_probabilities),
            "plane_probabilities",
            self.plane_probabilities,
            "at least one number, each in (0, 1]",
        )
        for name in ("plane_restarts", "plane_steps", "d_hidden", "steps", "null_draws"):
            _checks.whole(name, getattr(self, name))
        scarce = _checks.whole("n_features", self.n_features) > self.d_hidden
        _checks.require(scarce, "n_features", self.n_features, f"above d_hidden, {self.d_hidden}")
        _checks.whole("n_probability", self.n_probability, 2)
        _checks.require(0 < self.lowest_probability < 1, "lowest_probability", self.lowest_probability, "in (0, 1)")
        _checks.whole("seed", self.seed, 0)


@dataclass(frozen=True)
class ComparisonConfig:
    """Which architectures are compared, in which dimensions, at which feature probabilities, from how many starts.

    Attributes:
        architectures: names of `studies.ARCHITECTURES`; all of them by default.
        n_features: number of features, with importances `decay^i`.
        d_hidden: embedding dimensions.
        n_probability: feature probabilities from 1 to `lowest_probability`, logarithmic.
        restarts: starts of each cell.
        adam_steps: steps where losses are sampled.
        batch_size: samples of such a step.
    """

    architectures: tuple[str, ...] = ()
    n_features: int = 20
    d_hidden: tuple[int, ...] = (5, 10)
    decay: float = 0.9
    n_probability: int = 8
    lowest_probability: float = 1e-3
    restarts: int = 8
    adam_steps: int = 1000
    batch_size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("n_features", "restarts", "adam_steps", "batch_size"):
            _checks.whole(name, getattr(self, name))
        _checks.whole("n_probability", self.n_probability, 2)
        _checks.whole("seed", self.seed, 0)
        _checks.require(len(self.d_hidden) > 0, "d_hidden", self.d_hidden, "at least one dimension")
        for d in self.d_hidden:
            valid = isinstance(d, int) and 1 <= d <= self.n_features
            _checks.require(valid, "d_hidden", d, f"from 1 to n_features = {self.n_features}")
        _checks.require(0 < self.decay <= 1, "decay", self.decay, "in (0, 1]")
        _checks.require(0 < self.lowest_probability < 1, "lowest_probability", self.lowest_probability, "in (0, 1)")
