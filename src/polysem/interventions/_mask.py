"""Masking features until those that are left are monosemantic."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polysem import _checks
from polysem.features import SparseFeatures
from polysem.interventions._rounds import History, Rounds, as_flags, as_given, first
from polysem.interventions._treated import Treated, require_linear_readouts
from polysem.measure import FeatureClass
from polysem.returns import Curves, curve
from polysem.training import FitConfig, fit
from polysem.zoo import QuadraticModel, ToyModel

MaskRule = Literal["benefit", "gain", "importance", "norm", "capacity", "random"]
MASK_RULES: tuple[MaskRule, ...] = get_args(MaskRule)


@dataclass(frozen=True)
class Masked(Treated):
    """A stack some of whose features were masked.

    Its losses are over all features: a masked one costs what ignoring it costs, and so it is read in the model.

    Attributes:
        masked: which features are masked `[n_inst, n_features]`.
        status: an `Outcome` for each instance.
        history: round by round.
    """

    masked: Bool[Tensor, "n_inst n_features"]
    status: Int[Tensor, " n_inst"]
    history: History


def mask(
    model: ToyModel,
    features: SparseFeatures,
    importance: object,
    config: FitConfig | None = None,
    *,
    by: MaskRule = "benefit",
    keep: int | None = None,
    generator: torch.Generator | None = None,
) -> Masked:
    r"""Mask the represented feature with the least benefit, retrain without it, and repeat until none is impure.

        i = argmin b_i over represented features        by="benefit": b_i = L_i(0) - L_i(C_i), `returns.curve` as it is

    A masked feature is 0 in every input of the retraining, and its row stays 0. The loss is over all features all the
    same: that of the retrained network plus `L_i(0)` of each masked one. Each instance masks for itself and stops for
    itself. It cannot cycle: a masked feature is never represented again, and two features or more are needed for one to
    be impure, so an instance stops after at most `n_features - 1` rounds, and with no feature impure.

    Rules, the least first, the first of equals:

    - "benefit": what its present capacity saves. (At an optimum the marginal benefits of all impure features are
      equal, so they cannot tell which to mask.)
    - "gain": what a whole dimension would save, `L_i(0) - L_i(1)`: `v_i² (F_i - 1)` in the quadratic model.
    - "importance", "norm" (`|W_i|`), "capacity" (`C_i`).
    - "random": drawn anew in each round.

    With `keep` that many features are kept, and all others masked at once, represented or not. The monosemantic optimum
    of curves `L_i` is a whole dimension for each of the `d_hidden` features with the largest gains: `by="gain",
    keep=model.d_hidden`.

    Args:
        model: a trained stack, which is left untouched: a `QuadraticModel` or an autoencoder.
        features: inputs.
        importance: `v` or `I`.
        config: of the training in each round; by default that of `training.fit`.
        by: the rule.
        keep: how many features to keep, in one round; by default as many as turn out to be monosemantic.
        generator: source of batches, where losses are sampled, and of choices, where they are random.

    Returns:
        `Masked`; with the same generator state the same, bit for bit.

    Raises:
        ValueError: an unknown rule, `keep` that is no whole number or more than there are features, a generator missing
            or given for nothing; and as `training.fit`.
        TypeError: a model whose readouts are not linear.

    Example:
        Five features in two dimensions: three are masked, and the two that are left have one each.

        >>> import torch
        >>> from polysem.features import SparseSign
        >>> from polysem.interventions import mask
        >>> from polysem.training import fit
        >>> from polysem.zoo import QuadraticModel
        >>> features, v = SparseSign([0.1] * 5, standardise=True), [0.9**i for i in range(5)]
        >>> start = fit(QuadraticModel(5, 2, generator=torch.Generator().manual_seed(0)), features, v).model
        >>> done = mask(start, features, v)
        >>> done.history.order(0), done.history.n_impure[:, 0].tolist()
        ([4, 3, 2], [5, 4, 3, 0])
        >>> round(done.fit.loss.item(), 6), round(9 * sum(x**2 for x in v[2:]), 6)
        (14.562074, 14.562074)

    Source: ours; the procedure is that of the discussion under the summary post of Scherlis et al. 2022.
    """
    require_linear_readouts(model)
    _checks.require(by in MASK_RULES, "by", by, " or ".join(f'"{rule}"' for rule in MASK_RULES))
    n = model.n_features
    if keep is not None:
        keep = _checks.whole("keep", keep)
        _checks.require(keep <= n, "keep", keep, f"at most n_features = {n}")
    config = replace(config or FitConfig(), record_capacities=False)
    batches = generator if config.loss == "sampled" else None
    if batches is None:
        _checks.require(
            (generator is None) == (by != "random"),
            "generator",
            generator,
            'given where by="random" or loss="sampled", and left out elsewhere',
        )
    curves = curve(model, features, importance)
    ignored = curves.losses[..., 0]
    rounds = Rounds(as_given(model, features, importance, config, batches), 1 if keep is None else n - keep)
    masked = torch.zeros_like(rounds.impure)
    while True:
        if keep is None:
            among = (rounds.feature_class != FeatureClass.IGNORED) & rounds.impure.any(-1, keepdim=True)
        else:
            among = ~masked & ~masked.any(-1, keepdim=True)
        if not among.any() or keep == n:
            break
        if by == "benefit":
            curves = curve(rounds.fit.model, features, importance)
        score = _score(by, rounds, curves, importance, generator)
        chosen = first(score, among, 1 if keep is None else n - keep)
        masked = masked | as_flags(chosen, masked)
        done = fit(rounds.fit.model, features, importance, config, mask=masked, generator=batches)
        unseen = torch.where(masked, ignored, 0.0).sum(-1)
        rounds.advance(replace(done, loss=done.loss + unseen, history=done.history + unseen), chosen)
    whole = replace(rounds.fit, model=_with_constants(rounds.fit.model, masked, curves.offset[..., 0]))
    return Masked(
        whole, rounds.capacity, rounds.feature_class, masked=masked, status=rounds.outcome, history=rounds.history
    )


def _score(
    by: MaskRule, rounds: Rounds, curves: Curves, importance: object, generator: torch.Generator | None
) -> Float[Tensor, "n_inst n_features"]:
    """What speaks for keeping each feature."""
    match by:
        case "benefit":
            return curves.losses[..., 0] - curves.loss_at(rounds.capacity)
        case "gain":
            return curves.losses[..., 0] - curves.losses[..., -1]
        case "importance":
            return rounds.fit.model.importance_per_instance(importance)
        case "norm":
            norm: Tensor = torch.linalg.vector_norm(rounds.fit.model.embedding.detach().double(), dim=-1)
            return norm
        case "capacity":
            return rounds.capacity
        case "random":
            return torch.rand(rounds.capacity.shape, generator=generator).to(rounds.capacity)


def _with_constants(
    model: ToyModel, masked: Bool[Tensor, "n_inst n_features"], constant: Float[Tensor, "n_inst n_features"]
) -> ToyModel:
    """The model, with the best constant in place of every masked feature."""
    state = model.state_dict()
    if isinstance(model, QuadraticModel):
        state["b"] = state["b"] + torch.where(masked, constant, 0.0).sum(-1)
    else:
        state["b"] = torch.where(masked, constant, state["b"])
    if "V" in state:
        state["V"] = state["V"].masked_fill(masked[..., None], 0.0)
    model.load_state_dict(state)
    return model
