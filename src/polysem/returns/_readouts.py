"""Where a network's readouts are, and how its loss moves with them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polysem import _checks
from polysem._hooks import replaced_output

BLOCK_ELEMENTS = 2**20
"""Readouts of so many samples and features are held at once."""

Batch = Tensor | tuple[Tensor, ...]
Losses = Callable[[Any, Any], Tensor]
"""From what a network returns and its batch, the loss of each sample `[n_samples, ...]`, summed over further axes."""


@dataclass(frozen=True)
class Hidden:
    """Readouts of a hidden state, `z_i = V_i·(h - h_0)`.

    A change of readout i re-enters the network as a change of `h` along `d_i`, row i of the dual frame `V (VᵀV)⁺`: it
    moves no other readout if there are no more features than dimensions, and else the others as little as can be.

    Attributes:
        module: name of the submodule whose output is `h` `[n_samples, *positions, d_hidden]` (or starts a tuple).
        rows: `V`, readouts as rows `[n_features, d_hidden]`.
        origin: `h_0` `[d_hidden]`; by default 0. With the mean state, and features less their means, what is constant
            in a readout does not count as interference.

    Source: ours.
    """

    module: str
    rows: Float[Tensor, "n_features d_hidden"]
    origin: Float[Tensor, " d_hidden"] | None = None

    def __post_init__(self) -> None:
        """Check the rows and the origin."""
        _check_rows(self.rows)
        if self.origin is not None:
            origin, shape = _checks.floating("origin", self.origin), (self.rows.shape[1],)
            _checks.require(origin.shape == shape, "shape of origin", tuple(origin.shape), f"{shape}")
            _checks.finite_rows("origin", origin[None])

    def pieces(self, model: Any, batch: Batch, loss: Losses) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Some features at a time, their readouts and the slopes of the summed loss by them."""
        h, slope = _with_slope(model, batch, loss, self.module)
        allowed = f"[n_samples, ..., d_hidden = {self.rows.shape[1]}]"
        _checks.require(
            h.shape[-1] == self.rows.shape[1], f"shape of submodule {self.module!r}", tuple(h.shape), allowed
        )
        h = h if self.origin is None else h - self.origin.to(h)
        V = self.rows.to(h)
        through = slope @ self._inverse.to(h)
        step = max(1, BLOCK_ELEMENTS // h.shape[:-1].numel())
        for start in range(0, len(V), step):
            part = slice(start, start + step)
            yield part, h @ V[part].mT, through @ V[part].mT

    @cached_property
    def _inverse(self) -> Float[Tensor, "d_hidden d_hidden"]:
        """`(VᵀV)⁺`, from rows to their dual frame."""
        V = self.rows.detach().double()
        inverse: Tensor = torch.linalg.pinv(V.mT @ V, hermitian=True)
        return inverse


@dataclass(frozen=True)
class Exposed:
    """Readouts that the network computes as values of their own, one for each feature.

    Attributes:
        z: name of the submodule whose output is `z` `[n_samples, *positions, n_features]` (the loss is then a function
            of the network's output); or a callable from the batch to `z` (the loss is then a function of `z`).
        rows: `V` `[*batch, n_features, d_hidden]` with `R = V Wᵀ`, for the embedding `W` that goes with it.

    Source: ours.
    """

    z: str | Callable[[Any], Tensor]
    rows: Float[Tensor, "*batch n_features d_hidden"]

    def __post_init__(self) -> None:
        """Check the rows."""
        _check_rows(self.rows)

    def pieces(self, model: Any, batch: Batch, loss: Losses) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """All features at once, their readouts and the slopes of the summed loss by them."""
        z, slope = _with_slope(model, batch, loss, self.z)
        n = self.rows.shape[-2]
        _checks.require(
            z.shape[-1] == n, "shape of the readouts", tuple(z.shape), f"[n_samples, ..., n_features = {n}]"
        )
        yield slice(None), z, slope


def _check_rows(rows: object) -> None:
    _checks.matrix("rows", rows)


def _with_slope(model: Any, batch: Batch, loss: Losses, where: str | Callable[[Any], Tensor]) -> tuple[Tensor, Tensor]:
    """A value inside the network, and the slope of the summed loss by it; what comes before is not differentiated."""
    inputs = batch[0] if isinstance(batch, tuple) else batch
    seen: list[Tensor] = []

    def cut(value: Tensor) -> Tensor:
        seen.append(value.detach().requires_grad_())
        return seen[-1]

    with torch.enable_grad():
        if callable(where):
            with torch.no_grad():
                value = where(batch)
            losses = loss(cut(value), batch)
        else:
            if not isinstance(model, nn.Module):
                raise TypeError(
                    f"model must be a torch.nn.Module where a submodule is named, got {type(model).__name__}"
                )
            with replaced_output(model, where, cut):
                losses = loss(model(inputs), batch)
        _checks.require(len(seen) == 1, f"runs of submodule {where!r}", len(seen), "exactly one in a forward pass")
        _check_losses(losses, len(inputs))
        if not losses.requires_grad:
            raise ValueError("loss must depend on the readouts, got one that has no gradient")
        (slope,) = torch.autograd.grad(losses.sum(), seen[0])
    return seen[0].detach(), slope


def _check_losses(losses: object, n_samples: int) -> None:
    _checks.floating("loss", losses)
    assert isinstance(losses, Tensor)
    fits = losses.ndim >= 1 and len(losses) == n_samples
    _checks.require(fits, "shape of loss", tuple(losses.shape), f"one for each sample, [{n_samples}]")
    _checks.finite_rows("loss", losses.reshape(n_samples, -1))
