"""How a stack is fitted: numbers only, saved as JSON beside what they produced."""

import json
import math
from dataclasses import asdict, dataclass

from polysem import _checks


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of `fit`: Adam with a cosine-decayed rate, then a damped Newton polish.

    Attributes:
        adam_steps: steps of Adam; 0 leaves all to Newton.
        learning_rate: Adam's first rate, relative to the largest parameter of each instance.
        newton_steps: most Newton steps of an instance.
        gradient_tolerance: an instance has converged where no entry of its gradient exceeds this times its
            largest curvature times its largest parameter, and it does not sit on a saddle.
        record_every: Adam steps from one row of the history to the next.

    Raises:
        ValueError: a number out of range.
        TypeError: an unknown setting.

    Example:
        >>> from polysem.training import FitConfig
        >>> config = FitConfig(adam_steps=100)
        >>> FitConfig.from_json(config.to_json()) == config
        True
    """

    adam_steps: int = 300
    learning_rate: float = 0.05
    newton_steps: int = 500
    gradient_tolerance: float = 1e-10
    record_every: int = 10

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, minimum in (("adam_steps", 0), ("newton_steps", 0), ("record_every", 1)):
            _checks.whole(name, getattr(self, name), minimum)
        for name in ("learning_rate", "gradient_tolerance"):
            value = getattr(self, name)
            positive = isinstance(value, int | float) and math.isfinite(value) and value > 0
            _checks.require(positive, name, value, "a positive finite number")

    def to_json(self) -> str:
        """The settings as one JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "FitConfig":
        """Settings from `to_json`; one that is missing takes its default, an unknown one is a TypeError."""
        return cls(**json.loads(text))
