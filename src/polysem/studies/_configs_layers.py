"""Settings of the large networks that are measured layer by layer: numbers and names only, without torch."""

from dataclasses import dataclass, replace

from polysem import _checks


@dataclass(frozen=True)
class LayersConfig:
    """Two residual networks with many features: one reconstructs them, one computes their absolute values.

    Attributes:
        n_features: number of features, of importance `(i + 1)^-exponent`.
        d_hidden: dimension of the residual stream.
        n_layers: blocks.
        d_mlp: neurons of each block.
        exponent: how fast importance falls.
        feature_probability: of every feature.
        adam_steps: steps of training, on sampled losses.
        batch_size: samples of a step.
        learning_rate: relative to the largest parameter, as in `FitConfig`.
        samples: on which states are measured; readouts are fitted on half of them.
        passes: backward passes for the prices of a state, over which features are spread.
        device: where networks are trained and measured.
    """

    n_features: int = 1024
    d_hidden: int = 128
    n_layers: int = 3
    d_mlp: int = 128
    exponent: float = 1.0
    feature_probability: float = 0.01
    adam_steps: int = 2000
    batch_size: int = 256
    learning_rate: float = 0.01
    samples: int = 65_536
    passes: int = 8
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("d_hidden", "n_layers", "d_mlp", "adam_steps", "batch_size"):
            _checks.whole(name, getattr(self, name))
        scarce = _checks.whole("n_features", self.n_features) > self.d_hidden
        _checks.require(scarce, "n_features", self.n_features, f"above d_hidden = {self.d_hidden}")
        _checks.whole("samples", self.samples, 2)
        few = _checks.whole("passes", self.passes) <= self.n_features
        _checks.require(few, "passes", self.passes, f"at most n_features = {self.n_features}")
        _checks.whole("seed", self.seed, 0)
        _checks.require(0 <= self.exponent < float("inf"), "exponent", self.exponent, "non-negative and finite")
        p = self.feature_probability
        _checks.require(0 < p <= 1, "feature_probability", p, "in (0, 1]")
        rate = self.learning_rate
        _checks.require(0 < rate < float("inf"), "learning_rate", rate, "positive and finite")

    def large(self, device: str = "cuda") -> "LayersConfig":
        """The same with 16 times the features in 8 times the width, as many active ones a dimension, more samples."""
        return replace(
            self,
            n_features=16 * self.n_features,
            d_hidden=8 * self.d_hidden,
            d_mlp=8 * self.d_mlp,
            feature_probability=self.feature_probability / 2,
            samples=4 * self.samples,
            device=device,
        )
