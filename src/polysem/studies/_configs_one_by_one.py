"""Settings of the experiment that treats features one by one: numbers only, without torch."""

from dataclasses import dataclass

from polysem import _checks


@dataclass(frozen=True, kw_only=True)
class OneByOneConfig:
    """How long and how often features are flattened and masked, one by one and all at once.

    Attributes:
        n_features: features of the quadratic models.
        d_hidden: their dimensions.
        kurtosis: kurtosis of all of them in the first model, above 3.
        least_kurtosis, greatest_kurtosis: the range of their kurtoses in the second, logarithmic; above 3.
        decay: importances are `decay^i`, in every model.
        restarts: starts of each quadratic model.
        round_steps: steps of Adam in a round; after masking Newton steps follow.
        flatten_steps: steps of flattening all at once.
        at_once: how many features are flattened in a round.
        relu_features: features of the ReLU autoencoder.
        relu_hidden: its dimensions.
        probability: how often each of its features is active.
        relu_restarts: its starts.
        relu_steps: steps of its training, of each round, and a quarter of those of flattening all at once.
        batch_size: samples of a step.
        seed: seed of all starts and samples.
    """

    n_features: int = 10
    d_hidden: int = 4
    kurtosis: float = 20.0
    least_kurtosis: float = 5.0
    greatest_kurtosis: float = 80.0
    decay: float = 0.9
    restarts: int = 8
    round_steps: int = 300
    flatten_steps: int = 2000
    at_once: tuple[int, ...] = (1, 2, 5)
    relu_features: int = 8
    relu_hidden: int = 3
    probability: float = 0.05
    relu_restarts: int = 4
    relu_steps: int = 400
    batch_size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("d_hidden", "relu_hidden", "restarts", "relu_restarts", "round_steps", "flatten_steps"):
            _checks.whole(name, getattr(self, name))
        for name in ("relu_steps", "batch_size"):
            _checks.whole(name, getattr(self, name))
        for name, dimensions in (("n_features", self.d_hidden), ("relu_features", self.relu_hidden)):
            _checks.whole(name, getattr(self, name), dimensions + 1)
        for name in ("kurtosis", "least_kurtosis", "greatest_kurtosis"):
            _checks.require(getattr(self, name) > 3, name, getattr(self, name), "above 3")
        for name in ("decay", "probability"):
            value = getattr(self, name)
            _checks.require(0 < value <= 1, name, value, "in (0, 1]")
        _checks.require(len(self.at_once) > 0, "at_once", self.at_once, "at least one number")
        for number in self.at_once:
            _checks.whole("at_once", number)
        _checks.whole("seed", self.seed, 0)
