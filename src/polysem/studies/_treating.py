"""Features that are not given, found and treated: quadratic models, and a network over pixels."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysem.features import SparseSign, geometric
from polysem.interventions import (
    FoundDirections,
    SearchedAndTreated,
    View,
    direction_scores,
    flatten_one_by_one,
    mask,
    match,
    search,
    search_and_treat,
    view,
)
from polysem.measure import FeatureClass, classify, direction_capacity, response_capacity
from polysem.studies._configs_treating import TreatingConfig
from polysem.training import FitConfig, fit
from polysem.zoo import QuadraticModel, TiedAutoencoder, ToyModel

PIXELS = 8
"""The digits are 8 × 8 images."""
TOP = 8
"""A direction's weight on so many pixels says how local it is."""
RATE = 0.02
PROCEDURES: tuple[tuple[str, Literal["flatten", "mask"], str], ...] = (
    ("search, flatten", "flatten", "diminishing"),
    ("search, mask", "mask", "diminishing"),
    ("least importance, mask", "mask", "importance"),
)


@dataclass(frozen=True)
class TreatedWay:
    """Quadratic models after one procedure.

    Attributes:
        name: what was done.
        loss: of each, over all features, without penalties.
        n_impure: how many features are impure.
        n_treated: how many directions or features were treated.
        n_true: how many of the treated directions are features; all of them where features are known.
    """

    name: str
    loss: Float[Tensor, " n_seeds"]
    n_impure: Int[Tensor, " n_seeds"]
    n_treated: Int[Tensor, " n_seeds"]
    n_true: Int[Tensor, " n_seeds"]

    @property
    def n_monosemantic(self) -> int:
        """How many models have no impure feature."""
        return int((self.n_impure == 0).sum())


@dataclass(frozen=True)
class PixelDirections:
    """Directions in the space of 8 × 8 pixels.

    Attributes:
        name: what was searched for.
        directions: unit vectors as rows; the sign is that of the largest entry.
        score: of the search, on the images that it saw.
        capacity: in the trained network.
        kurtosis: `|F_u - 3|` of `u·x` over all images.
        local: share of the squared weight on the eight pixels with the most.
    """

    name: str
    directions: Float[Tensor, "n_directions n_pixels"]
    score: Float[Tensor, " n_directions"]
    capacity: Float[Tensor, " n_directions"]
    kurtosis: Float[Tensor, " n_directions"]
    local: Float[Tensor, " n_directions"]


@dataclass(frozen=True)
class Digits:
    """An autoencoder of handwritten digits, searched and flattened direction by direction.

    Attributes:
        relative_loss: of the trained network, over the variance of the images.
        found: by diminishing returns and by FastICA.
        treated: the history of flattening.
        capacity_after: of its directions at the end.
        control: loss after as many steps of training without a charge.
    """

    relative_loss: float
    found: tuple[PixelDirections, ...]
    treated: SearchedAndTreated
    capacity_after: Float[Tensor, " n_rounds"]
    control: float

    @property
    def charged(self) -> Int[Tensor, " n_charged"]:
        """The rounds in which a direction was charged."""
        return self.treated.treated[:, 0].nonzero()[:, 0]


@dataclass(frozen=True)
class Treating:
    """Everything that was done.

    Attributes:
        ways: quadratic models after each procedure, the trained ones first.
        floor: loss of the best monosemantic allocation.
        digits: None where scikit-learn, which has the images, is not installed.
    """

    ways: tuple[TreatedWay, ...]
    floor: float
    digits: Digits | None


def treating(config: TreatingConfig = TreatingConfig()) -> Treating:
    """Search, treat, train on and repeat, where features are not given, beside the same where they are.

    Example:
        >>> config = TreatingConfig(n_features=3, d_hidden=1, seeds=1, steps=80, restarts=3, digits_hidden=4,
        ...     digits_steps=5, digits_rounds=1, digits_directions=1, digits_samples=80)
        >>> [way.n_monosemantic for way in treating(config).ways[:2]]
        [0, 1]

    Source: ours.
    """
    v = geometric(config.n_features, config.decay)
    floor = float((config.kurtosis - 1) * v.square()[config.d_hidden :].sum())
    return Treating(_quadratic(config, v), floor, _digits(config) if find_spec("sklearn") else None)


