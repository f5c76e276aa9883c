"""Objectives of two parameters whose minima, saddles and kinks are known."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Saddle:
    """`x²/2 + y⁴/4 - y²/2`, scaled: minima at `(0, ±1)` of loss `-scale/4`, a saddle at 0."""

    scale: Tensor

    def loss(self, theta: Tensor) -> Tensor:
        x, y = theta.unbind(-1)
        return self.scale * (x**2 / 2 + y**4 / 4 - y**2 / 2)

    def gradient(self, theta: Tensor) -> Tensor:
        x, y = theta.unbind(-1)
        return self.scale[:, None] * torch.stack([x, y**3 - y], -1)

    def hessian(self, theta: Tensor) -> Tensor:
        curvature = torch.stack([torch.ones_like(theta[:, 1]), 3 * theta[:, 1] ** 2 - 1], -1)
        return self.scale[:, None, None] * torch.diag_embed(curvature)

    def select(self, instances: Tensor) -> "Saddle":
        return Saddle(self.scale[instances])

    def pack(self, state: dict[str, Tensor]) -> Tensor:
        return state["theta"]

    def unpack(self, theta: Tensor) -> dict[str, Tensor]:
        return {"theta": theta}


@dataclass(frozen=True)
class Valley:
    """Rosenbrock's `steepness (y - x²)² + (1 - x)²`: a curved valley with its minimum 0 at (1, 1)."""

    steepness: Tensor

    def loss(self, theta: Tensor) -> Tensor:
        x, y = theta.unbind(-1)
        return self.steepness * (y - x**2) ** 2 + (1 - x) ** 2

    def gradient(self, theta: Tensor) -> Tensor:
        x, y = theta.unbind(-1)
        return torch.stack([-4 * self.steepness * x * (y - x**2) - 2 * (1 - x), 2 * self.steepness * (y - x**2)], -1)

    def hessian(self, theta: Tensor) -> Tensor:
        x, y = theta.unbind(-1)
        xx = self.steepness * (12 * x**2 - 4 * y) + 2
        xy, yy = -4 * self.steepness * x, 2 * self.steepness
        return torch.stack([torch.stack([xx, xy], -1), torch.stack([xy, yy.expand_as(xy)], -1)], -2)

    def select(self, instances: Tensor) -> "Valley":
        return Valley(self.steepness[instances])

    def pack(self, state: dict[str, Tensor]) -> Tensor:
        return state["theta"]

    def unpack(self, theta: Tensor) -> dict[str, Tensor]:
        return {"theta": theta}


@dataclass(frozen=True)
class Ledge:
    """`(u² + v²)/2 + (u⁴ + v⁴)/4 - depth max(v - u, 0)²/4` around (1, 1), where gradient and kink meet.

    On the side `v <= u`, to which the kink belongs, its Hessian is 1. Beyond, the lowest curvature is `1 - depth`, and
    for `depth > 1` the only minimum lies at `u = -v = -√(depth - 1)`, with a loss of `-(depth - 1)²/2`.
    """

    depth: Tensor

    def loss(self, theta: Tensor) -> Tensor:
        u, v = (theta - 1).unbind(-1)
        return (u**2 + v**2) / 2 + (u**4 + v**4) / 4 - self.depth * (v - u).clamp(min=0) ** 2 / 4

    def gradient(self, theta: Tensor) -> Tensor:
        u, v = (theta - 1).unbind(-1)
        fall = self.depth * (v - u).clamp(min=0) / 2
        return torch.stack([u + u**3 + fall, v + v**3 - fall], -1)

    def hessian(self, theta: Tensor) -> Tensor:
        u, v = (theta - 1).unbind(-1)
        fall = self.depth * (v > u) / 2
        own = torch.stack([1 + 3 * u**2 - fall, 1 + 3 * v**2 - fall], -1)
        return torch.diag_embed(own) + fall[:, None, None] * torch.eye(2, dtype=theta.dtype).flip(0)

    def select(self, instances: Tensor) -> "Ledge":
        return Ledge(self.depth[instances])

    def pack(self, state: dict[str, Tensor]) -> Tensor:
        return state["theta"]

    def unpack(self, theta: Tensor) -> dict[str, Tensor]:
        return {"theta": theta}
