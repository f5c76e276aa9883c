"""The exact loss of autoencoders over their parameters: the chain rule from pre-activations to rows and biases."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from polysem.zoo._model import Objective
from polysem.zoo._outputs import OutputLosses


@dataclass(frozen=True)
class AutoencoderObjective:
    r"""`L = Σ_j I_j φ_j(G_j·, b_j)` with `G = V Wᵀ`, over `(W, b)` if tied (`V = W`), else over `(W, V, b)`.

    Attributes:
        outputs: the losses `φ_j`, with their derivatives by `G` and `b`.
        importance: `I`.
        d_hidden: embedding dimension.
        tied: whether `V = W`.

    Source: ours.
    """

    outputs: OutputLosses
    importance: Float[Tensor, "n_inst n_features"]
    d_hidden: int
    tied: bool

    def loss(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, " n_inst"]:
        """`L`."""
        W, V, b = self._parts(theta)
        return (self.importance * self.outputs.value(V @ W.mT, b)).sum(-1)

    def gradient(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, "n_inst n_parameters"]:
        """`∂L/∂W = Aᵀ V`, `∂L/∂V = A W` with `A_jk = I_j ∂φ_j/∂G_jk`, and `∂L/∂b`."""
        W, V, b = self._parts(theta)
        slopes = self.importance[..., None] * self.outputs.gradient(V @ W.mT, b)
        A, by_b = slopes[..., :-1], slopes[..., -1]
        by_W, by_V = A.mT @ V, A @ W
        rows = [by_W + by_V] if self.tied else [by_W, by_V]
        return torch.cat([*(part.flatten(1) for part in rows), by_b], -1)

    def hessian(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, "n_inst n_parameters n_parameters"]:
        """`Σ_j I_j J_jᵀ (∂²φ_j) J_j` with `J_j = ∂(G_j·, b_j)/∂θ`, and the curvature of `G` itself."""
        W, V, b = self._parts(theta)
        _, n, d = W.shape
        slopes, curves = self.outputs.derivatives(V @ W.mT, b)
        A = self.importance[..., None] * slopes[..., :-1]
        J = self._jacobian(W, V)
        curved = self.importance[..., None, None] * curves @ J
        H = J.flatten(1, 2).mT @ curved.flatten(1, 2)
        for at, to, slopes in [(0, 0, A + A.mT)] if self.tied else [(0, 1, A.mT), (1, 0, A)]:
            rows, columns = (slice(block * n * d, (block + 1) * n * d) for block in (at, to))
            H[:, rows, columns] += torch.kron(slopes.contiguous(), torch.eye(d, dtype=H.dtype, device=H.device))
        return H

    def select(self, instances: Int[Tensor, " n_selected"]) -> "AutoencoderObjective":
        """The objective of the chosen instances alone."""
        outputs = self.outputs.select(instances)
        return AutoencoderObjective(outputs, self.importance[instances], self.d_hidden, self.tied)

    def pack(self, state: dict[str, Tensor]) -> Float[Tensor, "n_inst n_parameters"]:
        """`W`, `V` unless tied, and `b` in float64."""
        return torch.cat([state[name].double().flatten(1) for name in self._names()], -1)

    def unpack(self, theta: Float[Tensor, "n_inst n_parameters"]) -> dict[str, Tensor]:
        """The parameters by name."""
        W, V, b = self._parts(theta)
        parts = {"W": W, "V": V, "b": b}
        return {name: parts[name] for name in self._names()}

    def _names(self) -> tuple[str, ...]:
        return ("W", "b") if self.tied else ("W", "V", "b")

    def _parts(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n = self.importance.shape[-1]
        rows = theta[:, :-n].reshape(len(theta), -1, n, self.d_hidden)
        return rows[:, 0], rows[:, -1], theta[:, -n:]

    def _jacobian(self, W: Tensor, V: Tensor) -> Float[Tensor, "n_inst n n_coefficients n_parameters"]:
        n_inst, n, d = W.shape
        by_W, by_V = W.new_zeros(n_inst, n, n + 1, n, d), W.new_zeros(n_inst, n, n + 1, n, d)
        by_W[:, :, :n].diagonal(dim1=2, dim2=3).copy_(V[..., None].expand(-1, -1, -1, n))  # [n_inst, j, α, k = i]
        by_V[:, :, :n].diagonal(dim1=1, dim2=3).copy_(W[..., None].expand(-1, -1, -1, n))  # [n_inst, k, α, j = i]
        by_b = W.new_zeros(n_inst, n, n + 1, n)
        by_b[:, :, n].diagonal(dim1=1, dim2=2).fill_(1)
        rows = [by_W + by_V] if self.tied else [by_W, by_V]
        return torch.cat([*(part.flatten(3) for part in rows), by_b], -1)


class _Loss(torch.autograd.Function):
    """The losses of an objective; their derivative is a function that can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, objective: Objective, theta: Tensor) -> Tensor:
        ctx.save_for_backward(theta)
        ctx.objective = objective
        return objective.loss(theta)

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> tuple[None, Tensor]:
        return None, _weighted_gradient(ctx.objective, *ctx.saved_tensors, *slopes)


class _Gradient(torch.autograd.Function):
    """`weight · gradient(theta)`, for the second derivative."""

    @staticmethod
    def forward(ctx: Any, objective: Objective, theta: Tensor, weight: Tensor) -> Tensor:
        gradient = objective.gradient(theta)
        ctx.save_for_backward(theta, weight, gradient)
        ctx.objective = objective
        return weight[:, None] * gradient

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, direction: Tensor) -> tuple[None, Tensor, Tensor]:
        theta, weight, gradient = ctx.saved_tensors
        curved = (ctx.objective.hessian(theta) @ direction[..., None])[..., 0]
        return None, weight[:, None] * curved, (gradient * direction).sum(-1)


differentiable_loss: Callable[[Objective, Tensor], Tensor] = _Loss.apply
"""`objective.loss(theta)`, which autograd differentiates by the analytic gradient, and that by the Hessian."""
_weighted_gradient: Callable[[Objective, Tensor, Tensor], Tensor] = _Gradient.apply
