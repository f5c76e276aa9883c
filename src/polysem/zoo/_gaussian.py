"""Half-space moments of sparse Gaussian inputs: closed forms given which features are active."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

CHUNK_ELEMENTS = 2**20
FAR = 40.0
"""Standard deviations beyond which the normal density is 0 in float64."""
LEAST = 1e-90
"""Standard deviation that counts as none: its cube and the cube of its inverse are still numbers."""


@dataclass(frozen=True)
class GaussianLaw:
    r"""Inputs `x_i = scale_i · N(0, 1)` where active, over a list of supports with their chances.

    Given the support S, `z = g·x + b` has standard deviation `s = |g_S|`. With `e = g_S / s` and `β = b / s`,

        E[1(z >= 0)]     = Φ(β)
        E[x 1(z >= 0)]   = φ(β) e
        E[x xᵀ 1(z >= 0)] = Φ(β) 1 - β φ(β) e eᵀ

    and on the edge, of density `φ(β) / s`, `x = -β e + ` a normal vector orthogonal to `e`.

    Attributes:
        masks: the supports, 1 where a feature is active.
        chance: of each support.
        scale: factor of each feature.

    Source: ours; moments of a normal law cut by a plane.
    """

    masks: Float[Tensor, "n_supports n"]
    chance: Float[Tensor, "n_inst n_supports"]
    scale: Float[Tensor, "n_inst n"]

    @property
    def full(self) -> Float[Tensor, "n_inst n_coefficients n_coefficients"]:
        """`E[u uᵀ]`."""
        squares = self.chance @ self.masks * self.scale.square()
        return torch.diag_embed(torch.cat([squares, self.chance.sum(-1, keepdim=True)], -1))

    def active(
        self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]
    ) -> Float[Tensor, "n_inst n n_coefficients n_coefficients"]:
        """`E[u uᵀ 1(z_j >= 0)]`."""
        g = G * self.scale[:, None]
        n = g.shape[-1]
        M = g.new_zeros(*g.shape[:2], n + 1, n + 1)
        for masks, chance in self._chunks(b.numel()):
            side, density, beta, inverse = _cut(g, b, masks)
            side, density = side * chance[:, None], density * chance[:, None] * inverse
            M[..., :n, :n] += torch.diag_embed(side @ masks) - _pairs(density * beta * inverse, masks) * _outer(g)
            M[..., :n, n] += density @ masks * g
            M[..., n, n] += side.sum(-1)
        M[..., n, :n] = M[..., :n, n]
        return self._scaled(M)

    def edge(
        self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]
    ) -> Float[Tensor, "n_inst n n_coefficients n_coefficients"]:
        """`E[x_j u uᵀ δ(z_j)]`; supports without j have no `x_j`."""
        g = G * self.scale[:, None]
        n = g.shape[-1]
        own = g.diagonal(dim1=-2, dim2=-1)[..., None]
        identity = torch.eye(n, dtype=g.dtype, device=g.device)
        M = g.new_zeros(*g.shape[:2], n + 1, n + 1)
        for masks, chance in self._chunks(b.numel()):
            _, density, beta, inverse = _cut(g, b, masks)
            # `own * inverse` is e_j, and every e comes with g: each factor 1 / s belongs to one of them.
            mass = density * inverse * chance[:, None] * masks.mT
            tilt = mass * beta * inverse
            third = _pairs(mass * beta * (3 - beta * beta) * inverse**3, masks) * _outer(g) * own[..., None]
            shared = tilt @ masks
            with_own = identity[:, :, None] * (shared * g)[..., None, :]
            M[..., :n, :n] += third - torch.diag_embed(shared * own) - with_own - with_own.mT
            M[..., :n, n] += (mass * (beta * beta - 1) * inverse**2) @ masks * g * own
            M[..., :n, n] += torch.diag_embed(mass.sum(-1))
            M[..., n, n] -= tilt.sum(-1) * own[..., 0]
        M[..., n, :n] = M[..., :n, n]
        return self._scaled(M) * self.scale[..., None, None]

    def select(self, instances: Int[Tensor, " n_selected"]) -> "GaussianLaw":
        """The law of the chosen instances alone."""
        return GaussianLaw(self.masks, self.chance[instances], self.scale[instances])

    def _chunks(self, n_outputs: int) -> Iterator[tuple[Tensor, Tensor]]:
        size = max(1, CHUNK_ELEMENTS // n_outputs)
        return zip(torch.split(self.masks, size), torch.split(self.chance, size, dim=-1), strict=True)

    def _scaled(self, M: Tensor) -> Tensor:
        u = torch.cat([self.scale, torch.ones_like(self.scale[:, :1])], -1)[:, None]
        return M * u[..., :, None] * u[..., None, :]


def support_losses(
    G: Float[Tensor, "n_inst n n"],
    b: Float[Tensor, "n_inst n"],
    scale: Float[Tensor, "n_inst n"],
    slopes: tuple[float, float],
    masks: Bool[Tensor, " n_draws #n_inst n"],
) -> Float[Tensor, "n_draws n_inst n"]:
    r"""Expected squared error of each output given the support, for slopes `(α, β)` above and below 0.

        E act(z)²    = α² [(b² + s²) Φ(b/s) + b s φ(b/s)] + β² [(b² + s²) Φ(-b/s) - b s φ(b/s)]
        E x_j act(z) = G_jj [α Φ(b/s) + β Φ(-b/s)]        for active j (Stein)

    Source: ours; Stein 1981 for the second line.
    """
    g, active = G * scale[:, None], masks.double()
    s = torch.einsum("ijk,sik->sij", g.square(), active.expand(-1, len(g), -1)).sqrt()
    side, density, _, _ = _normal(b, s)
    power, lean = b.square() + s.square(), b * s * density
    above, below = slopes
    squared = above**2 * (power * side + lean) + below**2 * (power * (1 - side) - lean)
    own = g.diagonal(dim1=-2, dim2=-1) * (above * side + below * (1 - side))
    return squared + active * scale * (scale - 2 * own)


def _cut(g: Tensor, b: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`Φ(β)`, `φ(β)`, `β` and `1 / s` of each output on each support."""
    return _normal(b[..., None], (g.square() @ masks.mT).sqrt())


def _normal(b: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    constant = s < LEAST
    inverse = torch.where(constant, 0.0, 1 / torch.where(constant, 1.0, s))
    far = torch.where(b >= 0, FAR, -FAR).to(b.dtype)
    beta = torch.where(constant, far, b * inverse).clamp(-FAR, FAR)
    density = torch.where(constant, 0.0, (-beta * beta / 2).exp() / math.sqrt(2 * math.pi))
    return torch.special.ndtr(beta), density, beta, inverse


def _pairs(weight: Tensor, masks: Tensor) -> Tensor:
    """`Σ_S weight_S mask_Si mask_Sk` for each instance and output."""
    both = (masks[:, :, None] * masks[:, None, :]).flatten(1)
    return (weight @ both).reshape(*weight.shape[:-1], masks.shape[-1], -1)


def _outer(g: Tensor) -> Tensor:
    return g[..., :, None] * g[..., None, :]