def _quadratic(config: TreatingConfig, v: Tensor) -> tuple[TreatedWay, ...]:
    n, seeds, F = config.n_features, config.seeds, config.kurtosis
    g = torch.Generator().manual_seed(config.seed)
    features = SparseSign.from_kurtosis([[F] * n] * seeds, standardise=True)
    start = fit(QuadraticModel(n, config.d_hidden, n_inst=seeds, generator=g), features, v).model
    Q = torch.linalg.qr(torch.randn(seeds, n, n, generator=g, dtype=torch.float64)).Q
    x = features.sample(config.n_samples, generator=g)

    def loss(model: ToyModel, room: Tensor) -> Tensor:
        """`2 |A|² + Σ_i (F_i - 3) A_ii²`, the exact loss for `A`, true less predicted coefficients of what is left."""
        A = room @ (model.response() - torch.diag(v)) @ room
        return 2 * A.square().sum((-2, -1)) + (F - 3) * A.diagonal(dim1=-2, dim2=-1).square().sum(-1)

    def look(model: ToyModel, room: Tensor) -> View:
        return view(model, torch.einsum("snf,nfg->sng", x, room), v, rotation=Q)

    none = torch.zeros(seeds, dtype=torch.int64)
    ways = [TreatedWay("trained", _exact(start, features, v), _n_impure(start), none, none)]
    for name, treatment, objective in PROCEDURES:
        done = search_and_treat(
            start,
            loss,
            look,
            rotation=Q,
            steps=config.steps,
            restarts=config.restarts,
            search_steps=config.search_steps,
            learning_rate=RATE,
            treatment=treatment,
            objective=objective,
            generator=g,
        )
        is_feature = match(done.directions.transpose(0, 1), Q).feature >= 0
        n_true = (is_feature.mT & done.treated).sum(0)
        ways.append(TreatedWay(name, done.loss[-1], _n_impure(done.model), done.treated.sum(0), n_true))
    steps = FitConfig(adam_steps=config.steps)
    one, masked = flatten_one_by_one(start, features, v, steps), mask(start, features, v)
    for name, known in (("known, flatten", one), ("known, mask", masked)):
        count = (known.history.chosen >= 0).sum((0, 2))
        ways.append(TreatedWay(name, _exact(known.fit.model, features, v), known.n_impure, count, count))
    return tuple(ways)


def _exact(model: ToyModel, features: SparseSign, v: Tensor) -> Float[Tensor, " n_inst"]:
    """Expected loss over all features."""
    return model.exact_loss(features, v).detach()


def _n_impure(model: ToyModel) -> Int[Tensor, " n_inst"]:
    W, V = model.embedding.detach(), model.readout.detach()
    kind = classify(response_capacity(W, V), torch.linalg.vector_norm(W, dim=-1))
    return (kind == FeatureClass.IMPURE).sum(-1)


def _digits(config: TreatingConfig) -> Digits:
    from sklearn.datasets import load_digits

    images = torch.from_numpy(load_digits().data).double()
    images = images / images.var(0).mean().sqrt()
    variance = float(images.var(0, correction=0).sum())
    g = torch.Generator().manual_seed(config.seed)
    some = images[torch.randperm(len(images), generator=g)[: config.digits_samples]]
    ones = torch.ones(images.shape[1], dtype=torch.float64)

    def loss(model: ToyModel, room: Tensor) -> Tensor:
        return model.unchecked_loss(_left(images, room), ones.expand(1, -1)).mean(0)

    def look_at(x: Tensor) -> Callable[[ToyModel, Tensor], View]:
        return lambda model, room: view(model, _left(x, room), ones)

    look = look_at(some)
    model = TiedAutoencoder(len(ones), config.digits_hidden, activation="relu", generator=g)
    whole = torch.eye(len(ones), dtype=torch.float64)[None]
    _train(model, lambda: loss(model, whole).sum(), config.digits_steps)
    every = look_at(images)(model, whole)
    found = []
    for objective in ("diminishing", "non_gaussian"):
        sought = search(
            look(model, whole),
            objective,
            n_directions=config.digits_directions,
            restarts=config.restarts,
            steps=config.search_steps,
            generator=g,
        )
        found.append(_pixels(sought, every))
    treated = search_and_treat(
        model,
        loss,
        look,
        rounds=config.digits_rounds,
        steps=config.steps,
        learning_rate=RATE,
        restarts=config.restarts,
        search_steps=config.search_steps,
        generator=g,
    )
    for _ in range(int(treated.treated.sum())):
        _train(model, lambda: loss(model, whole).sum(), config.steps)
    after = direction_capacity(treated.model.response()[0].detach(), treated.directions[:, 0])
    control = float(loss(model, whole).detach())
    return Digits(float(treated.loss[0, 0]) / variance, tuple(found), treated, after, control)


def _left(x: Tensor, room: Float[Tensor, "1 n n"]) -> Float[Tensor, "n_samples 1 n"]:
    """What is left of images."""
    return (x @ room[0])[:, None]


def _train(model: ToyModel, loss: Callable[[], Tensor], steps: int) -> None:
    """Adam on all images, in place."""
    adam = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(steps):
        slopes = torch.autograd.grad(loss(), list(model.parameters()))
        for parameter, slope in zip(model.parameters(), slopes, strict=True):
            parameter.grad = slope
        adam.step()
        schedule.step()


def _pixels(found: FoundDirections, every: View) -> PixelDirections:
    u = found.directions[0]
    largest = u.gather(-1, u.abs().argmax(-1, keepdim=True))
    share = u.square().sort(-1, descending=True).values[:, :TOP].sum(-1)
    kurtosis = direction_scores(every, "non_gaussian", found.directions)[0]
    return PixelDirections(found.objective, u * largest.sign(), found.score[0], found.capacity[0], kurtosis, share)
