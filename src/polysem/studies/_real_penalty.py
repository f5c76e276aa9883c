"""The penalty on sharing, on networks that read real images: do features become monosemantic, and at what loss?"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from polysem.interventions import CapacityPenalty, flattening_kappa
from polysem.measure import IGNORED_BELOW, FeatureClass, classify, polysemanticity, response_capacity
from polysem.returns import Samples, curve
from polysem.studies._comparison import Band, over_starts
from polysem.studies._configs_real_penalty import RealPenaltyConfig
from polysem.studies._digits import (
    Images,
    NarrowClassifier,
    Reader,
    TiedAutoencoder,
    UntiedAutoencoder,
    Weights,
    WideClassifier,
    load_digits,
)

RAMP_SHARE = 1 / 2
DECAY_SHARE = 1 / 3
WARMUP = 20


@dataclass(frozen=True)
class Reading:
    """What is measured of a stack of networks; arrays `[n_kappa, n_starts]`.

    Attributes:
        polysemanticity: `measure.polysemanticity` of the features.
        number: how many features there are of each `FeatureClass` `[n_kappa, n_starts, 3]`.
        loss: on test images, over that of the best constant answer.
        score: on test images.
        count: on test images, an effective number that is no part of the penalty: how many things one thing stands for.
    """

    polysemanticity: np.ndarray
    number: np.ndarray
    loss: np.ndarray
    score: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class Penalised:
    """One kind of network: trained as usual, fine-tuned with the penalty, and then without it again.

    Attributes:
        name: of the network.
        features: what its features are.
        counts: what `Reading.count` counts.
        score: what `Reading.score` is.
        n_features: how many features there are.
        width: of the layer that they share.
        kappa: strengths `[n_kappa, n_starts]`, in units of the loss of ignoring one feature (that of the best constant
            answer over `n_features`); the first, 0, is the control.
        measured: whether the last of them is `flattening_kappa` of measured curves.
        monosemantic: loss of answering as many questions as the layer has dimensions without error, those of greatest
            loss, and the others as a constant, over that of the best constant answer `[n_starts]`; None where features
            are not what is asked.
        trained: before fine-tuning, `n_kappa = 1`.
        penalised: after fine-tuning.
        removed: after as many steps again, all without the penalty.
        null: mean polysemanticity of random directions with the norms that ordinary training gave `[n_starts]`.
    """

    name: str
    features: str
    counts: str
    score: str
    n_features: int
    width: int
    kappa: np.ndarray
    measured: bool
    monosemantic: np.ndarray | None
    trained: Reading
    penalised: Reading
    removed: Reading
    null: np.ndarray

    @property
    def weakest(self) -> int | None:
        """Place of the weakest penalty that halves polysemanticity; None where none does.

        The 95 % interval of its difference to half of the control's, start by start, lies below 0.
        """
        index = self.penalised.polysemanticity
        beyond = over_starts(index - index[:1] / 2)
        enough = np.flatnonzero(beyond.mean + beyond.half_width < 0)
        return int(enough[self.kappa.mean(-1)[enough].argmin()]) if len(enough) else None

    def against_control(self, what: str, *, removed: bool = False) -> Band:
        """Differences to the control of one array of the reading, start by start, after either stage `[n_kappa]`."""
        values: np.ndarray = getattr(self.removed if removed else self.penalised, what)
        return over_starts(values - values[:1])


@dataclass(frozen=True)
class RealPenalty:
    """What was found.

    Attributes:
        networks: wide classifier, tied and untied autoencoder, narrow classifier.
        n_train: images that each start is trained on.
        n_test: images that it is tested on.
    """

    networks: tuple[Penalised, ...]
    n_train: int
    n_test: int


def real_penalty(config: RealPenaltyConfig = RealPenaltyConfig()) -> RealPenalty:
    """Train networks on scikit-learn's digits, fine-tune them with a penalty on sharing, then take it away again.

    - "wide classifier": features are pixels; their rows are the weights to the hidden neurons, times standard
      deviations. There is a dimension for each.
    - "tied autoencoder", "untied autoencoder": features are pixels, embedded in a code of fewer dimensions and read out
      of it behind a ReLU.
    - "narrow classifier": features are the ten classes, embedded as the means of their images in a layer of fewer
      neurons, and read by a logit with a logistic loss each.

    All strengths of the penalty go on from the same trained weights and see the same batches.

    Raises:
        ModuleNotFoundError: scikit-learn is missing.

    Source: ours, for the question of the discussion under the summary post of Scherlis et al. 2022.
    """
    generator = torch.Generator().manual_seed(config.seed)
    train, test = load_digits(config.starts, generator)
    scale = train.x.std(-2)
    readers = (
        WideClassifier(scale, config.hidden, config.hidden),
        TiedAutoencoder(scale, config.code, config.hidden),
        UntiedAutoencoder(scale, config.code, config.hidden),
        NarrowClassifier(scale, config.bottleneck, config.hidden),
    )
    found = tuple(_penalised(reader, config, train, test, generator) for reader in readers)
    return RealPenalty(found, train.x.shape[1], test.x.shape[1])


def _penalised(
    reader: Reader, config: RealPenaltyConfig, train: Images, test: Images, generator: torch.Generator
) -> Penalised:
    trained = train_stage(reader, reader.start(generator), None, config, train, generator)
    embedding, readout = reader.frame(trained, train)
    n, width = embedding.shape[-2:]
    unit = reader.ignoring(train).sum(-1) / n
    kappa = torch.tensor((0.0, *config.kappa))[:, None] * unit
    measured = isinstance(reader, TiedAutoencoder)
    if measured:
        response = reader.response(embedding, readout)[0]
        kappa = torch.cat([kappa, _flattening(train.x[:, : config.curve_images], reader.scale, response)[None]])
    copies = {name: value.expand(len(kappa), *value.shape[1:]) for name, value in trained.items()}
    penalised = train_stage(reader, copies, kappa, config, train, generator)
    removed = train_stage(reader, penalised, None, config, train, generator)
    before, after, last = (_reading(reader, weights, train, test) for weights in (trained, penalised, removed))
    asked = reader.ignoring(test)
    return Penalised(
        name=reader.name,
        features=reader.features,
        counts=reader.counts,
        score=reader.score,
        n_features=n,
        width=width,
        kappa=(kappa / unit).numpy(),
        measured=measured,
        monosemantic=(1 - asked.topk(width).values.sum(-1) / asked.sum(-1)).numpy() if asked.shape[-1] == n else None,
        trained=before,
        penalised=after,
        removed=last,
        null=_null(reader, embedding[0], readout[0], config.null_draws, generator),
    )


def train_stage(
    reader: Reader,
    start: Weights,
    kappa: Float[Tensor, "n_kappa n_starts"] | None,
    config: RealPenaltyConfig,
    train: Images,
    generator: torch.Generator,
) -> Weights:
    """Train every network of a stack on the loss, and the penalty where there is one; `start` is left untouched."""
    weights = {name: value.clone().requires_grad_() for name, value in start.items()}
    optimiser = torch.optim.Adam(weights.values(), lr=config.learning_rate)
    penalty = None
    if kappa is not None:
        n_features = reader.frame(start, train)[0].shape[-2]
        each = kappa[..., None].expand(-1, -1, n_features)
        penalty = CapacityPenalty(each, ramp=max(1, round(RAMP_SHARE * config.steps)))
    n_starts, n_images = train.label.shape
    for step in range(config.steps):
        places = torch.randint(n_images, (n_starts, config.batch_size), generator=generator)
        batch = train.select(places)
        left = (config.steps - step) / (DECAY_SHARE * config.steps)
        optimiser.param_groups[0]["lr"] = config.learning_rate * min(1.0, left, (step + 1) / WARMUP)
        loss = reader.losses(reader.outputs(weights, batch.x), batch)
        if penalty is not None:
            embedding, readout = reader.frame(weights, batch)
            alone = readout is embedding
            loss = loss + (penalty(embedding) if alone else penalty(response=reader.response(embedding, readout)))
        for value, slope in zip(weights.values(), torch.autograd.grad(loss.sum(), list(weights.values())), strict=True):
            value.grad = slope
        optimiser.step()
    return {name: value.detach() for name, value in weights.items()}


@torch.no_grad()
def _reading(reader: Reader, weights: Weights, train: Images, test: Images) -> Reading:
    """Features as they are on the training images, all else on the test images."""
    C, kind = _capacities(reader, *reader.frame(weights, train))
    z = reader.outputs(weights, test.x)
    return Reading(
        polysemanticity=polysemanticity(C, kind).numpy(),
        number=torch.stack([(kind == one).sum(-1) for one in FeatureClass], -1).numpy(),
        loss=(reader.losses(z, test) / reader.ignoring(test).sum(-1)).numpy(),
        score=reader.scores(z, test).numpy(),
        count=reader.count(weights, test).numpy(),
    )


def _capacities(reader: Reader, embedding: Tensor, readout: Tensor) -> tuple[Tensor, Tensor]:
    """Capacities, in float64, and classes."""
    R = reader.response(embedding.double(), readout.double())
    C = response_capacity(torch.eye(R.shape[-1]).to(R).expand_as(R), R)
    return C, classify(C, torch.linalg.vector_norm(embedding.double(), dim=-1))


def _null(reader: Reader, embedding: Tensor, readout: Tensor, draws: int, generator: torch.Generator) -> np.ndarray:
    """Mean index of random directions; embedding and readout go the same way where they do in the network."""

    def drawn(rows: Tensor) -> Tensor:
        direction = torch.randn((draws, *rows.shape), generator=generator)
        return direction * (_norm(rows) / _norm(direction))

    rows = drawn(embedding)
    if isinstance(reader, UntiedAutoencoder | NarrowClassifier):
        other = drawn(readout)
    else:
        other = rows if readout is embedding else rows / reader.scale[..., None]
    return np.asarray(polysemanticity(*_capacities(reader, rows, other)).mean(0).numpy())


def _norm(rows: Tensor) -> Tensor:
    return rows.square().sum(-1, keepdim=True).sqrt()


def _flattening(
    x: Float[Tensor, "n_starts n_images n"], scale: Float[Tensor, "n_starts n"], R: Float[Tensor, "n_starts n n"]
) -> Float[Tensor, " n_starts"]:
    """The largest `κ_i` of the pixels' chords: each pixel in units of its deviation, its loss weighted by variance."""
    kappa = [
        flattening_kappa(
            curve(Samples(pixels / sigma, response=response, loss="relu"), importance=sigma.square()),
            C_min=IGNORED_BELOW,
            bound="chord",
        ).max()
        for pixels, sigma, response in zip(x.double(), scale.double(), R.double(), strict=True)
    ]
    return torch.stack(kappa).to(x)
