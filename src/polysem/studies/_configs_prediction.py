"""Settings of the prediction of capacities from measured curves: numbers only, without torch."""

from dataclasses import dataclass
from itertools import pairwise

from polysem import _checks


@dataclass(frozen=True)
class PredictionConfig:
    """Which architectures are trained and predicted, at which feature probabilities, and how finely.

    Attributes:
        architectures: names of `studies.ARCHITECTURES`; all of them by default.
        n_features: number of features, with importances `decay^i`.
        d_hidden: embedding dimension.
        probabilities: feature probabilities, falling.
        restarts: starts of each setting, of which the best two count; four times as many on exact losses.
        adam_steps: steps where losses are sampled.
        batch_size: samples of such a step.
        n_grid: points of a curve; curves in closed form have more.
        n_samples: about how many points each expectation takes; those in closed form take more.
    """

    architectures: tuple[str, ...] = ()
    n_features: int = 12
    d_hidden: int = 4
    decay: float = 0.85
    probabilities: tuple[float, ...] = (1.0, 0.3, 0.05)
    restarts: int = 6
    adam_steps: int = 1000
    batch_size: int = 128
    n_grid: int = 33
    n_samples: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, minimum in (
            ("n_features", 2),
            ("d_hidden", 1),
            ("restarts", 2),
            ("adam_steps", 1),
            ("batch_size", 1),
            ("n_grid", 4),
            ("n_samples", 2),
            ("seed", 0),
        ):
            _checks.whole(name, getattr(self, name), minimum)
        scarce = self.d_hidden < self.n_features
        _checks.require(scarce, "d_hidden", self.d_hidden, f"below n_features, {self.n_features}")
        _checks.require(0 < self.decay <= 1, "decay", self.decay, "in (0, 1]")
        p = self.probabilities
        falling = len(p) > 0 and all(0 < one <= 1 for one in p) and all(a > b for a, b in pairwise(p))
        _checks.require(falling, "probabilities", p, "at least one number in (0, 1], falling")
