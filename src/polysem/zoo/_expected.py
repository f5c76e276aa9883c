"""The expected loss of any toy model: in closed form, or from samples with an honest error."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks
from polysem.features import SparseFeatures
from polysem.zoo._model import ToyModel

CHUNK_ELEMENTS = 2**22


@dataclass(frozen=True)
class ExpectedLoss:
    """Expected loss of each instance.

    Attributes:
        value: expected loss `[n_inst]`.
        stderr: standard error of `value` `[n_inst]`; 0 where it is exact.
    """

    value: Float[Tensor, " n_inst"]
    stderr: Float[Tensor, " n_inst"]


@torch.no_grad()
def expected_loss(
    model: ToyModel,
    features: SparseFeatures,
    importance: object,
    *,
    method: str = "exact",
    n_samples: int | None = None,
    generator: torch.Generator | None = None,
) -> ExpectedLoss:
    r"""Measure the expected loss of every instance (without gradients: those are `model.exact_loss`'s).

        E ℓ(x) = w · E[ℓ(x) | some feature active] + (1 - w) · ℓ(all inactive),   w = 1 - Π_i (1 - p_i)

    "exact" uses the family's closed form. "sampled" draws only samples with an active feature and adds the
    all-inactive case exactly; features of shape `[n_features]` give all instances the same samples.

    Args:
        model: a stack of toy models.
        features: inputs of shape `[n_features]`, or `[n_inst, n_features]` for one setting an instance.
        importance: `[n_features]` or `[n_inst, n_features]`, none negative.
        method: "exact" or "sampled".
        n_samples: number of samples, at least 2; only for "sampled".
        generator: source of the samples; only for "sampled".

    Returns:
        Value and standard error `[n_inst]`, float64.

    Raises:
        ValueError: an unknown method, arguments of the other method, shapes that do not fit the model, or
            features for which the family has no exact loss.

    Example:
        >>> import torch
        >>> from polysem.features import SparseSign
        >>> from polysem.zoo import QuadraticModel, expected_loss
        >>> features, seed = SparseSign([0.5, 0.5], standardise=True), torch.Generator().manual_seed(0)
        >>> model = QuadraticModel(2, 1, generator=seed)
        >>> exact = expected_loss(model, features, [1.0, 0.5])
        >>> sampled = expected_loss(
        ...     model, features, [1.0, 0.5], method="sampled", n_samples=1000, generator=seed
        ... )
        >>> bool((sampled.value - exact.value).abs() < 4 * sampled.stderr), exact.stderr.item()
        (True, 0.0)

    Source: ours.
    """
    _checks.require(method in ("exact", "sampled"), "method", method, '"exact" or "sampled"')
    model.check_features(features)
    if method == "exact":
        _checks.require(n_samples is None, "n_samples", n_samples, 'left out unless method="sampled"')
        _checks.require(generator is None, "generator", generator, 'left out unless method="sampled"')
        value = model.exact_loss(features, importance)
        return ExpectedLoss(value, torch.zeros_like(value))
    n = _checks.whole("n_samples", n_samples, minimum=2)
    if generator is None:
        raise ValueError('generator must be given where method="sampled", got None')
    return _sampled(model, features, importance, n, generator)


def _sampled(
    model: ToyModel, features: SparseFeatures, importance: object, n_samples: int, generator: torch.Generator
) -> ExpectedLoss:
    rows = model.embedding
    chunk = max(1, CHUNK_ELEMENTS // (model.n_inst * model.n_features))
    mean = torch.zeros(model.n_inst, dtype=torch.float64, device=rows.device)
    squares, seen, weight = torch.zeros_like(mean), 0, torch.zeros_like(mean)
    while seen < n_samples:
        n = min(chunk, n_samples - seen)
        x, weight = features.sample_active(n, generator=generator, dtype=rows.dtype)
        losses = model.per_sample_loss(_with_instances(x).to(rows.device), importance).double()
        step = losses.mean(0) - mean
        squares += (losses - losses.mean(0)).square().sum(0) + step.square() * (seen * n / (seen + n))
        mean += step * (n / (seen + n))
        seen += n
    nothing = _with_instances(features.inactive_value[None]).to(rows)
    at_rest = model.per_sample_loss(nothing, importance).double()[0]
    weight = weight.to(rows.device)
    stderr = weight * (squares / (n_samples - 1) / n_samples).sqrt()
    return ExpectedLoss(weight * mean + (1 - weight) * at_rest, stderr)


def _with_instances(x: Tensor) -> Tensor:
    return x if x.ndim == 3 else x[:, None]
