"""The expected loss of any toy model: in closed form, or from samples with an honest error."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks
from polysem.features import SparseFeatures
from polysem.zoo._model import PartialLoss, ToyModel

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

        E ℓ(x) = w · E[ℓ(x) | some feature active] + (1 - w) · ℓ(all inactive),   w = P(some feature active)

    "exact" uses the family's closed form. Where that covers only the inputs with up to two active features, the
    others are drawn, given that they occur, and weighted by their exact chance: unbiased, with a standard error.
    "sampled" draws only samples with an active feature and adds the all-inactive case exactly. Features of shape
    `[n_features]` give all instances the same samples.

    Args:
        model: a stack of toy models.
        features: inputs of shape `[n_features]`, or `[n_inst, n_features]` for one setting an instance.
        importance: `[n_features]` or `[n_inst, n_features]`, none negative.
        method: "exact" or "sampled".
        n_samples: number of samples, at least 2; only where something is sampled.
        generator: source of the samples; only where something is sampled.

    Returns:
        Value and standard error `[n_inst]`, float64.

    Raises:
        ValueError: an unknown method, `n_samples` or `generator` missing or given for nothing, shapes that do not
            fit the model, or features for which the family has no exact loss.

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
    part = model.partial_loss(features, importance) if method == "exact" else None
    if method == "exact" and part is None:
        allowed = 'left out where nothing is sampled (method="exact" with a closed form for all inputs)'
        _checks.require(n_samples is None, "n_samples", n_samples, allowed)
        _checks.require(generator is None, "generator", generator, allowed)
        value = model.exact_loss(features, importance)
        return ExpectedLoss(value, torch.zeros_like(value))
    for name, value_given in (("n_samples", n_samples), ("generator", generator)):
        if value_given is None:
            raise ValueError(f"{name} must be given where the loss is sampled, in whole or in part, got None")
    n = _checks.whole("n_samples", n_samples, minimum=2)
    assert generator is not None
    part = part or _given_some_active(model, features, importance)
    return _with_draws(part, n, generator, max(1, CHUNK_ELEMENTS // (model.n_inst * model.n_features)))


def _given_some_active(model: ToyModel, features: SparseFeatures, importance: object) -> PartialLoss:
    """The loss with no feature active exactly, and what it changes by with some active as draws."""
    rows = model.embedding
    nothing = _with_instances(features.inactive_value[None]).to(rows)
    at_rest = model.per_sample_loss(nothing, importance).double()[0]

    def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, some = features.sample_active(n, generator=generator, dtype=rows.dtype)
        losses = model.per_sample_loss(_with_instances(x).to(rows.device), importance)
        return losses.double() - at_rest, some.to(rows.device)

    return PartialLoss(at_rest, draw)


def _with_draws(part: PartialLoss, n_samples: int, generator: torch.Generator, chunk: int) -> ExpectedLoss:
    mean, squares, chance = torch.zeros_like(part.exact), torch.zeros_like(part.exact), torch.zeros_like(part.exact)
    seen = 0
    while seen < n_samples:
        n = min(chunk, n_samples - seen)
        losses, chance = part.draw(n, generator)
        step = losses.mean(0) - mean
        squares += (losses - losses.mean(0)).square().sum(0) + step.square() * (seen * n / (seen + n))
        mean += step * (n / (seen + n))
        seen += n
    stderr = chance * (squares / (n_samples - 1) / n_samples).sqrt()
    return ExpectedLoss(part.exact + chance * mean, stderr)


def _with_instances(x: Tensor) -> Tensor:
    return x if x.ndim == 3 else x[:, None]
