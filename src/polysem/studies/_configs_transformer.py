"""Settings of the study of transformers: numbers and names only, without torch."""

from dataclasses import dataclass

from polysem import _checks

ACTIVATIONS = {"relu": "ReLU", "gelu": "GELU", "solu": "SoLU", "bilinear": "bilinear"}
"""Activations of neurons that are compared, and what pages call them."""

LEARNING_RATES = {"relu": 0.02, "gelu": 0.02, "solu": 0.005, "bilinear": 0.02}
"""The largest rate of Adam for each activation: the better of a few on other seeds."""


@dataclass(frozen=True)
class TransformerConfig:
    """Transformers that differ in the activation of their neurons, trained on sequences of the same law.

    Attributes:
        activations: of the neurons.
        n_features: features of a position, with importances `decay^i`.
        feature_probability: of each of them.
        n_positions: length of the sequences.
        d_model: dimension of the residual stream.
        d_mlp: neurons of each block, a multiple of 3; of bilinear ones, with three weights for two, two thirds as many.
        n_layers: number of blocks.
        n_heads: attention heads of a block, a divisor of `d_model`.
        starts: networks of each activation.
        steps: steps of Adam.
        batch_size: sequences of a step.
        n_test: sequences on which everything is measured.
    """

    activations: tuple[str, ...] = tuple(ACTIVATIONS)
    n_features: int = 16
    decay: float = 0.9
    feature_probability: float = 0.05
    n_positions: int = 4
    d_model: int = 12
    d_mlp: int = 18
    n_layers: int = 2
    n_heads: int = 2
    starts: int = 5
    steps: int = 2500
    batch_size: int = 128
    n_test: int = 16384
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("n_features", "d_model", "d_mlp", "n_layers", "n_heads", "starts", "steps", "batch_size"):
            _checks.whole(name, getattr(self, name))
        for name in ("n_positions", "n_test"):
            _checks.whole(name, getattr(self, name), 2)
        _checks.whole("seed", self.seed, 0)
        known = len(self.activations) > 0 and set(self.activations) <= set(ACTIVATIONS)
        _checks.require(known, "activations", self.activations, f"at least one of {', '.join(ACTIVATIONS)}")
        _checks.require(0 < self.decay <= 1, "decay", self.decay, "in (0, 1]")
        p = self.feature_probability
        _checks.require(0 < p <= 1, "feature_probability", p, "in (0, 1]")
        _checks.require(self.d_mlp % 3 == 0, "d_mlp", self.d_mlp, "a multiple of 3")
        divides = self.d_model % self.n_heads == 0
        _checks.require(divides, "n_heads", self.n_heads, f"a divisor of d_model = {self.d_model}")
