"""Flattened returns: do all features become monosemantic, which ones, at what price, and for how long?"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from polysem.features import SparseFeatures, SparseSign, SparseUniform, geometric
from polysem.interventions import Flattened, flatten, flattening_kappa
from polysem.measure import IGNORED_BELOW, PURE_ABOVE, classify, polysemanticity
from polysem.returns import Curves, curve
from polysem.studies._configs_flattening import FlatteningConfig
from polysem.theory import allocate, allocate_curves
from polysem.training import FitConfig
from polysem.zoo import QuadraticModel, TiedAutoencoder, ToyModel

AT_FLOOR = 1e-4
LOWEST_SHARE = 0.01
BISECTIONS = 16
RECORDS = 50
LEARNING_RATE = 0.03


@dataclass(frozen=True)
class Way:
    """Restarts that were trained in one way, with one penalty.

    Attributes:
        name: what was done.
        loss: `[restarts]`, without the penalty.
        n_impure: polysemantic features at the end.
        floor: loss of the best monosemantic allocation.
        optimum: loss of the best allocation there is.
    """

    name: str
    loss: Tensor
    n_impure: Tensor
    floor: float
    optimum: float

    @property
    def n_monosemantic(self) -> int:
        """Restarts without a polysemantic feature."""
        return int((self.n_impure == 0).sum())

    @property
    def n_at_floor(self) -> int:
        """Restarts that are monosemantic with the best features: within 1e-4 of the floor."""
        return int(((self.n_impure == 0) & (self.loss <= self.floor * (1 + AT_FLOOR))).sum())

    @property
    def choice_error(self) -> Tensor:
        """Loss above that of the best monosemantic allocation `[restarts]`."""
        return self.loss - self.floor

    @property
    def price(self) -> float:
        """Loss of the best monosemantic allocation above that of the best one: what monosemanticity itself costs."""
        return self.floor - self.optimum


@dataclass(frozen=True)
class Threshold:
    """How much penalty suffices, as a share of what makes every curve concave.

    Attributes:
        uniform: whether every feature has the largest `κ_i`, or its own.
        shares: of the penalty `[n_shares]`.
        monosemantic: share of trained starts without a polysemantic feature `[n_shares]`.
        loss: without the penalty, relative to that of the best monosemantic allocation `[n_shares, restarts]`.
        polysemanticity: `[n_shares, restarts]`.
        optimum: least share at which the best allocation of the penalised curves is monosemantic.
        chord: share that is the bound of the chord.
    """

    uniform: bool
    shares: Tensor
    monosemantic: Tensor
    loss: Tensor
    polysemanticity: Tensor
    optimum: float
    chord: float

    @property
    def trained(self) -> float:
        """Least share from which on every start ended monosemantic; NaN where the largest did not suffice."""
        enough = self.monosemantic.flip(0).cummin(0).values.flip(0) == 1
        return float(self.shares[enough][0]) if enough.any() else float("nan")


@dataclass(frozen=True)
class Stage:
    """One training of a stack, as it went.

    Attributes:
        steps: at which it was looked at `[n_records]`.
        loss: relative to that of the best monosemantic allocation `[n_records, n_inst]`.
        polysemanticity: `[n_records, n_inst]`.
        end_loss: the same loss at the end `[n_inst]`; with its own standard error where it is sampled.
        end_index: polysemanticity at the end `[n_inst]`.
    """

    steps: Tensor
    loss: Tensor
    polysemanticity: Tensor
    end_loss: Tensor
    end_index: Tensor


@dataclass(frozen=True)
class Ways:
    """The same starts trained without a penalty, with it from scratch or after, and once it is gone again.

    Attributes:
        name: of the model.
        feature_probability: of its features; NaN for the quadratic model, which goes by kurtosis.
        kappa: the largest in use.
        ordinary: without a penalty.
        scratch: with the penalty from the start.
        tuned: with it after ordinary training.
        scratch_released: without it after `scratch`.
        tuned_released: without it after `tuned`.
    """

    name: str
    feature_probability: float
    kappa: float
    ordinary: Stage
    scratch: Stage
    tuned: Stage
    scratch_released: Stage
    tuned_released: Stage

    @property
    def fall(self) -> float:
        """By which share fine-tuning with the penalty lowers the mean index of polysemanticity."""
        return float(1 - self.tuned.end_index.mean() / self.ordinary.end_index.mean())


@dataclass(frozen=True)
class Flattening:
    """What flattening does to the quadratic model and to ReLU autoencoders.

    Attributes:
        ways: penalties on the quadratic model, from scratch.
        thresholds: how much penalty suffices there.
        quadratic: the three ways in, on the quadratic model.
        relu: the same on ReLU autoencoders, at each probability.
    """

    ways: tuple[Way, ...]
    thresholds: tuple[Threshold, ...]
    quadratic: Ways
    relu: tuple[Ways, ...]


def flattening(config: FlatteningConfig = FlatteningConfig()) -> Flattening:
    """Flatten the returns of a quadratic model and of ReLU autoencoders, in every way there is.

    Example:
        >>> small = dict(n_features=4, d_hidden=2, restarts=3, adam_steps=400, n_shares=3)
        >>> tiny = dict(probabilities=(0.1,), relu_features=3, relu_hidden=2, relu_restarts=2, relu_steps=20)
        >>> found = flattening(FlatteningConfig(**small, **tiny))
        >>> [(way.name, way.n_monosemantic) for way in found.ways][:2]
        [('no penalty', 0), ('κ of each feature', 3)]

    Source: ours; the question is that of the discussion under the summary post of Scherlis et al. 2022.
    """
    model = _Quadratic.of(config)
    return Flattening(
        tuple(_penalties(model)),
        _thresholds(model),
        _quadratic_ways(model),
        tuple(_relu_ways(config, p) for p in config.probabilities),
    )


@dataclass(frozen=True)
class _Quadratic:
    """The quadratic model, its curves and its best allocations."""

    config: FlatteningConfig
    start: QuadraticModel
    features: SparseFeatures
    v: Tensor
    curves: Curves

    @classmethod
    def of(cls, config: FlatteningConfig) -> "_Quadratic":
        N, D = config.n_features, config.d_hidden
        start = QuadraticModel(N, D, n_inst=config.restarts, generator=torch.Generator().manual_seed(config.seed))
        features = SparseSign.from_kurtosis([config.kurtosis] * N, standardise=True)
        v = geometric(N, config.decay)
        return cls(config, start, features, v, curve(QuadraticModel(N, D), features, v))

    @property
    def floor(self) -> float:
        return best_monosemantic_loss(self.curves, self.config.d_hidden)

    @property
    def settings(self) -> FitConfig:
        return _recorded(FitConfig(adam_steps=self.config.adam_steps))

    def kappa(self, *, uniform: bool, bound: Literal["concave", "chord"] = "concave") -> Tensor:
        """What suffices `[n_features]`: the same for all features, or its own for each."""
        kappa = flattening_kappa(self.curves, bound=bound)[0]
        return kappa.max().expand_as(kappa) if uniform else kappa

    def train(self, kappas: Sequence[Tensor], ramp: int) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, polysemantic features and polysemanticity `[n_kappas, restarts]` of the starts with each penalty."""
        c = self.config
        stack = QuadraticModel(c.n_features, c.d_hidden, n_inst=len(kappas) * c.restarts)
        with torch.no_grad():
            stack.W.copy_(self.start.W.repeat(len(kappas), 1, 1))
        each = torch.stack(list(kappas)).repeat_interleave(c.restarts, 0)
        settings = FitConfig(adam_steps=c.adam_steps)
        done = flatten(stack, self.features, self.v, settings, kappa=each, uniform=False, ramp=ramp)
        loss, n_impure, index = (
            found.reshape(len(kappas), c.restarts) for found in (done.fit.loss, done.n_impure, done.polysemanticity)
        )
        return loss, n_impure, index


