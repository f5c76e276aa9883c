"""Flattening one curve at a time."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysem import _checks
from polysem.features import SparseFeatures
from polysem.interventions._flatten import ADAM_STEPS
from polysem.interventions._kappa import flattening_kappa
from polysem.interventions._penalty import CapacityPenalty
from polysem.interventions._rounds import NONE, History, Rounds, as_flags, as_given, first
from polysem.interventions._treated import Treated, counted_from, require_linear_readouts
from polysem.returns import Curves, curve
from polysem.training import FitConfig, fit
from polysem.zoo import ToyModel

ROUND_STEPS = ADAM_STEPS // 8
STRAIGHT = 1e-9
"""Share of a feature's ignored loss up to which `κ_i` is rounding: its returns do not diminish."""


@dataclass(frozen=True)
class OneByOne(Treated):
    """A stack whose curves were flattened one after the other.

    Attributes:
        status: an `Outcome` for each instance.
        kappa: `κ` of every feature at the end `[n_inst, n_features]`, 0 for those never chosen.
        history: round by round.
        C_grid: capacities `[n_points]` of the curves.
        before: the curve `L_i(C)` of each chosen feature when it was chosen `[n_rounds, n_inst, n_at_once, n_points]`;
            NaN where none was.
        after: its curve in the network after that round, flattened: `L_i(C) + κ_i C (1 - C)`.
    """

    status: Int[Tensor, " n_inst"]
    kappa: Float[Tensor, "n_inst n_features"]
    history: History
    C_grid: Float[Tensor, " n_points"]
    before: Float[Tensor, "n_rounds n_inst n_at_once n_points"]
    after: Float[Tensor, "n_rounds n_inst n_at_once n_points"]


def flatten_one_by_one(
    model: ToyModel,
    features: SparseFeatures,
    importance: object,
    config: FitConfig | None = None,
    *,
    at_once: int = 1,
    share: float = 1.0,
    ramp: int | None = None,
    C_min: float | None = None,
    generator: torch.Generator | None = None,
) -> OneByOne:
    r"""Flatten the curve whose returns diminish most strongly, train on, and repeat until no feature is impure.

        i = argmax κ_i over impure features not chosen yet        κ: flattening_kappa of the curves as they now are
        θ ← argmin_θ E ℓ(x; θ) + share Σ_{j chosen} κ_j C_j (1 - C_j)

    Each instance chooses for itself, and stops for itself: as soon as none of its features is impure, or none of its
    impure features with `κ_i > 0` is left to choose. It cannot cycle. A chosen feature keeps the `κ_i` that it was
    given and is never chosen again, so the set of chosen features grows in every round, and an instance stops after at
    most `n_features` rounds.

    A penalty pushes a feature towards the nearer end: one with less than half a dimension when it is chosen tends to be
    ignored, whatever it is worth.

    Args:
        model: a trained stack, which is left untouched: a `QuadraticModel` or an autoencoder.
        features: inputs.
        importance: `v` or `I`.
        config: of the training in each round; by default 500 steps of Adam. Nothing is polished.
        at_once: how many features to flatten in a round, those with the largest `κ_i`.
        share: factor of every `κ_i`.
        ramp: steps over which the penalty on newly chosen features rises; by default half of a round.
        C_min: capacity from which on curvature counts, as for `flatten`.
        generator: source of batches, where losses are sampled.

    Returns:
        `OneByOne`; with the same generator state the same, bit for bit.

    Raises:
        ValueError: `at_once` that is no whole number, a share that is not positive, a negative ramp; and as
            `training.fit`.
        TypeError: a model whose readouts are not linear.

    Example:
        Five features in two dimensions, all of them polysemantic. The most important one is flattened first, with more
        than half a dimension, and becomes pure; the next two have less than half, and are ignored for it. The loss is
        that of features 1, 2 and 4 ignored, and not the best, which would be 14.56:

        >>> import torch
        >>> from polysem.features import SparseSign
        >>> from polysem.interventions import Outcome, flatten_one_by_one
        >>> from polysem.training import FitConfig, fit
        >>> from polysem.zoo import QuadraticModel
        >>> features, v = SparseSign([0.1] * 5, standardise=True), [0.9**i for i in range(5)]
        >>> start = fit(QuadraticModel(5, 2, generator=torch.Generator().manual_seed(0)), features, v).model
        >>> done = flatten_one_by_one(start, features, v, FitConfig(adam_steps=200))
        >>> done.history.order(0), done.history.n_impure[:, 0].tolist()
        ([0, 1, 2, 3], [5, 4, 3, 2, 0])
        >>> done.feature_class[0].tolist(), round(done.fit.loss.item(), 2)
        ([2, 0, 0, 2, 0], 17.07)

    Source: ours; the procedure is that of the discussion under the summary post of Scherlis et al. 2022.
    """
    require_linear_readouts(model)
    at_once = min(_checks.whole("at_once", at_once), model.n_features)
    _checks.require(share > 0, "share", share, "positive")
    config = replace(config or FitConfig(adam_steps=ROUND_STEPS), polish="none", record_capacities=False)
    steps = config.adam_steps // 2 if ramp is None else _checks.whole("ramp", ramp, 0)
    C_min = counted_from(model, C_min)
    rounds = Rounds(as_given(model, features, importance, config, generator), at_once)
    curves = curve(rounds.fit.model, features, importance)
    kappa = torch.zeros_like(rounds.capacity)
    before, after = [], []
    while True:
        found = flattening_kappa(curves, C_min=C_min)
        diminishing = found > STRAIGHT * curves.losses[..., 0]
        chosen = first(-found, rounds.impure & (kappa == 0) & diminishing, at_once)
        if (chosen == NONE).all():
            break
        new = torch.where(as_flags(chosen, rounds.impure), share * found, 0.0)
        before.append(_of_chosen(curves.losses, chosen))
        penalties = [CapacityPenalty(kappa), CapacityPenalty(new, ramp=steps or None)]
        rounds.advance(
            fit(rounds.fit.model, features, importance, config, penalties=penalties, generator=generator), chosen
        )
        kappa = kappa + new
        curves = curve(rounds.fit.model, features, importance)
        after.append(_of_chosen(_flattened(curves, kappa), chosen))
    none = curves.losses.new_empty(0, model.n_inst, at_once, len(curves.C_grid))
    return OneByOne(
        rounds.fit,
        rounds.capacity,
        rounds.feature_class,
        status=rounds.outcome,
        kappa=kappa,
        history=rounds.history,
        C_grid=curves.C_grid,
        before=torch.stack(before) if before else none,
        after=torch.stack(after) if after else none,
    )


def _flattened(
    curves: Curves, kappa: Float[Tensor, "n_inst n_features"]
) -> Float[Tensor, "n_inst n_features n_points"]:
    """The curves with their penalties."""
    return curves.losses + kappa[..., None] * curves.C_grid * (1 - curves.C_grid)


def _of_chosen(
    losses: Float[Tensor, "n_inst n_features n_points"], chosen: Int[Tensor, "n_inst n_at_once"]
) -> Float[Tensor, "n_inst n_at_once n_points"]:
    """The curves of chosen features."""
    rows = losses.gather(1, chosen.clamp(min=0)[..., None].expand(-1, -1, losses.shape[-1]))
    return rows.masked_fill((chosen == NONE)[..., None], torch.nan)
