"""Half-space moments of sparse uniform inputs, exact while at most two features are active."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysem.zoo import _pieces

CHUNK_ELEMENTS = 2**20


@dataclass(frozen=True)
class UniformLaw:
    r"""Inputs `x_i = scale_i · U`, `U` uniform on `[low, 1]`, with at most two features active.

    Means are over the events "none", "only i" and "only i and k"; larger supports are left out.

    Attributes:
        none: chance of no active feature.
        one: chance that i alone is active.
        two: chance that i and k alone are active, 0 on the diagonal.
        low: 0, or -1 for signed features.
        scale: factor of each feature.

    Source: ours.
    """

    none: Float[Tensor, " n_inst"]
    one: Float[Tensor, "n_inst n"]
    two: Float[Tensor, "n_inst n n"]
    low: float
    scale: Float[Tensor, "n_inst n"]

    @property
    def full(self) -> Float[Tensor, "n_inst n_coefficients n_coefficients"]:
        """`E[u uᵀ]`."""
        mean, square = (1 + self.low) / 2, (1 - self.low**3) / (1 - self.low) / 3
        some = self.one + self.two.sum(-1)
        total = self.none + self.one.sum(-1) + self.two.sum((-2, -1)) / 2
        return _bordered(self.two * mean**2 + torch.diag_embed(some * square), some * mean, total, self.scale)

    def active(
        self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]
    ) -> Float[Tensor, "n_inst n n_coefficients n_coefficients"]:
        """`E[u uᵀ 1(z_j >= 0)]`."""
        G, b = G * self.scale[:, None], b[..., None]
        total, mean, square = (self.one[:, None] * moment for moment in _pieces.interval(G, b, self.low))
        total = total.sum(-1) + self.none[:, None] * (b[..., 0] >= 0)
        n = G.shape[-1]
        cross = G.new_zeros(*G.shape, n)
        pairs = torch.triu_indices(n, n, 1, device=G.device)
        for i, k in torch.split(pairs, max(1, CHUNK_ELEMENTS // b.numel()), dim=1):
            pair = self.two[:, i, k][:, None]
            moments = _pieces.square(G[..., i], G[..., k], b, self.low)
            zeroth, x, y, xx, xy, yy = (pair * moment for moment in moments)
            total = total + zeroth.sum(-1)
            mean = mean.index_add(-1, i, x).index_add(-1, k, y)
            square = square.index_add(-1, i, xx).index_add(-1, k, yy)
            cross[..., i, k] = xy
            cross[..., k, i] = xy
        cross.diagonal(dim1=-2, dim2=-1).copy_(square)
        return _bordered(cross, mean, total, self.scale[:, None])

    def edge(
        self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]
    ) -> Float[Tensor, "n_inst n n_coefficients n_coefficients"]:
        """`E[x_j u uᵀ δ(z_j)]`; supports without j have no `x_j`."""
        G = G * self.scale[:, None]
        own = G.diagonal(dim1=-2, dim2=-1)
        x, mass = _pieces.interval_edge(own, b, self.low)
        mass = mass * self.one * x
        j, k = (~torch.eye(G.shape[-1], dtype=torch.bool, device=G.device)).nonzero().unbind(-1)
        pair = self.two[:, j, k]
        moments = _pieces.square_edge(own[:, j], G[:, j, k], b[:, j], self.low)
        zeroth, with_own, with_other, own_own, own_other, others = (
            _matrix(pair * moment, j, k, G.shape[-1]) for moment in moments
        )
        second = torch.diag_embed(others)
        by_output = second.diagonal(dim1=1, dim2=2)  # [n_inst, k, j] views of [j, j, k] and [j, k, j]
        by_output += own_other.mT
        second.diagonal(dim1=1, dim2=3).add_(own_other.mT)
        second.diagonal(dim1=1, dim2=2).diagonal(dim1=1, dim2=2).add_(mass * x * x + own_own.sum(-1))
        first = with_other + torch.diag_embed(mass * x + with_own.sum(-1))
        return self.scale[..., None, None] * _bordered(second, first, mass + zeroth.sum(-1), self.scale[:, None])

    def select(self, instances: Int[Tensor, " n_selected"]) -> "UniformLaw":
        """The law of the chosen instances alone."""
        none, one, two, scale = (part[instances] for part in (self.none, self.one, self.two, self.scale))
        return UniformLaw(none, one, two, self.low, scale)


def _matrix(values: Tensor, rows: Tensor, columns: Tensor, n: int) -> Tensor:
    """`[*batch, n, n]` with the values at the given places and 0 elsewhere."""
    result = values.new_zeros(*values.shape[:-1], n, n)
    result[..., rows, columns] = values
    return result


def _bordered(second: Tensor, first: Tensor, zeroth: Tensor, scale: Tensor) -> Tensor:
    """Moments of `u = (scale x, 1)` from the second, first and zeroth moments of `x`."""
    second = second * scale[..., :, None] * scale[..., None, :]
    first = (first * scale)[..., None]
    return torch.cat([torch.cat([second, first], -1), torch.cat([first.mT, zeroth[..., None, None]], -1)], -2)
