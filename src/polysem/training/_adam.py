"""Adam on a stack of independent losses, every instance with a rate of its own scale."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from polysem.training._config import FitConfig

BETAS = (0.9, 0.999)


@dataclass
class Descent:
    """Where Adam stands.

    Attributes:
        theta: parameters `[n_inst, n_parameters]`.
        first, second: running means of gradients and of their squares, like `theta`.
        step: steps taken.
        history: recorded losses `[n_inst]`.
        capacities: recorded capacities `[n_inst, n_features]`, empty if they are not recorded.
    """

    theta: Tensor
    first: Tensor
    second: Tensor
    step: int = 0
    history: list[Tensor] = field(default_factory=list)
    capacities: list[Tensor] = field(default_factory=list)

    @classmethod
    def from_start(cls, theta: Tensor) -> "Descent":
        """Before the first step."""
        return cls(theta, torch.zeros_like(theta), torch.zeros_like(theta))


def adam(at: Descent, gradient: Callable[[Tensor], Tensor], config: FitConfig) -> None:
    """Take one step along `config`'s schedule.

    Args:
        at: where Adam stands; it is moved on.
        gradient: gradient at given parameters.
        config: number of steps, rate and schedule.

    Source: Kingma and Ba 2015, algorithm 1; the rate relative to the largest parameter is ours.
    """
    slope = gradient(at.theta)
    at.first = torch.lerp(slope, at.first, BETAS[0])
    at.second = torch.lerp(slope.square(), at.second, BETAS[1])
    size = at.second.sqrt() / math.sqrt(1 - BETAS[1] ** (at.step + 1))
    direction = at.first / (1 - BETAS[0] ** (at.step + 1)) / size.clamp(min=torch.finfo(size.dtype).tiny)
    at.theta = at.theta - rate(at.step, config) * at.theta.abs().amax(-1, keepdim=True) * direction
    at.step += 1


def rate(step: int, config: FitConfig) -> float:
    """The learning rate of a step, counted from 0.

    Example:
        >>> from polysem.training import FitConfig
        >>> config = FitConfig(adam_steps=6, warmup_steps=2, learning_rate=1.0)
        >>> [round(rate(step, config), 3) for step in range(6)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    done = step - config.warmup_steps
    return config.learning_rate * (1 + math.cos(math.pi * done / (config.adam_steps - config.warmup_steps))) / 2
