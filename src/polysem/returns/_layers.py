"""Capacity and prices at every hidden state of a network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polysem import _checks
from polysem.returns._prices import Prices, chunk_size, prices, shares
from polysem.returns._reading import RIDGE, halves, read, scale_of
from polysem.returns._readouts import Batch, Hidden, Private
from polysem.returns._states import average_jacobians, moments

EMBEDDINGS = ("slopes", "jacobian")


@dataclass(frozen=True)
class Layer:
    """Features in one hidden state of a network.

    Attributes:
        module: name of the submodule whose output is the state.
        embedding: `W` `[n_features, d_hidden]`, how the state moves with each feature.
        readout: `V` `[n_features, d_hidden]`, readouts as rows: `z_i = V_i·(h - origin)`.
        origin: mean state `[d_hidden]`.
        explained: squared correlation of each readout with its feature `[n_features]`.
        prices: capacities, classes of features and `dL/dC_i`.
    """

    module: str
    embedding: Float[Tensor, "n_features d_hidden"]
    readout: Float[Tensor, "n_features d_hidden"]
    origin: Float[Tensor, " d_hidden"]
    explained: Float[Tensor, " n_features"]
    prices: Prices

    @property
    def capacity(self) -> Float[Tensor, " n_features"]:
        """Response capacity `R_ii² / Σ_j R_ij²` with `R = V Wᵀ`."""
        return self.prices.capacity


def layers(
    model: nn.Module,
    batch: Batch,
    loss: Callable[[Any, Any], Tensor],
    modules: Sequence[str],
    *,
    features: Tensor | None = None,
    embedding: str | Mapping[str, Tensor] = "slopes",
    readout: Mapping[str, Tensor] | None = None,
    ridge: float = RIDGE,
    held_out: bool = True,
    per_feature: bool = False,
    standardise: bool = True,
    seed: int = 0,
    passes: int = 1,
    weight: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Layer, ...]:
    r"""Measure where features lie in every hidden state of a network, what capacity they have there, and its price.

        W_j = Cov(h, f_j) / Var f_j                               "slopes"
        W_j = E ∂h/∂x_j                                           "jacobian"
        V = argmin_V E |f - V (h - E h)|² + λ |V|²                λ = ridge · tr Cov(h) / d_hidden
        C_i = R_ii² / Σ_j R_ij²,  R = V Wᵀ

    then `prices` with `Hidden(module, V, E h)` or `Private`, features less their means: a constant is no interference.
    Readouts are fitted on every second sample, and all else is measured on the others: fitted to the chance
    correlations that also make its slope, a readout would follow a feature that is not there.

    - Slopes suit any features that are uncorrelated with each other, whatever they are: inputs, targets, parts of
      speech. Of a feature that is 0 or 1 the slope is the contrast `E[h | f_j = 1] - E[h | f_j = 0]`. Correlated
      features appear in each other's slopes, by chance too: that adds about `2 Var z_i n_features / n_samples` to
      `Σ_j R_ij²`, so take many more samples than features.
    - The average Jacobian suits features that are the inputs, also where they are correlated, and has little noise. It
      costs `n_features` forward passes and vanishes where the state follows an even function, such as `|x_j|`.

    With slopes and the ridge, a state that is linear in uncorrelated features gives each its leverage; wherever the
    state is not, capacity is at least `explained`, by as much as other things than features move the readouts.

    Prices of `Hidden` states are those of the loss as a whole. Where a network is at a minimum over a free linear
    embedding (with an offset) they are 0 in the state it makes, whatever the readouts: to lower the interference of
    one feature at the cost of others is to change the embedding. With `per_feature` nobody pays for it: the prices say
    what each feature would gain from a dimension more, and can be compared.

    Args:
        model: a network, called with the batch (with its first entry, if it is a tuple).
        batch: inputs with samples first, or a tuple of such tensors. Samples must not depend on each other.
        loss: from the network's output and the batch to the loss of each sample `[n_samples]` (summed over further
            axes), whose mean is `L`; one for each feature `[n_samples, *positions, n_features]` with `per_feature`.
        modules: names of submodules, each with a hidden state `[n_samples, *positions, d_hidden]` for output (or first
            in a tuple).
        features: `f_j`, `[n_samples, *positions, n_features]`, where they are not the inputs.
        embedding: "slopes", "jacobian" (all positions move together), or rows `[n_features, d_hidden]` per unit of the
            feature, by name of the submodule; slopes where there are none.
        readout: rows `[n_features, d_hidden]` by name of the submodule; the ridge regression where there are none.
        ridge: penalty, relative to the mean variance of the state's entries.
        held_out: fit readouts on samples 0, 2, 4, ... and measure on the others. Without it both see all samples: for
            batches that hold every outcome.
        per_feature: the loss of each feature alone feels what changes in its readout (`Private`).
        standardise: take every feature at unit variance, so that rows of `W` carry its standard deviation; otherwise
            in its own unit.
        seed: of the signs of `Private`.
        passes: backward passes of `Private`, at most `n_features`: the more, the less noise.
        weight: weights of the samples `[n_samples]`, none negative; by default all equal.
        chunk: how many samples go through the network at once; by default as many as have four million features.

    Returns:
        A `Layer` for each name, in this order, float64. Memory: `O(d_hidden (n_features + d_hidden))` for each, and the
        features once more.

    Raises:
        ValueError: no modules, an unknown name, one that runs more than once in a pass, shapes that do not fit, values
            that are not finite, a Jacobian by inputs that are not the features, a negative ridge; and as `prices`.
        TypeError: something that is no module or no tensor.

    Example:
        Two of three equal features share a dimension, before and after a rotation of it:

        >>> import torch
        >>> from torch import nn
        >>> from polysem.returns import layers
        >>> W = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
        >>> model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 2), nn.Linear(2, 3))
        >>> _ = model[0].load_state_dict({"weight": W.mT})
        >>> x = torch.cartesian_prod(*3 * [torch.tensor([-1.0, 1.0])])
        >>> found = layers(model, x, lambda y, x: (y - x).square().sum(-1), ["0", "1"], held_out=False)
        >>> [[round(C, 3) for C in layer.capacity.tolist()] for layer in found]
        [[0.5, 0.5, 1.0], [0.5, 0.5, 1.0]]

    Source: ours.
    """
    inputs = batch[0] if isinstance(batch, tuple) else batch
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    _checks.require(len(modules) > 0, "modules", modules, "at least one name")
    _checks.require(ridge >= 0, "ridge", ridge, "non-negative")
    x = _checks.floating("features" if features is not None else "batch", inputs if features is None else features)
    fits = len(x) == len(inputs) > 1 and x.ndim >= 2
    allowed = f"[n_samples = {len(inputs)}, ..., n_features], with at least two samples"
    _checks.require(fits, "shape of features", tuple(x.shape), allowed)
    if isinstance(embedding, str):
        _checks.require(embedding in EMBEDDINGS, "embedding", embedding, " or ".join(map(repr, EMBEDDINGS)))
        own = features is None or embedding != "jacobian"
        _checks.require(own, "features", "others", 'the inputs themselves where embedding="jacobian"')
    fitted, rest = halves(held_out)
    share, step = shares(weight, inputs), chunk_size(chunk, x[0].numel())
    probed = moments(model, _part(batch, fitted), x[fitted], modules, _share(share[fitted]), step)
    batch, x, share = _part(batch, rest), x[rest], _share(share[rest])
    inputs = batch[0] if isinstance(batch, tuple) else batch
    measured = moments(model, batch, x, modules, share, step) if held_out else probed
    mean, variance = measured.mean, measured.variance
    size = {name: tuple(at.cross.shape) for name, at in zip(modules, measured.states, strict=True)}
    spread = scale_of(variance, standardise)
    if embedding == "jacobian":
        slopes = average_jacobians(model, inputs, modules, share, step)
        rows: Mapping[str, Tensor] = dict(zip(modules, slopes, strict=True))
    else:
        rows = {} if isinstance(embedding, str) else _checked("embedding", embedding, size)
    reading = _checked("readout", readout or {}, size)
    x = (x - mean.to(x)) / spread.to(x)
    result = []
    for name, probe, at in zip(modules, probed.states, measured.states, strict=True):
        found = read(probe, at, variance, spread, ridge, rows.get(name), reading.get(name))
        W, V = found.embedding, found.readout
        site: Hidden | Private = Hidden(name, V, at.mean)
        if per_feature:
            site = Private(name, V, W, torch.Generator().manual_seed(seed), at.mean, passes)
        priced = prices(model, batch, loss, readout=site, embedding=W, features=x, weight=share, chunk=step)
        result.append(Layer(name, W, V, at.mean, found.explained, priced))
    return tuple(result)


def _part(batch: Batch, samples: slice) -> Batch:
    return tuple(part[samples] for part in batch) if isinstance(batch, tuple) else batch[samples]


def _share(share: Tensor) -> Tensor:
    total = float(share.sum())
    _checks.require(total > 0, "weight", share, "positive for some of every second sample, from 0 and from 1 on")
    return share / total


def _checked(kind: str, rows: Mapping[str, Tensor], size: Mapping[str, tuple[int, ...]]) -> Mapping[str, Tensor]:
    for name, value in rows.items():
        _checks.require(name in size, f"name in {kind}", name, f"one of {', '.join(map(repr, size))}")
        shape = tuple(_checks.matrix(f"{kind} of {name!r}", value).shape)
        _checks.require(shape == size[name], f"shape of {kind} of {name!r}", shape, f"{size[name]}")
    return rows