def _penalties(model: _Quadratic) -> Iterator[Way]:
    own, uniform = model.kappa(uniform=False), model.kappa(uniform=True)
    at_once = {"no penalty": 0 * own, "κ of each feature": own, "largest κ for all": uniform}
    ramped = {
        "κ of each feature, ramped": own,
        "a tenth of that, ramped": 0.1 * own,
        "largest κ for all, ramped": uniform,
        "a tenth of that, ramped, for all": 0.1 * uniform,
        "bound of the chord for all, ramped": model.kappa(uniform=True, bound="chord"),
    }
    optimum = float(allocate(model.v, model.config.kurtosis, model.config.d_hidden).loss)
    for kappas, ramp in ((at_once, 0), (ramped, model.config.adam_steps // 2)):
        loss, n_impure, _ = model.train(list(kappas.values()), ramp)
        for index, name in enumerate(kappas):
            yield Way(name, loss[index], n_impure[index], model.floor, optimum)


def _thresholds(model: _Quadratic) -> tuple[Threshold, ...]:
    c = model.config
    shares = torch.logspace(math.log10(LOWEST_SHARE), 0, c.n_shares, dtype=torch.float64)
    kinds = (True, False)
    kappas = [share * model.kappa(uniform=uniform) for uniform in kinds for share in shares]
    found = (values.reshape(len(kinds), c.n_shares, -1) for values in model.train(kappas, c.adam_steps // 2))
    loss, n_impure, index = found
    chord = model.kappa(uniform=False, bound="chord")
    return tuple(
        Threshold(
            uniform=uniform,
            shares=shares,
            monosemantic=(n_impure[k] == 0).double().mean(-1),
            loss=loss[k] / model.floor,
            polysemanticity=index[k],
            optimum=_least_share(model.curves, model.kappa(uniform=uniform), c.d_hidden),
            chord=float((chord / model.kappa(uniform=uniform)).max()),
        )
        for k, uniform in enumerate(kinds)
    )


def _least_share(curves: Curves, kappa: Tensor, d_hidden: int) -> float:
    """The least share of `κ` with which the best allocation of the penalised curves is monosemantic, by bisection."""
    C = curves.C_grid
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        share = (low + high) / 2
        best = allocate_curves(C, curves.losses[0] + share * kappa[:, None] * C * (1 - C), d_hidden).capacity
        monosemantic = bool(((best < IGNORED_BELOW) | (best > PURE_ABOVE)).all())
        low, high = (low, share) if monosemantic else (share, high)
    return high


def _quadratic_ways(m: _Quadratic) -> Ways:
    def train(model: ToyModel, share: float) -> Flattened:
        return flatten(model, m.features, m.v, m.settings, curves=m.curves, share=share)

    return _ways("quadratic", float("nan"), m.start, train, m.floor, m.settings.record_every)


def _relu_ways(config: FlatteningConfig, probability: float) -> Ways:
    n, g = config.relu_features, torch.Generator().manual_seed(config.seed)
    features, importance = SparseUniform([probability] * n), geometric(n, config.decay)
    start = TiedAutoencoder(n, config.relu_hidden, n_inst=config.relu_restarts, generator=g)
    settings = _recorded(
        FitConfig(
            loss="sampled",
            adam_steps=config.relu_steps,
            batch_size=config.batch_size,
            learning_rate=LEARNING_RATE,
            stratified=True,
        )
    )

    def train(model: ToyModel, share: float) -> Flattened:
        if share == 0:
            return flatten(model, features, importance, settings, kappa=0.0, generator=g)
        return flatten(model, features, importance, settings, share=share, generator=g)

    floor = best_monosemantic_loss(curve(start, features, importance), config.relu_hidden)
    return _ways("relu", probability, start, train, floor, settings.record_every)


def _ways(
    name: str,
    probability: float,
    start: ToyModel,
    train: Callable[[ToyModel, float], Flattened],
    floor: float,
    every: int,
) -> Ways:
    ordinary, scratch = train(start, 0.0), train(start, 1.0)
    tuned = train(ordinary.fit.model, 1.0)
    released = [train(one.fit.model, 0.0) for one in (scratch, tuned)]
    kappa = float(tuned.kappa.max())
    stages = (_stage(one, floor, every) for one in (ordinary, scratch, tuned, *released))
    return Ways(name, probability, kappa, *stages)


def _stage(done: Flattened, floor: float, every: int) -> Stage:
    fit = done.fit
    capacities = fit.capacities
    assert capacities is not None
    index = polysemanticity(capacities, classify(capacities))
    steps = torch.arange(len(fit.history) - 2) * every
    steps = torch.cat([steps, fit.n_steps[:1]])
    return Stage(steps, fit.history[:-1] / floor, index[:-1], fit.loss / floor, done.polysemanticity)


def _recorded(settings: FitConfig) -> FitConfig:
    return replace(settings, record_every=max(1, settings.adam_steps // RECORDS), record_capacities=True)


def best_monosemantic_loss(curves: Curves, d_hidden: int) -> float:
    """Loss of the best monosemantic allocation: a dimension each for those features that gain most by one."""
    ignored, pure = curves.losses[0, :, 0], curves.losses[0, :, -1]
    best = (ignored - pure).sort(descending=True).values[:d_hidden]
    return float(ignored.sum() - best.sum())
