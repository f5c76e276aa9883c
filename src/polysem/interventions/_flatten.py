"""Training with flattened returns."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks
from polysem.features import SparseFeatures
from polysem.interventions._kappa import flattening_kappa
from polysem.interventions._penalty import CapacityPenalty
from polysem.interventions._treated import Treated, counted_from, measured, require_linear_readouts
from polysem.returns import Curves, curve
from polysem.training import FitConfig, fit
from polysem.zoo import ToyModel

CURVES = "curves"
ADAM_STEPS = 4000


@dataclass(frozen=True)
class Flattened(Treated):
    """A stack that was trained with flattened returns.

    Attributes:
        kappa: `κ` that was reached, `[]`, `[n_features]` or `[n_inst, n_features]`.
    """

    kappa: Float[Tensor, "*n_inst_n_features"]


def flatten(
    model: ToyModel,
    features: SparseFeatures,
    importance: object,
    config: FitConfig | None = None,
    *,
    kappa: object = CURVES,
    share: float = 1.0,
    uniform: bool = True,
    ramp: int | None = None,
    curves: Curves | None = None,
    C_min: float | None = None,
    generator: torch.Generator | None = None,
) -> Flattened:
    r"""Train a stack with a penalty that takes the diminishing out of marginal returns.

        θ* = argmin_θ E ℓ(x; θ) + share Σ_i κ_i C_i (1 - C_i)

    From a random start that is training from scratch; a trained model is fine-tuned; `training.fit` on the result takes
    the penalty away again. Where every curve has been made concave the optimum is monosemantic; which features are then
    pure depends on the way there. A uniform `κ` lets the losses choose: with one in proportion to `v_i²` the penalty
    itself prefers some. A slow ramp and less than the full `κ` leave time to choose.

    Args:
        model: the start; it is left untouched. Penalised are the capacities of its (linear) readouts: a
            `QuadraticModel` or an autoencoder.
        features: inputs.
        importance: `v` or `I`.
        config: of the fit; by default 4,000 steps of Adam. Nothing is polished.
        kappa: "curves" to take it from the curves of the model, see `flattening_kappa`; or a number, or one for each
            feature `[n_features]` or `[n_inst, n_features]`.
        share: factor of `kappa`.
        uniform: give every feature the largest `κ_i`.
        ramp: steps over which the penalty rises; by default half of them.
        curves: measured before, instead of those of the model; only with `kappa="curves"`.
        C_min: capacity from which on curvature counts; by default 0 for curves in closed form (the quadratic model),
            and `measure.IGNORED_BELOW` for others.
        generator: source of batches, where losses are sampled.

    Returns:
        `Flattened`.

    Raises:
        ValueError: a negative share, `kappa` or ramp, curves given with a number for `kappa`; and as `training.fit`.
        TypeError: a model whose readouts are not linear.

    Example:
        Five features in two dimensions, all of them polysemantic; flattened, two are pure and three ignored:

        >>> import torch
        >>> from polysem.features import SparseSign
        >>> from polysem.interventions import flatten
        >>> from polysem.training import fit
        >>> from polysem.zoo import QuadraticModel
        >>> features, v = SparseSign([0.1] * 5, standardise=True), [0.9**i for i in range(5)]
        >>> start = QuadraticModel(5, 2, generator=torch.Generator().manual_seed(0))
        >>> done = flatten(start, features, v, share=0.1)
        >>> done.n_impure.item(), sorted(round(C, 3) + 0.0 for C in done.capacity[0].tolist())
        (0, [0.0, 0.0, 0.0, 1.0, 1.0])
        >>> relaxed = fit(done.fit.model, features, v)

    Source: ours; the question is that of the discussion under the summary post of Scherlis et al. 2022.
    """
    require_linear_readouts(model)
    _checks.require(share >= 0, "share", share, "non-negative")
    config = replace(config or FitConfig(adam_steps=ADAM_STEPS), polish="none")
    if isinstance(kappa, str):
        _checks.require(kappa == CURVES, "kappa", kappa, '"curves" or numbers')
        curves = curve(model, features, importance) if curves is None else curves
        value = flattening_kappa(curves, C_min=counted_from(model, C_min))
    else:
        _checks.require(curves is None, "curves", "given", 'left out unless kappa="curves"')
        value = _checks.as_float64("kappa", kappa)
    value = share * (value.amax(-1, keepdim=True).expand_as(value) if uniform and value.ndim else value)
    steps = config.adam_steps // 2 if ramp is None else _checks.whole("ramp", ramp, 0)
    penalty = CapacityPenalty(value, ramp=steps or None)
    done = fit(model, features, importance, config, penalties=[penalty], generator=generator)
    return Flattened(done, *measured(done.model), value)
