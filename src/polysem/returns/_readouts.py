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
        _check_origin(self.origin, self.rows)

    def pieces(self, model: Any, batch: Batch, loss: Losses) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Some features at a time, their readouts and the slopes of the summed loss by them."""
        h, slope = _with_slope(model, batch, loss, self.module)
        h = _checked_state(self.module, h, self.rows, self.origin)
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


@dataclass(frozen=True)
class Private:
    r"""Readouts of a hidden state, each felt by the loss of its own feature alone.

        dL_i/dz_i = (∂L_i/∂h · W_i) / R_ii

    A change of readout i re-enters the network as if its feature had changed: along `W_i`. Only the loss of feature i
    feels it, as if that one read a copy of the state: what the others read stays. With rows that the outputs read, in
    the state that they read, it is what `Exposed` measures there. All features share a backward pass: each loss has a
    random sign in each sample, so that what others say cancels in the mean.

    Attributes:
        module: as in `Hidden`.
        rows: `V`, readouts as rows `[n_features, d_hidden]`.
        embedding: `W` `[n_features, d_hidden]`, the same as that of the measurement.
        generator: source of the signs.
        origin: as in `Hidden`.
        passes: backward passes over which the features are spread; `n_features` of them leave nothing to chance.

    Source: ours.
    """

    module: str
    rows: Float[Tensor, "n_features d_hidden"]
    embedding: Float[Tensor, "n_features d_hidden"]
    generator: torch.Generator
    origin: Float[Tensor, " d_hidden"] | None = None
    passes: int = 1

    def __post_init__(self) -> None:
        """Check rows, embedding, origin and passes."""
        _check_rows(self.rows)
        W, shape = _checks.matrix("embedding", self.embedding), tuple(self.rows.shape)
        _checks.require(tuple(W.shape) == shape, "shape of embedding", tuple(W.shape), f"{shape}")
        _check_origin(self.origin, self.rows)
        passes = _checks.whole("passes", self.passes)
        _checks.require(passes <= len(self.rows), "passes", passes, f"at most n_features = {len(self.rows)}")

    def pieces(self, model: Any, batch: Batch, loss: Losses) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Some features at a time, their readouts and the slopes of their losses by them."""
        h, losses = _with_losses(model, batch, loss, self.module)
        seen = _checked_state(self.module, h.detach(), self.rows, self.origin)
        shape = (*h.shape[:-1], len(self.rows))
        _checks.require(tuple(losses.shape) == shape, "shape of loss", tuple(losses.shape), f"{shape}")
        W, V = self.embedding.detach().double(), self.rows.detach().double()
        own = torch.linalg.vecdot(V, W)
        felt = (W / torch.where(own != 0, own, torch.inf)[:, None]).to(seen)
        for start in range(self.passes):
            part = slice(start, None, self.passes)
            count = losses[..., part].shape
            signs = 2 * torch.randint(2, count, generator=self.generator, device=self.generator.device).to(seen) - 1
            again = start + 1 < self.passes
            (slope,) = torch.autograd.grad((signs * losses[..., part]).sum(), h, retain_graph=again)
            yield part, seen @ V[part].mT.to(seen), signs * (slope @ felt[part].mT)


def _check_rows(rows: object) -> None:
    _checks.matrix("rows", rows)


def _check_origin(origin: object, rows: Tensor) -> None:
    if origin is not None:
        shape = tuple(_checks.floating("origin", origin).shape)
        _checks.require(shape == (rows.shape[1],), "shape of origin", shape, f"({rows.shape[1]},)")
        assert isinstance(origin, Tensor)
        _checks.finite_rows("origin", origin[None])


def _checked_state(name: str, h: Tensor, rows: Tensor, origin: Tensor | None) -> Tensor:
    """The state from its origin."""
    allowed = f"[n_samples, ..., d_hidden = {rows.shape[1]}]"
    _checks.require(h.shape[-1] == rows.shape[1], f"shape of submodule {name!r}", tuple(h.shape), allowed)
    return h if origin is None else h - origin.to(h)


def _with_slope(model: Any, batch: Batch, loss: Losses, where: str | Callable[[Any], Tensor]) -> tuple[Tensor, Tensor]:
    """A value inside the network, and the slope of the summed loss by it."""
    value, losses = _with_losses(model, batch, loss, where)
    (slope,) = torch.autograd.grad(losses.sum(), value)
    return value.detach(), slope


def _with_losses(model: Any, batch: Batch, loss: Losses, where: str | Callable[[Any], Tensor]) -> tuple[Tensor, Tensor]:
    """A value inside the network, and the losses as functions of it; what comes before is not differentiated."""
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
    return seen[0], losses


def _check_losses(losses: object, n_samples: int) -> None:
    _checks.floating("loss", losses)
    assert isinstance(losses, Tensor)
    fits = losses.ndim >= 1 and len(losses) == n_samples
    _checks.require(fits, "shape of loss", tuple(losses.shape), f"one for each sample, [{n_samples}]")
    _checks.finite_rows("loss", losses.reshape(n_samples, -1))
