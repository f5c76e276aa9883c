"""Which part of an autoencoder's expected loss has a closed form, and how the rest of it is drawn."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polysem.features import SparseFeatures, SparseGaussian, SparseUniform
from polysem.zoo._activations import SLOPES, Activation
from polysem.zoo._gaussian import GaussianLaw, support_losses
from polysem.zoo._model import SAMPLED_INSTEAD, require_independent
from polysem.zoo._moments import LinearOutputs, SquareOutputs
from polysem.zoo._outputs import KinkedOutputs, OutputLosses
from polysem.zoo._supports import all_supports, at_least, sample_at_least, small_supports, up_to_two
from polysem.zoo._uniform import UniformLaw

ALL_SUPPORTS = 10
"""Number of Gaussian features up to which all 2^n supports are summed."""
SAMPLED = 3
"""Number of active features from which on supports are sampled, where not all are summed."""


@dataclass(frozen=True)
class ExactPart:
    """The inputs over which the expected loss has a closed form.

    Attributes:
        outputs: the losses over these inputs.
        rest: chance of the other inputs, those with at least three active features; None if there are none.
    """

    outputs: OutputLosses
    rest: Float[Tensor, " n_inst"] | None


def exact_part(activation: str | Activation, features: SparseFeatures, n_inst: int, device: torch.device) -> ExactPart:
    """The closed form for an activation given by name and a law of inputs; a ValueError where there is none."""
    require_independent(features)
    p, mean, variance, skewness, kurtosis = (
        value.to(device).expand(n_inst, -1)
        for value in (
            features.feature_probability,
            features.mean,
            features.variance,
            features.skewness,
            features.kurtosis,
        )
    )
    if activation == "identity":
        return ExactPart(LinearOutputs(mean, variance), None)
    if activation == "square":
        cumulants = (skewness * variance.pow(1.5), (kurtosis - 3) * variance.square())
        return ExactPart(SquareOutputs(mean, variance, *cumulants), None)
    if not isinstance(activation, str) or activation not in SLOPES:
        raise ValueError(
            'activation must be "identity", "square", "relu" or "abs" for an exact loss '
            f"({SAMPLED_INSTEAD}), got {activation!r}"
        )
    scale, slopes = _scale(features).to(device).expand(n_inst, -1), SLOPES[activation]
    if isinstance(features, SparseUniform) and (features.signed or not features.standardise):
        n = p.shape[-1]
        three = p.prod(-1, keepdim=True) if n == SAMPLED else p[:, :0]
        law = UniformLaw(*small_supports(p), three, _low(features), scale)
        return ExactPart(KinkedOutputs(law, slopes), _rest(p) if n > SAMPLED else None)
    if isinstance(features, SparseGaussian):
        whole = p.shape[-1] <= ALL_SUPPORTS
        masks, chance = all_supports(p) if whole else up_to_two(p)
        outputs = KinkedOutputs(GaussianLaw(masks.double(), chance, scale), slopes)
        return ExactPart(outputs, None if whole else _rest(p))
    raise ValueError(
        "features must be SparseGaussian, or SparseUniform (raw or signed), for an exact loss of activation "
        f'"{activation}" ({SAMPLED_INSTEAD}), got {type(features).__name__} with standardise={features.standardise}'
    )


def draw_uniform(features: SparseUniform, n: int, generator: torch.Generator) -> Float[Tensor, "..."]:
    """Inputs given that at least three features are active."""
    active = sample_at_least(features.feature_probability, SAMPLED, n, generator)
    unit = torch.rand(active.shape, generator=generator, dtype=torch.float64, device=generator.device)
    low = _low(features)
    return active * (low + (1 - low) * unit) * _scale(features).to(active.device)


def draw_gaussian_losses(
    slopes: tuple[float, float],
    features: SparseGaussian,
    G: Float[Tensor, "n_inst n n"],
    b: Float[Tensor, "n_inst n"],
    n_draws: int,
    generator: torch.Generator,
) -> Float[Tensor, "n_draws n_inst n"]:
    """Expected losses of the outputs on drawn supports of at least three features."""
    active = sample_at_least(features.feature_probability, SAMPLED, n_draws, generator).to(G.device)
    masks = active if active.ndim == 3 else active[:, None]
    scale = _scale(features).to(G.device).expand(len(G), -1)
    return support_losses(G, b, scale, slopes, masks)


def _rest(p: Tensor) -> Tensor:
    return at_least(p, SAMPLED)[0, ..., -1]


def _low(features: SparseUniform) -> float:
    return -1.0 if features.signed else 0.0


def _scale(features: SparseFeatures) -> Tensor:
    """An active feature over its slab's value, for laws whose inactive value is 0."""
    p = features.feature_probability
    return (p * features.slab_moments[1]).rsqrt() if features.standardise else torch.ones_like(p)
