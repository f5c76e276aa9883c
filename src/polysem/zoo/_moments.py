"""Exact losses of polynomial activations, from the moments of independent inputs: any law, any number of features."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class LinearOutputs:
    r"""Losses of the identity: `φ = Σ_i (G_ji - δ_ij)² σ_i² + (Σ_i (G_ji - δ_ij) μ_i + b_j)²`.

    Attributes:
        mean: `μ`.
        variance: `σ²`.

    Source: ours.
    """

    mean: Float[Tensor, "n_inst n"]
    variance: Float[Tensor, "n_inst n"]

    def value(self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]) -> Float[Tensor, "n_inst n"]:
        """`φ_j`."""
        error, shift = self._error(G, b)
        return (error.square() * self.variance[:, None]).sum(-1) + shift.square()

    def gradient(
        self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]
    ) -> Float[Tensor, "n_inst n n_coefficients"]:
        """`∂φ_j/∂g`."""
        error, shift = self._error(G, b)
        shift = shift[..., None]
        return 2 * torch.cat([error * self.variance[:, None] + shift * self.mean[:, None], shift], -1)

    def derivatives(
        self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]
    ) -> tuple[Float[Tensor, "n_inst n n_coefficients"], Float[Tensor, "n_inst n n_coefficients n_coefficients"]]:
        """`∂φ_j/∂g` and `∂²φ_j/∂g² = 2 E[u uᵀ]`, `u = (x, 1)`."""
        u = torch.cat([self.mean, torch.ones_like(self.mean[:, :1])], -1)
        spread = torch.cat([self.variance, torch.zeros_like(self.mean[:, :1])], -1)
        second = torch.diag_embed(spread) + u[:, :, None] * u[:, None, :]
        return self.gradient(G, b), 2 * second[:, None].expand(-1, G.shape[1], -1, -1)

    def select(self, instances: Int[Tensor, " n_selected"]) -> "LinearOutputs":
        """The losses of the chosen instances alone."""
        return LinearOutputs(self.mean[instances], self.variance[instances])

    def _error(self, G: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        error = G - torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)
        return error, (error @ self.mean[..., None])[..., 0] + b


@dataclass(frozen=True)
class SquareOutputs:
    r"""Losses of `act(z) = z²`, with `m = Σ_i G_ji μ_i + b_j`, `s² = Σ G_ji² σ_i²`, cumulants `κ` of the inputs.

        E z⁴     = m⁴ + 6 m² s² + 4 m Σ G_ji³ κ³_i + 3 s⁴ + Σ G_ji⁴ κ⁴_i
        E z² x_j = μ_j (m² + s²) + 2 m G_jj σ_j² + G_jj² κ³_j
        φ        = E z⁴ - 2 E z² x_j + E x_j²

    Attributes:
        mean: `μ`.
        variance: `σ²`.
        third: third cumulant.
        fourth: fourth cumulant.

    Source: ours.
    """

    mean: Float[Tensor, "n_inst n"]
    variance: Float[Tensor, "n_inst n"]
    third: Float[Tensor, "n_inst n"]
    fourth: Float[Tensor, "n_inst n"]

    def value(self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]) -> Float[Tensor, "n_inst n"]:
        """`φ_j`."""
        m, s2, own = self._parts(G, b)
        skew = (G.pow(3) * self.third[:, None]).sum(-1)
        tail = (G.pow(4) * self.fourth[:, None]).sum(-1)
        power = m.pow(4) + 6 * m.square() * s2 + 4 * m * skew + 3 * s2.square() + tail
        product = self.mean * (m.square() + s2) + 2 * m * own * self.variance + own.square() * self.third
        return power - 2 * product + self.variance + self.mean.square()

    def gradient(
        self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]
    ) -> Float[Tensor, "n_inst n n_coefficients"]:
        """`∂φ_j/∂g`."""
        m, s2, own = self._parts(G, b)
        skew = (G.pow(3) * self.third[:, None]).sum(-1)
        by_m = 4 * (m.pow(3) + 3 * m * s2 + skew - self.mean * m - own * self.variance)[..., None]
        common = (12 * (m.square() + s2) - 4 * self.mean)[..., None] * self.variance[:, None]
        by_G = G * common + 12 * m[..., None] * G.square() * self.third[:, None] + 4 * G.pow(3) * self.fourth[:, None]
        by_G = by_G - torch.diag_embed(4 * (m * self.variance + own * self.third))
        return torch.cat([by_G + by_m * self.mean[:, None], by_m], -1)

    def derivatives(
        self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]
    ) -> tuple[Float[Tensor, "n_inst n n_coefficients"], Float[Tensor, "n_inst n n_coefficients n_coefficients"]]:
        """`∂φ_j/∂g` and `∂²φ_j/∂g²`."""
        m, s2, _ = self._parts(G, b)
        variance, third, fourth = (moment[:, None] for moment in (self.variance, self.third, self.fourth))
        lean = G * variance
        curve = (12 * (m.square() + s2) - 4 * self.mean)[..., None]
        diagonal = curve * variance + 24 * m[..., None] * G * third + 12 * G.square() * fourth
        diagonal = diagonal - torch.diag_embed(4 * self.third)
        by_G = torch.diag_embed(diagonal) + 24 * lean[..., :, None] * lean[..., None, :]
        mixed = 24 * m[..., None] * lean + 12 * G.square() * third - torch.diag_embed(4 * self.variance)
        mixed, mean = mixed[..., None], self.mean[:, None, :, None]
        edge = mixed + curve[..., None] * mean
        inner = by_G + mixed * mean.mT + mean * edge.mT
        curved = torch.cat([torch.cat([inner, edge], -1), torch.cat([edge.mT, curve[..., None]], -1)], -2)
        return self.gradient(G, b), curved

    def select(self, instances: Int[Tensor, " n_selected"]) -> "SquareOutputs":
        """The losses of the chosen instances alone."""
        parts = (self.mean, self.variance, self.third, self.fourth)
        return SquareOutputs(*(part[instances] for part in parts))

    def _parts(self, G: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        m = (G @ self.mean[..., None])[..., 0] + b
        return m, (G.square() * self.variance[:, None]).sum(-1), G.diagonal(dim1=-2, dim2=-1)
