"""The activations that toy models know by name."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "identity": torch.positive,
    "relu": torch.relu,
    "gelu": functional.gelu,
    "softplus": functional.softplus,
    "abs": torch.abs,
    "square": torch.square,
    "tanh": torch.tanh,
}

SLOPES: dict[str, tuple[float, float]] = {"relu": (1.0, 0.0), "abs": (1.0, -1.0)}
"""Slopes above and below 0 of the activations made of two straight lines."""


def as_function(
    activation: str | Activation, known: Mapping[str, Activation] = ACTIVATIONS, argument: str = "activation"
) -> Activation:
    """The function of an activation given by one of the known names, or itself where it is one; else a ValueError."""
    if isinstance(activation, str) and activation in known:
        return known[activation]
    if callable(activation):
        return activation
    names = ", ".join(f'"{name}"' for name in known)
    raise ValueError(f"{argument} must be one of {names} or a callable, got {activation!r}")
