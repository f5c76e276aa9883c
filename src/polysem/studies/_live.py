"""A toy model that is watched while it trains, and while it is flattened or masked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysem import _checks
from polysem.features import IndependentFeatures, geometric
from polysem.interventions import CapacityPenalty, flattening_kappa
from polysem.measure import IGNORED_BELOW, Block, FeatureClass, blocks, classify, polysemanticity, response_capacity
from polysem.returns import curve
from polysem.studies._architectures import ARCHITECTURES, Architecture, architecture
from polysem.studies._configs_live import LiveConfig
from polysem.studies._flattening import best_monosemantic_loss
from polysem.studies._geometry import ORTHOGONAL
from polysem.studies._live_features import live_features
from polysem.theory import allocate
from polysem.training import FitConfig, fit
from polysem.zoo import ToyModel, expected_loss

WATCHED = tuple(name for name, one in ARCHITECTURES.items() if one.family in ("quadratic", "tied", "untied"))
"""Architectures that can be watched: their capacities follow from the weights alone."""

FLATTENED = ("quadratic", "tied relu", "tied gelu", "tied softplus", "tied abs")
"""Those of them whose sharing has a price: linear ones and tanh share at no gain, untied ones evade it, and curves
with one partner do not bound what x² gains."""

JUDGED_SAMPLES = 2048
CURVE_SAMPLES = 512
BATCH_SIZE = 256


@dataclass(frozen=True)
class Moment:
    """What a stack of models looks like after some steps.

    Attributes:
        step: steps of Adam so far.
        W: embeddings `[n_seeds, n_features, d_hidden]`.
        capacity: `[n_seeds, n_features]`, of embedding and readout.
        feature_class: a `measure.FeatureClass` for each.
        loss: expected loss `[n_seeds]` over all features, without a penalty; exact where there is a quick closed
            form, else over the same 2048 samples at every moment.
        places: embeddings in the space that is drawn `[n_seeds, n_features, at most 3]`: as they are in up to three
            dimensions, else along the first three principal directions of the first moment (later ones would jump
            about: in a tight frame no direction is principal).
            Rows of untied models, whose length means nothing, are relative to the longest.
    """

    step: int
    W: Float[Tensor, "n_seeds n_features d_hidden"]
    capacity: Float[Tensor, "n_seeds n_features"]
    feature_class: Int[Tensor, "n_seeds n_features"]
    loss: Float[Tensor, " n_seeds"]
    places: Float[Tensor, "n_seeds n_features d_shown"]

    @property
    def polysemanticity(self) -> Float[Tensor, " n_seeds"]:
        """`measure.polysemanticity` of each start."""
        return polysemanticity(self.capacity, self.feature_class)

    def counts(self, kind: FeatureClass) -> Int[Tensor, " n_seeds"]:
        """How many features of each start are ignored, impure or pure."""
        return (self.feature_class == kind).sum(-1)

    def blocks(self, start: int) -> list[Block]:
        """Mutually orthogonal groups of the represented features of one start; cosines up to 0.1 count as 0."""
        there = self.feature_class[start] != FeatureClass.IGNORED
        return blocks(self.W[start] * there[:, None], ORTHOGONAL)


@dataclass(frozen=True)
class Live:
    """A stack of models after training.

    Attributes:
        config: how it was made.
        model: the stack.
        last: what it looks like.
    """

    config: LiveConfig
    model: ToyModel
    last: Moment


@dataclass(frozen=True)
class LiveBounds:
    """What losses and penalties of a watched model can be held against.

    Attributes:
        kappa: the largest `interventions.flattening_kappa` of its features: with it for all, every curve is concave.
        monosemantic: least loss with a dimension of its own for each represented feature.
    """

    kappa: float
    monosemantic: float


Watch = Callable[[Moment], None]


def live(config: LiveConfig = LiveConfig(), watch: Watch | None = None) -> Live:
    """Train a stack of starts and look at it on the way.

    Exact losses are used where they have a quick closed form, samples elsewhere; Adam alone trains. The same
    configuration gives the same moments, bit for bit.

    Args:
        config: architecture, features, starts and steps.
        watch: called with every moment, the last one included. What it raises ends the training.

    Returns:
        The trained stack.

    Raises:
        ValueError: an architecture that cannot be watched.

    Example:
        >>> seen = []
        >>> config = LiveConfig(architecture="quadratic", n_features=6, decay=0.9, steps=400, frames=40)
        >>> done = live(config, watch=lambda moment: seen.append(moment.step))
        >>> seen[:3], seen[-1], bool((done.last.loss / known_optimum(config) - 1 < 1e-9).all())
        ([0, 10, 20], 400, True)

    Source: ours; the models are those of Scherlis et al. 2022 and Elhage et al. 2022.
    """
    setting = _Setting.of(config)
    generator = torch.Generator().manual_seed(config.seed)
    start = setting.kind.model(config.n_features, config.d_hidden, config.n_seeds, generator)
    return _train(config, setting, start, generator, watch)


def intervene(start: Live, *, kappa: float = 0.0, masked: Sequence[int] = (), watch: Watch | None = None) -> Live:
    r"""Train a stack on with a penalty on sharing, without some of its features, or both.

        θ* = argmin_θ E ℓ(x; θ) + κ Σ_i C_i (1 - C_i)      masked x_i = 0, W_i = 0

    The penalty rises over the first half of the steps. Losses are over all features: a masked one costs what
    ignoring it costs.

    Args:
        start: a trained stack; it is left untouched.
        kappa: in the unit of the loss, the same for all features.
        masked: features to remove.
        watch: called with every moment, the last one included. What it raises ends the training.

    Returns:
        The stack after as many steps again.

    Raises:
        ValueError: a negative `kappa`, a feature that there is not, or no feature left.

    Example:
        >>> config = LiveConfig(architecture="quadratic", n_features=4, decay=0.9, feature_probability=0.1, n_seeds=1)
        >>> ordinary = live(config)
        >>> flattened = intervene(ordinary, kappa=live_bounds(config).kappa)
        >>> [int(one.last.counts(FeatureClass.PURE)) for one in (ordinary, flattened)]
        [0, 2]
        >>> round(float(flattened.last.loss) / live_bounds(config).monosemantic, 6)
        1.0
        >>> int(intervene(ordinary, masked=[2, 3]).last.counts(FeatureClass.PURE))
        2

    Source: ours; the question is that of the discussion under the summary post of Scherlis et al. 2022.
    """
    config, n = start.config, start.config.n_features
    known = all(0 <= _checks.whole("masked", feature, 0) < n for feature in masked)
    _checks.require(known, "masked", tuple(masked), f"features from 0 to {n - 1}")
    _checks.require(len(set(masked)) < n, "masked", tuple(masked), "not all features")
    _checks.require(kappa >= 0, "kappa", kappa, "non-negative")
    generator = torch.Generator().manual_seed(config.seed + 1)
    return _train(config, _Setting.of(config), start.model, generator, watch, kappa, masked)


def known_optimum(config: LiveConfig) -> float | None:
    """The least loss that any model of this kind can have, where theory knows it; else None.

        quadratic: theory.allocate(v, F, D).loss;    linear: Σ I_i Var x_i over all but the D largest terms

    Example:
        >>> round(known_optimum(LiveConfig(architecture="tied identity", n_features=3, feature_probability=1.0)), 6)
        0.083333
        >>> known_optimum(LiveConfig(architecture="tied relu"))

    Source: Scherlis et al. 2022, section 2; Elhage et al. 2022 (a linear model does principal component analysis).
    """
    setting = _Setting.of(config)
    if setting.kind.family == "quadratic":
        total = min(config.n_features, config.d_hidden)
        return float(allocate(setting.importance, setting.features.kurtosis, total).loss)
    if setting.kind.activation == "identity":
        return float(setting.ignored.sort(descending=True).values[config.d_hidden :].sum())
    return None


def live_bounds(config: LiveConfig) -> LiveBounds:
    """What the penalty of a watched model is measured by, and what monosemanticity must cost.

    Curves that have no closed form are measured with about 512 points of each feature beside an antipodal partner;
    capacity counts from 0.05 on there.

    Args:
        config: its architecture one of `studies.FLATTENED`.

    Returns:
        `LiveBounds`.

    Raises:
        ValueError: another architecture.

    Example:
        >>> bounds = live_bounds(LiveConfig(architecture="quadratic", n_features=3, feature_probability=0.09))
        >>> round(bounds.kappa, 3), round(bounds.monosemantic, 3)  # F = 20: (F - 1)² (F - 3) / 4, and F - 1
        (1534.25, 19.0)

    Source: ours.
    """
    _checks.require(config.architecture in FLATTENED, "architecture", config.architecture, _one_of(FLATTENED))
    setting = _Setting.of(config)
    model = setting.kind.model(config.n_features, config.d_hidden, 1, torch.Generator().manual_seed(config.seed))
    curves = curve(model, setting.features, setting.importance, pattern="antipodal", n_samples=CURVE_SAMPLES)
    kappa = flattening_kappa(curves, C_min=0.0 if setting.kind.family == "quadratic" else IGNORED_BELOW)
    return LiveBounds(float(kappa.max()), best_monosemantic_loss(curves, config.d_hidden))


@dataclass(frozen=True)
class _Setting:
    """Inputs and importances; `ignored` is the loss of each feature that is ignored `[n_features]`."""

    kind: Architecture
    features: IndependentFeatures
    importance: Tensor
    ignored: Tensor

    @classmethod
    def of(cls, config: LiveConfig) -> "_Setting":
        _checks.require(config.architecture in WATCHED, "architecture", config.architecture, _one_of(WATCHED))
        kind = architecture(config.architecture)
        features, importance = live_features(config), geometric(config.n_features, config.decay)
        ignored = importance * ((features.kurtosis - 1) if kind.family == "quadratic" else features.variance)
        return cls(kind, features, kind.importance(importance), ignored)


def _train(
    config: LiveConfig,
    setting: _Setting,
    start: ToyModel,
    generator: torch.Generator,
    watch: Watch | None,
    kappa: float = 0.0,
    masked: Sequence[int] = (),
) -> Live:
    sampled = not setting.kind.exact
    settings = FitConfig(
        loss="sampled" if sampled else "exact",
        adam_steps=config.steps,
        learning_rate=0.03 if sampled else 0.05,
        batch_size=BATCH_SIZE,
        polish="none",
        record_every=config.every,
    )
    removed = torch.zeros(config.n_features, dtype=torch.bool)
    removed[list(masked)] = True
    look = _Look(setting, removed)

    def looked(step: int, model: ToyModel) -> None:
        if watch is not None:
            watch(look(step, model))

    done = fit(
        start,
        setting.features,
        setting.importance,
        settings,
        penalties=[CapacityPenalty(kappa, ramp=max(1, config.steps // 2))] if kappa else [],
        mask=removed if masked else None,
        generator=generator if sampled else None,
        watch=looked,
    )
    return Live(config, done.model, look(config.steps, done.model))


class _Look:
    """Looks at a model, always from where it was looked at first."""

    def __init__(self, setting: _Setting, removed: Tensor) -> None:
        self._setting, self._ignored = setting, setting.ignored[removed].sum()
        self._importance = setting.importance.masked_fill(removed, 0.0)
        self._basis: Tensor | None = None

    def __call__(self, step: int, model: ToyModel) -> Moment:
        W, V = model.embedding.detach().double().clone(), model.readout.detach().double()
        C = response_capacity(W, V)
        found = classify(C, torch.linalg.vector_norm(W, dim=-1))
        return Moment(step, W, C, found, self._loss(model) + self._ignored, self._places(W))

    def _loss(self, model: ToyModel) -> Tensor:
        features = self._setting.features
        if self._setting.kind.exact:
            return expected_loss(model, features, self._importance).value
        same = torch.Generator().manual_seed(0)
        samples = JUDGED_SAMPLES
        return expected_loss(
            model, features, self._importance, method="sampled", n_samples=samples, generator=same
        ).value

    def _places(self, W: Tensor) -> Tensor:
        if self._setting.kind.family == "untied":
            W = W / torch.linalg.vector_norm(W, dim=-1, keepdim=True).amax(1, keepdim=True)
        if W.shape[-1] <= 3:
            return W
        if self._basis is None:
            self._basis = torch.linalg.svd(W, full_matrices=False).Vh[:, :3].mT
        places: Tensor = W @ self._basis
        return places


def _one_of(names: Sequence[str]) -> str:
    return " or ".join(f'"{name}"' for name in names)
