"""Features as directions in a recorded state, with their capacities and what these would be without the features."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from polysem.measure import prediction_interval, response_capacity

DRAWS = 20


class DirectionsNull(StrEnum):
    """What was drawn at random."""

    PERMUTED = "features of other samples"
    """The same features, dealt out to the samples at random: what a feature would have that is not there."""
    TURNED = "directions at random"
    """Each row and its readout, turned together at random: norms and own responses `R_ii` stay."""


@dataclass(frozen=True)
class FeatureDirections:
    """Features in one state of a network.

    Attributes:
        names: of the features.
        embedding: `W` `[n_features, d_hidden]`, how the state moves with each feature, at its scale.
        readout: `V` `[n_features, d_hidden]`, readouts as rows.
        explained: how much of each feature its readout explains `[n_features]`; how is said where it was found.
        null: capacities under the null `[n_draws, n_features]`.
        null_kind: which null.
    """

    names: tuple[str, ...]
    embedding: Float[Tensor, "n_features d_hidden"]
    readout: Float[Tensor, "n_features d_hidden"]
    explained: Float[Tensor, " n_features"]
    null: Float[Tensor, "n_draws n_features"]
    null_kind: DirectionsNull

    @cached_property
    def capacity(self) -> Float[Tensor, " n_features"]:
        """Response capacity `R_ii² / Σ_j R_ij²` with `R = V Wᵀ`."""
        return response_capacity(self.embedding, self.readout)

    @property
    def total(self) -> float:
        """`Σ_i C_i`, at most `d_hidden`."""
        return float(self.capacity.sum())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % prediction interval of the total under the null."""
        return prediction_interval(self.null.sum(-1))

    @property
    def p_value(self) -> Float[Tensor, " n_features"]:
        """Chance that the null gives a feature at least the capacity that it has."""
        as_much: Tensor = (self.null >= self.capacity).sum(0).double()
        return (1 + as_much) / (1 + len(self.null))

    @property
    def says(self) -> str:
        """The outcome in a line."""
        n, d = self.embedding.shape
        low, high = self.interval
        return (
            f"capacity {self.total:.2f} of {n} features in {d} dimensions "
            f"({self.null_kind}: {max(low, 0):.2f} to {high:.2f}); explained {float(self.explained.mean()):.0%}"
        )


def turned(
    embedding: Float[Tensor, "n_features d_hidden"],
    readout: Float[Tensor, "n_features d_hidden"],
    draws: int,
    seed: int,
) -> Float[Tensor, "n_draws n_features"]:
    """Capacities where every feature's row and readout are turned together, at random."""
    generator = torch.Generator(embedding.device).manual_seed(seed)
    length = torch.linalg.vector_norm(embedding, dim=-1)
    unit = functional.normalize(embedding, dim=-1)
    along = torch.linalg.vecdot(readout, unit)
    across = torch.linalg.vector_norm(readout - along[:, None] * unit, dim=-1)

    def direction() -> Tensor:
        drawn = torch.randn(embedding.shape, generator=generator, dtype=embedding.dtype, device=embedding.device)
        return functional.normalize(drawn, dim=-1)

    found = []
    for _ in range(draws):
        first, second = direction(), direction()
        second = second - torch.linalg.vecdot(second, first)[:, None] * first
        second = functional.normalize(second, dim=-1)
        found.append(response_capacity(length[:, None] * first, along[:, None] * first + across[:, None] * second))
    return torch.stack(found)
