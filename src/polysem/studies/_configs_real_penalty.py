"""Settings of the penalty on networks that read real images: numbers only, without torch."""

from dataclasses import dataclass

from polysem import _checks


@dataclass(frozen=True, kw_only=True)
class RealPenaltyConfig:
    """Small networks that read handwritten digits, fine-tuned with a penalty on sharing.

    Attributes:
        hidden: neurons of the hidden layer of both classifiers.
        code: dimensions of the autoencoder's code.
        bottleneck: neurons through which the second classifier has to say ten classes.
        kappa: strengths of the penalty, in units of the loss of ignoring one feature.
        starts: splits of the images, each with random weights of its own.
        steps: steps of Adam of each stage: ordinary training, with the penalty, without it again.
        batch_size: images of a step.
        learning_rate: of Adam; it rises over 20 steps, and falls along a line to 0 over the last third of each stage.
        curve_images: images of each start on which the autoencoders' curves are measured.
        null_draws: random directions, for each start.
        seed: of splits, weights and batches.
    """

    hidden: int = 128
    code: int = 10
    bottleneck: int = 6
    kappa: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0)
    starts: int = 6
    steps: int = 500
    batch_size: int = 64
    learning_rate: float = 0.003
    curve_images: int = 512
    null_draws: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("hidden", "code", "batch_size", "null_draws"):
            _checks.whole(name, getattr(self, name))
        few = _checks.whole("bottleneck", self.bottleneck) < 10
        _checks.require(few, "bottleneck", self.bottleneck, "below 10, the number of classes")
        _checks.whole("curve_images", self.curve_images, 2)
        _checks.whole("steps", self.steps, 3)
        _checks.whole("starts", self.starts, 2)
        _checks.whole("seed", self.seed, 0)
        rising = all(low < high for low, high in zip((0.0, *self.kappa), (*self.kappa, float("inf")), strict=True))
        _checks.require(bool(self.kappa) and rising, "kappa", self.kappa, "positive, finite and increasing")
        rate = self.learning_rate
        _checks.require(0 < rate < float("inf"), "learning_rate", rate, "positive and finite")
