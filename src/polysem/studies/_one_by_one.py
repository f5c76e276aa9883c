"""Features flattened and masked one by one, beside all at once: what is left, what it costs, who chose better."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysem.features import SparseFeatures, SparseSign, SparseUniform, geometric
from polysem.interventions import MASK_RULES, Flattened, History, Masked, OneByOne, flatten, flatten_one_by_one, mask
from polysem.studies._configs_one_by_one import OneByOneConfig
from polysem.theory import allocate
from polysem.training import FitConfig, fit
from polysem.zoo import QuadraticModel, TiedAutoencoder, ToyModel

FLATTEN_SHARE = 0.1
"""Of the full `κ`, when all curves are flattened at once: less of it leaves time to choose."""

CHOICE_TOLERANCE = 0.01
"""Of the best monosemantic loss, up to which a network counts as having chosen that set."""


@dataclass(frozen=True)
class Treatment:
    """One way of making a stack monosemantic.

    Attributes:
        name: "flatten", "flatten 1" (so many in a round), "mask benefit" (by that rule), "keep gain" (one shot).
        loss: expected loss over all features `[restarts]`.
        polysemanticity: `measure.polysemanticity`.
        n_impure: how many features are still impure.
        n_rounds: after how many rounds each instance stopped; 1 where all is done at once.
        n_steps: steps of training.
        history: round by round, None where all is done at once.
    """

    name: str
    loss: Float[Tensor, " restarts"]
    polysemanticity: Float[Tensor, " restarts"]
    n_impure: Int[Tensor, " restarts"]
    n_rounds: Int[Tensor, " restarts"]
    n_steps: Int[Tensor, " restarts"]
    history: History | None = None


@dataclass(frozen=True)
class TreatedModel:
    """A model, and all treatments of it.

    Attributes:
        name: "quadratic", "mixed" or "relu".
        trained: loss of each restart before any treatment.
        n_impure: how many features are impure then.
        polysemanticity: `measure.polysemanticity` then.
        free: the least loss without a constraint: the optimal allocation's (quadratic models), or that of the best
            restart (ReLU).
        best: loss of the best monosemantic set: a whole dimension for each of the features with the largest gains.
        treatments: in the order of `Treatment.name` above.
    """

    name: str
    trained: Float[Tensor, " restarts"]
    n_impure: Int[Tensor, " restarts"]
    polysemanticity: Float[Tensor, " restarts"]
    free: float
    best: float
    treatments: tuple[Treatment, ...]

    @property
    def price(self) -> float:
        """Price of monosemanticity: the best monosemantic set above the least loss of all."""
        return self.best - self.free

    def one(self, name: str) -> Treatment:
        """The treatment of this name."""
        return next(each for each in self.treatments if each.name == name)

    def choice_error(self, name: str) -> Float[Tensor, " restarts"]:
        """Loss above that of the best monosemantic set; below 0 is possible where features are still impure."""
        return self.one(name).loss - self.best

    def relative_error(self, name: str) -> Float[Tensor, " restarts"]:
        """The same in units of the price of monosemanticity."""
        return self.choice_error(name) / self.price

    def share_best(self, name: str) -> float:
        """Share of the restarts that end monosemantic with the best set."""
        found = self.one(name)
        near = self.choice_error(name) <= CHOICE_TOLERANCE * self.best
        return float((near & (found.n_impure == 0)).double().mean())


@dataclass(frozen=True)
class OneByOneResult:
    """Treatments of a quadratic model, of one with kurtoses and importances at odds, and of a ReLU autoencoder."""

    quadratic: TreatedModel
    mixed: TreatedModel
    relu: TreatedModel

    @property
    def models(self) -> tuple[TreatedModel, ...]:
        """All three."""
        return (self.quadratic, self.mixed, self.relu)


def one_by_one(config: OneByOneConfig = OneByOneConfig()) -> OneByOneResult:
    """Flatten and mask features, one by one and all at once, on models whose best monosemantic loss is known.

    Example:
        >>> config = OneByOneConfig(
        ...     n_features=3, d_hidden=1, restarts=1, round_steps=20, flatten_steps=20, at_once=(1,),
        ...     relu_features=3, relu_hidden=1, relu_restarts=1, relu_steps=2, batch_size=8,
        ... )
        >>> result = one_by_one(config)
        >>> result.quadratic.share_best("mask benefit"), result.quadratic.share_best("keep gain")
        (1.0, 1.0)

    Source: ours; both procedures are those of the discussion under the summary post of Scherlis et al. 2022.
    """
    generator = torch.Generator().manual_seed(config.seed)
    n = config.n_features
    v = geometric(n, config.decay)
    equal = torch.full_like(v, config.kurtosis)
    low, high = math.log10(config.least_kurtosis), math.log10(config.greatest_kurtosis)
    mixed = torch.logspace(low, high, n, dtype=torch.float64)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(config.seed))
    return OneByOneResult(
        quadratic=_quadratic("quadratic", v, equal, config, generator),
        mixed=_quadratic("mixed", v, mixed[order], config, generator),
        relu=_relu(config, generator),
    )


def _quadratic(name: str, v: Tensor, F: Tensor, config: OneByOneConfig, generator: torch.Generator) -> TreatedModel:
    features = SparseSign.from_kurtosis(F, standardise=True)
    start = QuadraticModel(len(v), config.d_hidden, n_inst=config.restarts, generator=generator)
    gain = v.square() * (F - 1)
    return _treated(
        name,
        fit(start, features, v).model,
        features,
        v,
        round_config=FitConfig(adam_steps=config.round_steps),
        flatten_config=FitConfig(adam_steps=config.flatten_steps),
        mask_config=FitConfig(adam_steps=config.round_steps),
        at_once=config.at_once,
        best=float(gain.sort(descending=True).values[config.d_hidden :].sum()),
        free=float(allocate(v, F, config.d_hidden).loss),
        generator=generator,
    )


def _relu(config: OneByOneConfig, generator: torch.Generator) -> TreatedModel:
    n = config.relu_features
    features, importance = SparseUniform([config.probability] * n), geometric(n, config.decay)
    start = TiedAutoencoder(n, config.relu_hidden, n_inst=config.relu_restarts, generator=generator)
    rounds = FitConfig(
        loss="sampled",
        adam_steps=config.relu_steps,
        batch_size=config.batch_size,
        learning_rate=0.03,
        stratified=True,
    )
    slow = replace(rounds, adam_steps=4 * config.relu_steps)
    ignored = importance * features.variance  # the best constant; a pure feature costs nothing
    trained = fit(start, features, importance, slow, generator=generator)
    return _treated(
        "relu",
        trained.model,
        features,
        importance,
        round_config=rounds,
        flatten_config=slow,
        mask_config=rounds,
        at_once=config.at_once,
        best=float(ignored.sort(descending=True).values[config.relu_hidden :].sum()),
        free=float(trained.loss.min()),
        generator=generator,
    )


def _treated(
    name: str,
    model: ToyModel,
    features: SparseFeatures,
    importance: Tensor,
    *,
    round_config: FitConfig,
    flatten_config: FitConfig,
    mask_config: FitConfig,
    at_once: tuple[int, ...],
    best: float,
    free: float,
    generator: torch.Generator,
) -> TreatedModel:
    batches = generator if round_config.loss == "sampled" else None

    def treatments() -> Iterator[Treatment]:
        whole = flatten(model, features, importance, flatten_config, share=FLATTEN_SHARE, generator=batches)
        yield _treatment("flatten", whole)
        for k in at_once:
            done = flatten_one_by_one(model, features, importance, round_config, at_once=k, generator=batches)
            yield _treatment(f"flatten {k}", done)
        for by in MASK_RULES:
            source = generator if by == "random" else batches
            yield _treatment(f"mask {by}", mask(model, features, importance, mask_config, by=by, generator=source))
        kept = mask(model, features, importance, mask_config, by="gain", keep=model.d_hidden, generator=batches)
        yield _treatment("keep gain", kept)

    found = tuple(treatments())
    history = found[1].history
    assert history is not None
    return TreatedModel(
        name=name,
        trained=history.loss[0],
        n_impure=history.n_impure[0],
        polysemanticity=history.polysemanticity[0],
        free=free,
        best=best,
        treatments=found,
    )


def _treatment(name: str, done: Flattened | OneByOne | Masked) -> Treatment:
    history = None if isinstance(done, Flattened) else done.history
    return Treatment(
        name=name,
        loss=done.fit.loss,
        polysemanticity=done.polysemanticity,
        n_impure=done.n_impure,
        n_rounds=torch.ones_like(done.n_impure) if history is None else history.n_rounds,
        n_steps=done.fit.n_steps,
        history=history,
    )
