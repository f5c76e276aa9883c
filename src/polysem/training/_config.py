"""How a stack is fitted: numbers and names only, saved as JSON beside what they produced."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Literal, get_args, get_type_hints

from polysem import _checks


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of `fit`: Adam on exact or sampled losses, then a polish of the exact ones.

    Attributes:
        loss: "exact" for the closed form, "sampled" for the mean over fresh samples in each step of Adam.
        adam_steps: steps of Adam; 0 leaves all to the polish.
        learning_rate: Adam's rate at its height, relative to the largest parameter of each instance.
        schedule: the rate after the warm-up: "cosine" falls to 0 along half a cosine, "constant" stays.
        warmup_steps: steps in which the rate rises from 0 along a line; none by default.
        batch_size: samples of a step, beside the one with no active feature.
        stratified: spread samples evenly over the number of active features (`StratifiedSampler`); sampled only.
        compile: pass the sampled loss through `torch.compile`, which may change the last bits; sampled only.
        polish: "newton", "lbfgs" or "none" after Adam. Sampled losses and penalties are not polished.
        newton_steps: most Newton steps of an instance.
        lbfgs_steps: most evaluations of loss and gradient in L-BFGS.
        gradient_tolerance: an instance has converged where no entry of its gradient exceeds this times its
            largest curvature times its largest parameter, and it does not sit on a saddle, nor on a kink of the
            loss with lower values beyond; exact only.
        record_every: Adam steps from one row of the history to the next.
        record_capacities: keep capacities beside the losses of the history.
        checkpoint_every: Adam steps from one checkpoint to the next, where `resume` is given.

    Raises:
        ValueError: a number out of range, an unknown name, a setting that only sampled losses have.
        TypeError: an unknown setting.

    Example:
        >>> from polysem.training import FitConfig
        >>> config = FitConfig(adam_steps=100, polish="lbfgs")
        >>> FitConfig.from_json(config.to_json()) == config
        True
    """

    loss: Literal["exact", "sampled"] = "exact"
    adam_steps: int = 300
    learning_rate: float = 0.05
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = 0
    batch_size: int = 1024
    stratified: bool = False
    compile: bool = False
    polish: Literal["newton", "lbfgs", "none"] = "newton"
    newton_steps: int = 500
    lbfgs_steps: int = 5000
    gradient_tolerance: float = 1e-10
    record_every: int = 10
    record_capacities: bool = False
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        """Check names and ranges."""
        hints = get_type_hints(type(self))
        for name in ("loss", "schedule", "polish"):
            known = get_args(hints[name])
            _checks.require(getattr(self, name) in known, name, getattr(self, name), _one_of(known))
        for name, minimum in (
            ("adam_steps", 0),
            ("warmup_steps", 0),
            ("batch_size", 1),
            ("newton_steps", 0),
            ("lbfgs_steps", 0),
            ("record_every", 1),
            ("checkpoint_every", 1),
        ):
            _checks.whole(name, getattr(self, name), minimum)
        for name in ("learning_rate", "gradient_tolerance"):
            value = getattr(self, name)
            positive = isinstance(value, int | float) and math.isfinite(value) and value > 0
            _checks.require(positive, name, value, "a positive finite number")
        for name in ("stratified", "compile", "record_capacities"):
            _checks.require(isinstance(getattr(self, name), bool), name, getattr(self, name), "True or False")
        for name in ("stratified", "compile"):
            meant = self.loss == "sampled" or not getattr(self, name)
            _checks.require(meant, name, getattr(self, name), 'False unless loss="sampled"')
        at_most = f"at most adam_steps = {self.adam_steps}"
        _checks.require(self.warmup_steps <= self.adam_steps, "warmup_steps", self.warmup_steps, at_most)

    def to_json(self) -> str:
        """The settings as one JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "FitConfig":
        """Settings from `to_json`; one that is missing takes its default, an unknown one is a TypeError."""
        return cls(**json.loads(text))


def _one_of(names: tuple[str, ...]) -> str:
    return " or ".join(f'"{name}"' for name in names)
