"""The exact loss of a hidden layer whose outputs are polynomials of degree two in independent inputs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

FACTORS = ("identity", "square", "bilinear")
"""Activations that make every neuron a product of at most two linear functions of the inputs."""

TARGET_DEGREES = {"identity": 1, "square": 2}
"""Targets that are powers of a feature."""


@dataclass(frozen=True)
class HiddenLayerObjective:
    r"""The exact loss of hidden layers at the best `b_out`, over all other parameters.

    With centred inputs `y = x - μ`, each neuron is `h_k = (y·w_k + β_k)(y·g_k + γ_k)`, and the error of output j

        e = Σ_ab S_ab y_a y_b + Σ_a l_a y_a + const
        S_ab = Σ_k V_kj (w_ak g_bk + w_bk g_ak) / 2,   l_a = Σ_k V_kj (w_ak γ_k + g_ak β_k)

    less the target. For independent inputs

        Var e = 2 Σ_{a≠b} S_ab² σ_a² σ_b² + Σ_a [S_aa² (m4_a - σ_a⁴) + 2 S_aa l_a m3_a + l_a² σ_a²]

    and the best `b_out` makes `E e = 0`. Time and memory grow with `n_inst · n_features³`. Derivatives are by
    automatic differentiation.

    Attributes:
        importance: `I`, float64.
        moments: `μ`, `σ²`, `m3` and `m4` of each input: its mean and central moments.
        d_hidden: number of neurons.
        activation: "identity", "square" or "bilinear".
        target: "identity" or "square".

    Source: ours.
    """

    importance: Float[Tensor, "n_inst n_features"]
    moments: Float[Tensor, "4 n_inst n_features"]
    d_hidden: int
    activation: str
    target: str

    def errors(
        self, parts: dict[str, Tensor]
    ) -> tuple[Float[Tensor, "n_inst n_features"], Float[Tensor, "n_inst n_features"]]:
        """Variance of each output's error, and its mean where `b_out` is 0."""
        mean, variance, third, fourth = self.moments
        w, V = parts["W_in"], parts["W_out"]
        beta = parts["b_in"] + (mean[:, None] @ w)[:, 0]
        if self.activation == "identity":
            g, gamma = torch.zeros_like(w), torch.ones_like(beta)
        elif self.activation == "square":
            g, gamma = w, beta
        else:
            g = parts["W_gate"]
            gamma = (mean[:, None] @ g)[:, 0]
        S = torch.einsum("nkj,nak,nbk->njab", V, w, g)
        linear = torch.einsum("nkj,nak->nja", V, w * gamma[:, None] + g * beta[:, None])
        shift = torch.einsum("nkj,nk->nj", V, beta * gamma)
        unit = torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
        degree = TARGET_DEGREES[self.target]
        own = torch.diagonal(S, dim1=-2, dim2=-1) - (unit if degree == 2 else 0)
        linear = linear - unit * (degree * mean ** (degree - 1))[:, None]
        others = (1 - unit) * (S + S.mT) / 2
        crossed = 2 * torch.einsum("njab,na,nb->nj", others.square(), variance, variance)
        alone = own.square() * (fourth - variance.square())[:, None] + linear.square() * variance[:, None]
        alone = alone + 2 * own * linear * third[:, None]
        return crossed + alone.sum(-1), shift - mean**degree + (own * variance[:, None]).sum(-1)

    def loss(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, " n_inst"]:
        """`Σ_j I_j Var e_j`."""
        spread, _ = self.errors(self._parts(theta))
        return (self.importance * spread).sum(-1)

    def gradient(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, "n_inst n_parameters"]:
        """Gradient of each loss."""
        slope, _ = _slope(self.loss, theta)
        return slope.detach()

    def hessian(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, "n_inst n_parameters n_parameters"]:
        """Matrix of second derivatives of each loss."""
        slope, at = _slope(self.loss, theta)
        directions = torch.eye(theta.shape[-1], dtype=theta.dtype, device=theta.device)
        directions = directions[:, None].expand(-1, len(theta), -1)
        (rows,) = torch.autograd.grad(slope, at, directions, is_grads_batched=True)
        return rows.movedim(0, 1)

    def select(self, instances: Int[Tensor, " n_selected"]) -> "HiddenLayerObjective":
        """The objective of the chosen instances alone."""
        moments = self.moments[:, instances]
        return HiddenLayerObjective(self.importance[instances], moments, self.d_hidden, self.activation, self.target)

    def pack(self, state: dict[str, Tensor]) -> Float[Tensor, "n_inst n_parameters"]:
        """All parameters but `b_out`, in float64."""
        return torch.cat([state[name].double().flatten(1) for name in self._shapes()], -1)

    def unpack(self, theta: Float[Tensor, "n_inst n_parameters"]) -> dict[str, Tensor]:
        """The parameters, with the best `b_out`."""
        parts = self._parts(theta)
        _, mean = self.errors(parts)
        return {**parts, "b_out": -mean}

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        n, d = self.importance.shape[-1], self.d_hidden
        gate = {"W_gate": (n, d)} if self.activation == "bilinear" else {}
        return {"W_in": (n, d), "b_in": (d,), **gate, "W_out": (d, n)}

    def _parts(self, theta: Tensor) -> dict[str, Tensor]:
        shapes = self._shapes()
        pieces = torch.split(theta, [math.prod(shape) for shape in shapes.values()], -1)
        return {
            name: piece.reshape(len(theta), *shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
        }


def _slope(loss: Callable[[Tensor], Tensor], theta: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of a stack of independent losses, and where it was taken, with the graph for further derivatives."""
    with torch.enable_grad():
        at = theta.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(at).sum(), at, create_graph=True)
    return slope, at
