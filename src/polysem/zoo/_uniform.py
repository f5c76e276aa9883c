"""Half-space moments of sparse uniform inputs, exact while at most two features are active, or three of three."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysem.zoo import _pieces

CHUNK_ELEMENTS = 2**14
"""Entries of the tensors worked on at a time: they stay in a processor's cache."""


@dataclass(frozen=True)
class UniformLaw:
    r"""Inputs `x_i = scale_i · U`, `U` uniform on `[low, 1]`, with few features active.

    Means are over the events "none", "only i", "only i and k", and "all three" of three features; larger supports are
    left out.

    Attributes:
        none: chance of no active feature.
        one: chance that i alone is active.
        two: chance that i and k alone are active, 0 on the diagonal.
        three: chance that all three are active; empty unless there are three features.
        low: 0, or -1 for signed features.
        scale: factor of each feature.

    Source: ours.
    """

    none: Float[Tensor, " n_inst"]
    one: Float[Tensor, "n_inst n"]
    two: Float[Tensor, "n_inst n n"]
    three: Float[Tensor, "n_inst n_triples"]
    low: float
    scale: Float[Tensor, "n_inst n"]

    @property
    def full(self) -> Float[Tensor, "n_inst n_coefficients n_coefficients"]:
        """`E[u uᵀ]`."""
        mean, square = (1 + self.low) / 2, (1 - self.low**3) / (1 - self.low) / 3
        every = self.three.sum(-1, keepdim=True)
        some = self.one + self.two.sum(-1) + every
        total = self.none + self.one.sum(-1) + self.two.sum((-2, -1)) / 2 + every[:, 0]
        second = (self.two + every[..., None]) * mean**2
        second.diagonal(dim1=-2, dim2=-1).copy_(some * square)
        first = (some * mean)[..., None]
        M = torch.cat([torch.cat([second, first], -1), torch.cat([first.mT, total[:, None, None]], -1)], -2)
        return self._scaled(M[:, None])[:, 0]

    def active(
        self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]
    ) -> Float[Tensor, "n_inst n n_coefficients n_coefficients"]:
        """`E[u uᵀ 1(z_j >= 0)]`."""
        n_inst, n = b.shape
        slopes = (G * self.scale[:, None]).permute(2, 0, 1)
        cells = G.new_zeros((n + 1) ** 2, n_inst, n)
        cells[-1] = self.none[:, None] * (b >= 0)
        for instances, members, chance in self._supports(n):
            moments = _pieces.side([slopes[i, instances] for i in members], b[instances], self.low)
            _add(chance[..., None] * moments, _places(members, n), cells[:, instances])
        return self._scaled(_symmetric(cells.view(n + 1, n + 1, n_inst, n).permute(2, 3, 0, 1)))

    def edge(
        self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]
    ) -> Float[Tensor, "n_inst n n_coefficients n_coefficients"]:
        """`E[x_j u uᵀ δ(z_j)]`; supports without j have no `x_j`."""
        n_inst, n = b.shape
        slopes = (G * self.scale[:, None]).permute(1, 2, 0)
        cells = G.new_zeros((n + 1) ** 2 * n, n_inst)
        for instances, members, chance in self._supports(1):
            members = torch.cat([members.roll(-first, 0) for first in range(len(members))], 1)
            own, chance = members[0], chance.repeat(len(members), 1)
            moments = _pieces.edge([slopes[own, i, instances] for i in members], b.mT[own, instances], self.low)
            _add(chance * moments, _places(members, n) * n + own, cells[:, instances])
        M = _symmetric(cells.view(n + 1, n + 1, n, n_inst).permute(3, 2, 0, 1))
        return self.scale[..., None, None] * self._scaled(M)

    def select(self, instances: Int[Tensor, " n_selected"]) -> "UniformLaw":
        """The law of the chosen instances alone."""
        parts = (part[instances] for part in (self.none, self.one, self.two, self.three, self.scale))
        none, one, two, three, scale = parts
        return UniformLaw(none, one, two, three, self.low, scale)

    def _supports(self, n_outputs: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Blocks of instances, and of sets of active features: members `[size, n_sets]`, chances `[n_sets, block]`."""
        n_inst, n = self.one.shape
        features = torch.arange(n, device=self.one.device)
        i, k = pairs = torch.triu_indices(n, n, 1, device=self.one.device)
        sets = [(features[None], self.one), (pairs, self.two[:, i, k])]
        if self.three.numel():
            sets.append((features[:, None], self.three))
        block = max(1, min(n_inst, CHUNK_ELEMENTS // n_outputs))
        for start in range(0, n_inst, block):
            instances = slice(start, start + block)
            for members, chance in sets:
                size = max(1, CHUNK_ELEMENTS // (n_outputs * block))
                split = torch.split(members, size, dim=1), torch.split(chance[instances].mT, size)
                yield from ((instances, some, their) for some, their in zip(*split, strict=True))

    def _scaled(self, M: Tensor) -> Tensor:
        u = torch.cat([self.scale, torch.ones_like(self.scale[:, :1])], -1)[:, None]
        return M * u[..., :, None] * u[..., None, :]


def _places(members: Tensor, n: int) -> Tensor:
    """Where in `E[u uᵀ]`, on one side of the diagonal, the moments of some features stand `[n_pairs, n_sets]`."""
    rows, columns = zip(*_pieces.pairs(len(members)), strict=True)
    u = torch.cat([members, torch.full_like(members[:1], n)])
    return u[list(rows)] * (n + 1) + u[list(columns)]


def _add(moments: Tensor, places: Tensor, cells: Tensor) -> None:
    cells.index_add_(0, places.flatten(), moments.flatten(0, 1))


def _symmetric(half: Tensor) -> Tensor:
    """A symmetric matrix from its entries at and on one side of the diagonal, whichever side each stands on."""
    M = half + half.mT
    M.diagonal(dim1=-2, dim2=-1).div_(2)
    return M
