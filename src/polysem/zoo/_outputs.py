"""What an exact loss says about each output of an autoencoder, as a function of its pre-activation's coefficients."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class OutputLosses(Protocol):
    """Expected squared errors `φ_j = E (act(z_j) - x_j)²` of outputs `z_j = Σ_i G_ji x_i + b_j`.

    Derivatives are by the coefficients `(G_j1, ..., G_jN, b_j)` of the same output.
    """

    def value(self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]) -> Float[Tensor, "n_inst n"]:
        """Expected squared error of each output."""
        ...

    def gradient(
        self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]
    ) -> Float[Tensor, "n_inst n n_coefficients"]:
        """First derivatives of each by its coefficients."""
        ...

    def derivatives(
        self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]
    ) -> tuple[Float[Tensor, "n_inst n n_coefficients"], Float[Tensor, "n_inst n n_coefficients n_coefficients"]]:
        """First and second derivatives of each by its coefficients."""
        ...

    def select(self, instances: Int[Tensor, " n_selected"]) -> "OutputLosses":
        """The losses of the chosen instances alone."""
        ...


@runtime_checkable
class InputLaw(Protocol):
    """Moments of the inputs `u = (x_1, ..., x_N, 1)` on the side and on the edge of a half-space.

    Attributes:
        full: `E[u uᵀ]`.
    """

    @property
    def full(self) -> Float[Tensor, "n_inst n_coefficients n_coefficients"]:
        """`E[u uᵀ]`."""
        ...

    def active(
        self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]
    ) -> Float[Tensor, "n_inst n n_coefficients n_coefficients"]:
        """`E[u uᵀ 1(z_j >= 0)]` for each output j."""
        ...

    def edge(
        self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]
    ) -> Float[Tensor, "n_inst n n_coefficients n_coefficients"]:
        """`E[x_j u uᵀ δ(z_j)]` for each output j."""
        ...

    def select(self, instances: Int[Tensor, " n_selected"]) -> "InputLaw":
        """The law of the chosen instances alone."""
        ...


@dataclass(frozen=True)
class KinkedOutputs:
    r"""Losses of an activation with slope `α` above 0 and `β` below, from moments of half-spaces.

    With `M = E[u uᵀ 1(z >= 0)]`, `M' = E[u uᵀ] - M`, `Λ = E[x_j u uᵀ δ(z)]`, `g = (G_j·, b_j)`:

        φ      = (α g - e_j)ᵀ M (α g - e_j) + (β g - e_j)ᵀ M' (β g - e_j)
        ∂φ/∂g  = 2 α M (α g - e_j) + 2 β M' (β g - e_j)
        ∂²φ    = 2 α² M + 2 β² M' - 2 (α - β) Λ

    The edge moves no first derivative, since the squared error is continuous there; its slope jumps by `x_j`.

    Attributes:
        law: moments of the inputs.
        slopes: `(α, β)`.

    Source: ours.
    """

    law: InputLaw
    slopes: tuple[float, float]

    def value(self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]) -> Float[Tensor, "n_inst n"]:
        """`φ_j`."""
        return sum((((M @ d[..., None])[..., 0] * d).sum(-1) for _, M, d in self._sides(G, b)), torch.zeros_like(b))

    def gradient(
        self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]
    ) -> Float[Tensor, "n_inst n n_coefficients"]:
        """`∂φ_j/∂g`."""
        return _slope(self._sides(G, b))

    def derivatives(
        self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]
    ) -> tuple[Float[Tensor, "n_inst n n_coefficients"], Float[Tensor, "n_inst n n_coefficients n_coefficients"]]:
        """`∂φ_j/∂g` and `∂²φ_j/∂g²`."""
        sides = self._sides(G, b)
        above, below = (2 * slope**2 * M for slope, M, _ in sides)
        return _slope(sides), above + below - 2 * (self.slopes[0] - self.slopes[1]) * self.law.edge(G, b)

    def select(self, instances: Int[Tensor, " n_selected"]) -> "KinkedOutputs":
        """The losses of the chosen instances alone."""
        return KinkedOutputs(self.law.select(instances), self.slopes)

    def _sides(self, G: Tensor, b: Tensor) -> list[tuple[float, Tensor, Tensor]]:
        """Slope, moments, and coefficients of the error `act(z) - x_j` above and below 0."""
        g = torch.cat([G, b[..., None]], -1)
        target = torch.eye(*g.shape[1:], dtype=g.dtype, device=g.device)
        M = self.law.active(G, b)
        rest = self.law.full[:, None] - M
        return [(s, moments, s * g - target) for s, moments in zip(self.slopes, (M, rest), strict=True)]


def _slope(sides: list[tuple[float, Tensor, Tensor]]) -> Tensor:
    above, below = ((2 * slope * M @ d[..., None])[..., 0] for slope, M, d in sides)
    return above + below
