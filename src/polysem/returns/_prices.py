"""Shadow prices of capacity: all marginal returns of a network as it is, from one backward pass."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from polysem import _checks
from polysem.features import SparseFeatures
from polysem.measure import FeatureClass, classify, response_capacity
from polysem.returns._exact_prices import exact_slopes
from polysem.returns._readouts import Batch, Exposed, Hidden, Losses, Private
from polysem.returns._result import Curves
from polysem.returns._toy_readouts import inputs_of, readouts_of
from polysem.zoo import ToyModel

CHUNK_ELEMENTS = 2**22


@dataclass(frozen=True)
class Prices:
    """What the loss loses with the next bit of capacity of each feature, given the network as it is.

    Attributes:
        price: `dL/dC_i` `[*batch, n_features]`, negative where capacity helps; 0 for features that are not impure,
            where scaled interference says nothing (`with_ends` gives them the ends of their curves).
        stderr: standard error of `price` over independent samples, given the response; 0 where `price` is.
        capacity: response capacity `C_i`.
        feature_class: a `measure.FeatureClass` for each feature: only impure ones have a price.
    """

    price: Float[Tensor, "*batch n_features"]
    stderr: Float[Tensor, "*batch n_features"]
    capacity: Float[Tensor, "*batch n_features"]
    feature_class: Int[Tensor, "*batch n_features"]

    def with_ends(self, curves: Curves) -> Float[Tensor, "*batch n_features"]:
        """Prices of all features: those of ignored ones at C = 0 and of pure ones at C = 1 from their curves.

        Args:
            curves: curves of the same features, from C = 0 to C = 1. At C = 0 a sampled curve has the slope of the
                chord to its next point, since it may jump: choose that point.

        Returns:
            `dL/dC_i`, finite.

        Raises:
            ValueError: curves of other features or without an end.
        """
        shape = curves.losses.shape[:-1]
        fits = shape == self.price.shape
        _checks.require(fits, "shape of curves", tuple(shape), f"that of the prices, {tuple(self.price.shape)}")
        curves.require_ends()
        slope = -curves.marginal_benefit.to(self.price)
        price = torch.where(self.feature_class == FeatureClass.IGNORED, slope[..., 0], self.price)
        return torch.where(self.feature_class == FeatureClass.PURE, slope[..., -1], price)


def prices(
    model: ToyModel | nn.Module | Callable[..., Any],
    batch: Batch | SparseFeatures,
    loss: Losses | object,
    *,
    readout: Hidden | Exposed | Private | None = None,
    embedding: Tensor | None = None,
    chunk: int | None = None,
    features: Tensor | None = None,
    weight: Tensor | None = None,
) -> Prices:
    r"""Measure how the loss moves with the capacity of every feature, from one forward and one backward pass.

        z_i(s) = R_ii x_i + √(1 - s_i) (z_i - R_ii x_i)
        dL/ds_i = -1/2 E[dL/dz_i (z_i - R_ii x_i)],   dC_i/ds_i = C_i (1 - C_i)

    Scaling the interference that readout i sees by `√(1 - s_i)` raises its capacity; everything else stays. For
    impure features only: with `C_i` near 1 there is no interference to scale, and near 0 there is no feature. At the
    best `a_i` this is the slope of the feature's curve (`returns.curve`); on the quadratic model it is `-2 a_i² / C_i²`
    at any `W`, which is `-μ` at the optimum. The matrix `R = V Wᵀ` is never formed.

    Of a toy model the loss and the readouts are known: pass `prices(model, x, importance)`, or
    `prices(model, SparseUniform(...), importance)` for the exact expected loss where there is one.

    - `QuadraticModel`: `z = x G`, `ŷ = Σ_i x_i z_i + b`.
    - `TiedAutoencoder`, `UntiedAutoencoder`: `z = x W Vᵀ`, outputs `act(z + b)`.
    - `HiddenLayerModel`, `ResidualMLP`: `z` are the outputs before offset and activation, features their targets,
      and the embedding the regression of the last layer's state on the targets, over the batch.

    Args:
        model: a stack of toy models; or a network, called with the batch (with its first entry, if it is a tuple).
        batch: inputs with samples first, or a tuple of such tensors. Samples must not depend on each other. For a
            `QuadraticModel`, or an autoencoder whose loss has a closed form, also the features themselves.
        loss: importance `v` or `I` of a toy model; or a callable from the network's output and the batch to the loss of
            each sample `[n_samples]` (summed over further axes), whose mean is `L`.
        readout: `Hidden`, `Exposed` or `Private`, where the readouts of a network are. For `Private` the loss is one
            for each feature `[n_samples, *positions, n_features]`.
        embedding: `W` `[n_features, d_hidden]`, how the hidden state moves with each feature.
        chunk: how many samples go through the network at once; by default as many as have four million features.
            Features of a `Hidden` state are read in blocks, so that memory stays bounded for any number of both.
        features: `x_i`, `[n_samples, *positions, n_features]`, where the inputs are something else.
        weight: weights of the samples `[n_samples]`, none negative; by default all equal.

    Returns:
        `Prices`, float64, with an axis `n_inst` first for toy models.

    Raises:
        ValueError: shapes that do not fit, features without an exact loss, no submodule of that name or one that runs
            more than once, a loss that is not finite, not one for each sample, or does not depend on the readouts.
        TypeError: a readout or an embedding that is missing, or given with a toy model; something that is no tensor.

    Example:
        At any point of a quadratic model the price is `-2 a_i² / C_i²`:

        >>> import torch
        >>> from polysem.features import SparseSign
        >>> from polysem.returns import prices
        >>> from polysem.zoo import QuadraticModel
        >>> model = QuadraticModel(2, d_hidden=1)
        >>> _ = model.load_state_dict({"W": torch.tensor([[[1.0], [0.5]]]), "b": torch.zeros(1)})
        >>> x = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)  # and their negatives: all outcomes
        >>> found = prices(model, x, [1.0, 1.0])
        >>> found.capacity, found.price
        (tensor([[0.8000, 0.2000]], dtype=torch.float64), tensor([[-3.1250, -3.1250]], dtype=torch.float64))
        >>> prices(model, SparseSign([1.0, 1.0]), [1.0, 1.0]).price
        tensor([[-3.1250, -3.1250]], dtype=torch.float64)

    Source: ours.
    """
    if isinstance(batch, SparseFeatures):
        if not isinstance(model, ToyModel):
            raise TypeError(f"batch must be samples where the model is no toy model, got {type(batch).__name__}")
        slopes = exact_slopes(model, batch, loss)
        return _priced(slopes, torch.zeros_like(slopes), model.embedding.detach(), model.readout.detach())
    inputs = batch[0] if isinstance(batch, tuple) else batch
    share = shares(weight, inputs)
    if isinstance(model, ToyModel):
        for name, value in (("readout", readout), ("embedding", embedding), ("features", features)):
            if value is not None:
                raise TypeError(f"{name} must be left out with a toy model, got {type(value).__name__}")
        x = inputs_of(model, inputs)
        with torch.no_grad():
            toy = readouts_of(model, x, share.to(x), loss)
        return _measure(model, x, toy.loss, toy.site, toy.embedding, toy.features, share, chunk)
    if not isinstance(readout, Hidden | Exposed | Private):
        raise TypeError(f"readout must be a Hidden, Exposed or Private for a network, got {type(readout).__name__}")
    if not callable(loss):
        raise TypeError(f"loss must be a callable for a network, got {type(loss).__name__}")
    W = _checks.matrix("embedding", embedding)
    _checks.require(W.shape == readout.rows.shape, "shape of embedding", tuple(W.shape), f"{tuple(readout.rows.shape)}")
    x = _checks.floating("features" if features is not None else "batch", inputs if features is None else features)
    fits = len(x) == len(inputs) and x.ndim >= 2 and x.shape[-1] == W.shape[-2]
    allowed = f"[n_samples = {len(inputs)}, ..., n_features = {W.shape[-2]}]"
    _checks.require(fits, "shape of features", tuple(x.shape), allowed)
    return _measure(model, batch, loss, readout, W.detach(), x, share, chunk)


def shares(weight: Tensor | None, inputs: Tensor) -> Float[Tensor, " n_samples"]:
    """Weights that sum to 1, float64."""
    n = len(inputs)
    if weight is None:
        return torch.full((n,), 1 / n, dtype=torch.float64, device=inputs.device)
    _checks.floating("weight", weight)
    _checks.require(tuple(weight.shape) == (n,), "shape of weight", tuple(weight.shape), f"({n},)")
    usable = bool((weight.isfinite() & (weight >= 0)).all()) and float(weight.sum()) > 0
    _checks.require(usable, "weight", weight, "finite, non-negative, and not all 0")
    return weight.double() / weight.double().sum()


def chunk_size(chunk: int | None, size: int) -> int:
    """How many samples of `size` values go through a network at once."""
    return max(1, CHUNK_ELEMENTS // size) if chunk is None else _checks.whole("chunk", chunk)


def _measure(
    model: Any,
    batch: Batch,
    loss: Losses,
    site: Hidden | Exposed | Private,
    embedding: Tensor,
    features: Tensor,
    share: Tensor,
    chunk: int | None,
) -> Prices:
    V, W = site.rows.detach().double(), embedding.double()
    own = torch.linalg.vecdot(V, W)
    step = chunk_size(chunk, features[0].numel())
    mean, leaning, squares = (torch.zeros_like(own) for _ in range(3))
    for samples in _slices(len(features), step):
        w, x = share[samples], features[samples]
        taken = tuple(part[samples] for part in batch) if isinstance(batch, tuple) else batch[samples]
        for part, z, slope in site.pieces(model, taken, loss):
            _checks.require(
                z.shape[:-1] == x.shape[:-1], "shape of features", tuple(x.shape), f"as the readouts, {tuple(z.shape)}"
            )
            moved = slope * torch.addcmul(z, own[..., part].to(z), x[..., part].to(z), value=-1)
            moved = moved.sum(tuple(range(1, moved.ndim - own.ndim))) if moved.ndim > own.ndim + 1 else moved
            squared = w.square()
            mean[..., part] += torch.tensordot(w.to(moved), moved, 1)
            leaning[..., part] += torch.tensordot(squared.to(moved), moved, 1)
            squares[..., part] += torch.tensordot(squared.to(moved), moved.square(), 1)
    _checks.finite_rows("slope of the loss by the readouts", mean[..., None])
    spread = (squares - 2 * mean * leaning + mean.square() * share.square().sum()).clamp(min=0)
    n = len(share)
    return _priced(mean, (spread * (n / max(1, n - 1))).sqrt(), W, V)


def _priced(slope: Tensor, stderr: Tensor, W: Tensor, V: Tensor) -> Prices:
    """Prices of the impure features from `-2 dL/ds_i` and its standard error."""
    capacity = response_capacity(W.double(), V.double())
    kind = classify(capacity, torch.linalg.vector_norm(W, dim=-1))
    impure = kind == FeatureClass.IMPURE
    factor = torch.where(impure, 1 / torch.where(impure, 2 * capacity * (1 - capacity), 1.0), 0.0)
    return Prices(-slope * factor, stderr * factor, capacity, kind)


def _slices(n: int, step: int) -> Iterator[slice]:
    for start in range(0, n, step):
        yield slice(start, start + step)
