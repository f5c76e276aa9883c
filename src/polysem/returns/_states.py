"""Hidden states of a network: how they move together with features, and how inputs move them."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polysem import _checks
from polysem._hooks import replaced_output
from polysem.returns._readouts import Batch

CONSTANT = 1e-12
"""A variance below this share of the mean square is rounding."""


@dataclass(frozen=True)
class StateMoments:
    """Moments of one state, over weighted samples and all positions.

    Attributes:
        mean: of the state `[d_hidden]`.
        covariance: of the state `[d_hidden, d_hidden]`.
        cross: `Cov(f_j, h)` as rows.
    """

    mean: Float[Tensor, " d_hidden"]
    covariance: Float[Tensor, "d_hidden d_hidden"]
    cross: Float[Tensor, "n_features d_hidden"]


@dataclass(frozen=True)
class Moments:
    """Moments of the features and of every state.

    Attributes:
        mean: of each feature.
        variance: of each feature; 0 for one that does not vary.
        states: one for each submodule.
    """

    mean: Float[Tensor, " n_features"]
    variance: Float[Tensor, " n_features"]
    states: tuple[StateMoments, ...]


def states(model: nn.Module, inputs: Tensor, modules: Sequence[str]) -> list[Tensor]:
    """What submodules return in one run of the network."""
    seen: dict[str, list[Tensor]] = {name: [] for name in modules}

    def keep(name: str) -> Callable[[Tensor], Tensor]:
        def kept(value: Tensor) -> Tensor:
            seen[name].append(value)
            return value

        return kept

    with ExitStack() as hooks:
        for name in modules:
            hooks.enter_context(replaced_output(model, name, keep(name)))
        model(inputs)
    for name, values in seen.items():
        _checks.require(len(values) == 1, f"runs of submodule {name!r}", len(values), "exactly one in a forward pass")
    return [seen[name][0] for name in modules]


@torch.no_grad()
def moments(
    model: nn.Module, batch: Batch, features: Tensor, modules: Sequence[str], share: Tensor, step: int
) -> Moments:
    """Moments in one run over the batch, `step` samples at a time; `share` `[n_samples]` sums to 1."""
    inputs = batch[0] if isinstance(batch, tuple) else batch
    first, squares = (torch.zeros(features.shape[-1], dtype=torch.float64, device=features.device) for _ in range(2))
    sums: dict[str, list[Tensor]] = {}
    for start in range(0, len(features), step):
        part = slice(start, start + step)
        f = features[part]
        weight = (share[part] / f[0, ..., 0].numel()).repeat_interleave(f[0, ..., 0].numel())
        f = f.reshape(-1, f.shape[-1]).double()
        weighted = weight[:, None] * f
        first += weighted.sum(0)
        squares += (weighted * f).sum(0)
        for name, h in zip(modules, states(model, inputs[part], modules), strict=True):
            fits = h.shape[:-1] == features[part].shape[:-1]
            allowed = f"[{', '.join(map(str, features[part].shape[:-1]))}, d_hidden], as the features"
            _checks.require(fits, f"shape of submodule {name!r}", tuple(h.shape), allowed)
            h = h.reshape(-1, h.shape[-1]).double()
            parts = weight @ h, h.mT @ (weight[:, None] * h), weighted.mT @ h
            sums[name] = [a + b for a, b in zip(sums[name], parts, strict=True)] if name in sums else [*parts]
    found = []
    for name in modules:
        mean, second, cross = sums[name]
        _checks.finite_rows(f"state of submodule {name!r}", second)
        found.append(StateMoments(mean, second - mean[:, None] * mean, cross - first[:, None] * mean))
    variance = squares - first.square()
    return Moments(first, torch.where(variance > CONSTANT * squares, variance, 0.0), tuple(found))


@torch.no_grad()
def average_jacobians(
    model: nn.Module, inputs: Tensor, modules: Sequence[str], share: Tensor, step: int
) -> list[Float[Tensor, "n_features d_hidden"]]:
    r"""`E ∂h/∂x_j` as rows, at every submodule, by forward-mode differentiation.

    Feature j moves at all positions at once. Blocks of features run side by side as further samples.
    """
    n = inputs.shape[-1]
    rows: list[list[Tensor]] = [[] for _ in modules]
    samples = max(1, min(step, len(inputs)))
    block = max(1, step // samples)

    def run(x: Tensor) -> tuple[Tensor, ...]:
        return tuple(states(model, x, modules))

    for start in range(0, n, block):
        size = min(block, n - start)
        moved: list[Any] = [0.0] * len(modules)
        for part in _parts(len(inputs), samples):
            x = inputs[part]
            along = torch.zeros(size, *x.shape, dtype=x.dtype, device=x.device)
            each = torch.arange(size, device=x.device)
            along[each, ..., start + each] = 1
            copies = x.expand_as(along).flatten(0, 1)
            with warnings.catch_warnings():
                # PyTorch loads its own rules of forward mode with a function that it has deprecated.
                warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
                slopes = torch.func.jvp(run, (copies,), (along.flatten(0, 1),))[1]
            for k, slope in enumerate(slopes):
                slope = slope.unflatten(0, (size, len(x))).double()
                slope = slope.flatten(2, -2).mean(2) if slope.ndim > 3 else slope
                moved[k] = moved[k] + torch.einsum("s,bsd->bd", share[part], slope)
        for kept, value in zip(rows, moved, strict=True):
            kept.append(value)
    return [torch.cat(kept) for kept in rows]


def _parts(n: int, step: int) -> Iterator[slice]:
    for start in range(0, n, step):
        yield slice(start, start + step)
