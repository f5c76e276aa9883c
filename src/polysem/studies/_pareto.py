"""Polysemanticity against loss: every intervention and every architecture beside the best monosemantic allocation."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polysem.features import SparseFeatures, SparseSign, SparseUniform, geometric
from polysem.interventions import Treated, flatten, flatten_one_by_one, flattening_kappa, mask
from polysem.measure import IGNORED_BELOW
from polysem.returns import curve
from polysem.studies._architectures import ARCHITECTURES
from polysem.studies._comparison import Band, comparison, over_starts
from polysem.studies._configs import ComparisonConfig
from polysem.studies._configs_pareto import ParetoConfig
from polysem.studies._flattening import best_monosemantic_loss
from polysem.sweeps import Engine, SweepStatus
from polysem.training import FitConfig
from polysem.zoo import QuadraticModel, TiedAutoencoder, ToyModel

LOWEST_SHARE = 1e-3
LEARNING_RATE = 0.03


@dataclass(frozen=True)
class ParetoPoint:
    """What one way of training leads to.

    Attributes:
        name: what was done.
        kind: "ordinary", "penalty", "one by one", "mask" or "architecture".
        polysemanticity: mean over starts with its interval.
        loss: the same, of the loss relative to that of the best monosemantic allocation.
    """

    name: str
    kind: str
    polysemanticity: Band
    loss: Band


@dataclass(frozen=True)
class Pareto:
    """Points for either model.

    Attributes:
        quadratic: interventions on the quadratic model.
        relu: interventions on the ReLU autoencoder, and architectures.
        optimum: loss of the quadratic model's optimum, relative to the best monosemantic allocation.
    """

    quadratic: tuple[ParetoPoint, ...]
    relu: tuple[ParetoPoint, ...]
    optimum: float


def pareto(
    config: ParetoConfig,
    store: Path,
    *,
    engine: Engine | None = None,
    progress: Callable[[SweepStatus], None] | None = None,
) -> Pareto:
    """Apply every intervention to both models, and train the architectures.

    Args:
        config: of what.
        store: directory of the store of the sweep over architectures.
        engine: where these are trained; by default in this process.
        progress: called with the sweep's status.

    Returns:
        Polysemanticity and loss of each.

    Source: ours.
    """
    N, D, g = config.n_features, config.d_hidden, torch.Generator().manual_seed(config.seed)
    importance = geometric(N, config.decay)
    sign = SparseSign.from_kurtosis([config.kurtosis] * N, standardise=True)
    slab = SparseUniform([config.feature_probability] * N)
    sampled = FitConfig(
        loss="sampled",
        adam_steps=config.adam_steps,
        batch_size=config.batch_size,
        learning_rate=LEARNING_RATE,
        stratified=True,
    )
    exact = FitConfig(adam_steps=config.adam_steps, polish="none")
    quadratic = _Setting(config, QuadraticModel(N, D, n_inst=config.restarts, generator=g), sign, importance, exact)
    relu = _Setting(config, TiedAutoencoder(N, D, n_inst=config.restarts, generator=g), slab, importance, sampled)
    of_quadratic = tuple(quadratic.points())
    return Pareto(
        quadratic=of_quadratic,
        relu=(*relu.points(), *_architectures(config, store, engine, progress)),
        optimum=float(of_quadratic[0].loss.mean),
    )


@dataclass(frozen=True)
class _Setting:
    """One model with its inputs, and how it is trained."""

    config: ParetoConfig
    start: ToyModel
    features: SparseFeatures
    importance: Tensor
    fit: FitConfig

    def points(self) -> Iterator[ParetoPoint]:
        """Ordinary training, then every intervention on what it led to."""
        sampled = self.fit.loss == "sampled"
        g = torch.Generator().manual_seed(self.config.seed) if sampled else None
        what = (self.features, self.importance)
        ordinary = flatten(self.start, *what, self.fit, kappa=0.0, generator=g)
        trained = ordinary.fit.model
        curves = curve(trained, *what)
        floor = best_monosemantic_loss(curves, self.config.d_hidden)
        C_min = IGNORED_BELOW if sampled else 0.0
        kappa = flattening_kappa(curves, C_min=C_min).amax()

        yield _point("no intervention", "ordinary", ordinary, floor)
        for share in torch.logspace(math.log10(LOWEST_SHARE), 0, self.config.n_shares).tolist():
            done = flatten(trained, *what, self.fit, kappa=share * kappa, generator=g)
            yield _point(f"penalty, {share:.2g} κ", "penalty", done, floor)
        short = replace(self.fit, adam_steps=self.config.round_steps)
        for k in (1, self.config.n_features // 2):
            one = flatten_one_by_one(trained, *what, short, at_once=k, generator=g)
            yield _point("one by one" if k == 1 else f"{k} at once", "one by one", one, floor)
        drawn = torch.Generator().manual_seed(self.config.seed) if g is None else g
        yield _point("mask by benefit", "mask", mask(trained, *what, short, generator=g), floor)
        yield _point("mask at random", "mask", mask(trained, *what, short, by="random", generator=drawn), floor)
        once = mask(trained, *what, self.fit, by="gain", keep=self.config.d_hidden, generator=g)
        yield _point("mask at once", "mask", once, floor)


def _point(name: str, kind: str, done: Treated, floor: float) -> ParetoPoint:
    index, loss = done.polysemanticity.numpy(), done.fit.loss.double().numpy() / floor
    return ParetoPoint(name, kind, over_starts(index), over_starts(loss))


def _architectures(
    config: ParetoConfig, store: Path, engine: Engine | None, progress: Callable[[SweepStatus], None] | None
) -> Iterator[ParetoPoint]:
    found = comparison(comparison_config(config), store, engine=engine, progress=progress)
    index, loss = over_starts(found.polysemanticity), over_starts(found.relative_loss / found.monosemantic)
    for row, name in enumerate(found.architecture):
        yield ParetoPoint(name, "architecture", *(_at(band, (row, 0, -1)) for band in (index, loss)))


def comparison_config(config: ParetoConfig) -> ComparisonConfig:
    """The sweep over architectures: with the autoencoder's features, and with features that are always active."""
    names = config.architectures or tuple(name for name in ARCHITECTURES if name != "quadratic")
    return ComparisonConfig(
        names,
        n_features=config.n_features,
        d_hidden=(config.d_hidden,),
        decay=config.decay,
        n_probability=2,
        lowest_probability=config.feature_probability,
        restarts=config.restarts,
        adam_steps=config.adam_steps,
        batch_size=config.batch_size,
        seed=config.seed,
    )


def _at(band: Band, at: tuple[int, ...]) -> Band:
    return Band(np.asarray(band.mean[at]), np.asarray(band.half_width[at]))
