"""How far outputs move with the targets of features, where that depends on the inputs: estimated from samples."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks
from polysem.features import SparseFeatures
from polysem.zoo._expected import CHUNK_ELEMENTS
from polysem.zoo._neurons import NeuronModel

CONSTANT = 1e-12


@dataclass(frozen=True)
class SampledResponse:
    """A response matrix estimated from samples.

    Attributes:
        value: `R[n_inst, i, j]`, how far output i moves with the target of feature j.
        stderr: standard error of each entry.
    """

    value: Float[Tensor, "n_inst n_features n_features"]
    stderr: Float[Tensor, "n_inst n_features n_features"]


@torch.no_grad()
def sampled_response(
    model: NeuronModel, features: SparseFeatures, *, n_samples: int, generator: torch.Generator
) -> SampledResponse:
    r"""Estimate how far each output moves with the target of each feature.

        R_ij = Cov(x̂_i, t(x_j)) / Var t(x_j)

    the slope of the regression of output i on the target of feature j. For linear models and independent features it
    is `model.response()`; for a target like `|x|` or `x²`, where the average Jacobian of a perfect model is 0, a
    perfect model has `R = 1`. Samples are conditioned on an active feature; with `δ` for the difference from the
    inactive state, `Cov = w E[δx̂_i δt_j | some active] - w² E[δx̂_i | ...] E[δt_j | ...]`, `w` the exact chance.
    The samples are drawn twice over from the same state of the generator, so that memory stays bounded.

    Args:
        model: a stack of models with an output for each feature.
        features: inputs of shape `[n_features]`, or `[n_inst, n_features]` for one setting an instance.
        n_samples: number of samples, at least 2.
        generator: source of the samples.

    Returns:
        Response and its standard error (of first order in `1/√n_samples`), float64.

    Raises:
        ValueError: fewer than two samples, a wrong shape, or a target that does not vary over the samples.
        TypeError: no generator.

    Example:
        >>> import torch
        >>> from polysem.features import SparseUniform
        >>> from polysem.zoo import HiddenLayerModel, sampled_response
        >>> model = HiddenLayerModel(2, d_hidden=4, target="abs")
        >>> W = torch.tensor([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])[None]
        >>> _ = model.load_state_dict({"W_in": W, "W_out": W.abs().mT}, strict=False)
        >>> R = sampled_response(
        ...     model,
        ...     SparseUniform([0.1, 0.1], signed=True),
        ...     n_samples=5000,
        ...     generator=torch.Generator().manual_seed(0),
        ... )
        >>> R.value[0].diagonal().tolist(), bool((R.value[0, 0, 1].abs() < 4 * R.stderr[0, 0, 1]).item())
        ([1.0, 1.0], True)

    Source: ours; for nonlinear targets it takes the place of the average Jacobian.
    """
    n_samples = _checks.whole("n_samples", n_samples, minimum=2)
    model.check_features(features)
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    sums = [torch.zeros((), dtype=torch.float64)] * 4
    weight = sums[0]
    for dy, dt, chance in _changes(model, features, n_samples, generator.clone_state()):
        weight = chance
        parts = dy.sum(0), dt.sum(0), dt.square().sum(0), _products(dy, dt)
        sums = [total + part for total, part in zip(sums, parts, strict=True)]
    mean_y, mean_t, square = (weight * total / n_samples for total in sums[:3])
    weight = weight[..., None]
    covariance = weight * sums[3] / n_samples - mean_y[..., None] * mean_t[:, None]
    variance = square - mean_t.square()
    constant = (variance <= CONSTANT * square).nonzero()
    if len(constant):
        raise ValueError(
            f"features and n_samples must be such that every target varies, got a constant target of feature "
            f"{int(constant[0, 1])} in {n_samples} samples"
        )
    R = covariance / variance[:, None]
    sums = [torch.zeros((), dtype=torch.float64)] * 4
    for dy, dt, _ in _changes(model, features, n_samples, generator):
        y, t = dy - mean_y, dt - mean_t
        parts = (
            _products(y, t) - R * t.square().sum(0)[:, None],
            _products(y.square(), t.square()),
            _products(y, t.pow(3)),
            t.pow(4).sum(0)[:, None],
        )
        sums = [total + part for total, part in zip(sums, parts, strict=True)]
    residual, yytt, yttt, tttt = (total / n_samples for total in sums)
    spread = (yytt - 2 * R * yttt + R.square() * tttt - residual.square()).clamp(min=0)
    return SampledResponse(R, weight * (spread / (n_samples - 1)).sqrt() / variance[:, None])


def _changes(
    model: NeuronModel, features: SparseFeatures, n_samples: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Outputs and targets `[n, n_inst, n_features]` less those of the inactive state, and the weight `[n_inst, 1]`."""
    rows = model.embedding
    chunk = max(1, CHUNK_ELEMENTS // (model.n_inst * model.n_features))
    rest = _with_instances(model, features.inactive_value[None])
    output_at_rest, target_at_rest = model(rest).double(), model.targets(rest).double()
    for start in range(0, n_samples, chunk):
        n = min(chunk, n_samples - start)
        drawn, weight = features.sample_active(n, generator=generator, dtype=rows.dtype)
        x = _with_instances(model, drawn)
        changes = model(x).double() - output_at_rest, model.targets(x).double() - target_at_rest
        yield *changes, weight.to(rows.device).expand(model.n_inst)[:, None]


def _products(y: Tensor, t: Tensor) -> Tensor:
    """`Σ_s y_si t_sj` of each instance."""
    return torch.einsum("sni,snj->nij", y, t)


def _with_instances(model: NeuronModel, x: Tensor) -> Tensor:
    return (x if x.ndim == 3 else x[:, None]).to(model.embedding).expand(-1, model.n_inst, -1)
