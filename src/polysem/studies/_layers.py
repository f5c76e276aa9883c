"""Large residual networks, layer by layer: where features lie, what capacity they have there, and what it is worth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polysem.features import SparseUniform, zipf
from polysem.measure import FeatureClass
from polysem.returns import EqualReturns, Layer, equal_returns
from polysem.returns import layers as measure_layers
from polysem.studies._configs_layers import LayersConfig
from polysem.studies._dealt import dealt_dispersion
from polysem.studies._ranks import by_rank
from polysem.training import FitConfig, fit
from polysem.zoo import ResidualMLP

DRAW = 4096
JACOBIAN_SAMPLES = 32
OUTPUTS = "outputs"


@dataclass(frozen=True)
class State:
    """One kind of features in one state of a network.

    Attributes:
        name: "embedding", "block 1", ..., read as well as can be linearly; or "outputs", the last state as the network
            itself reads it.
        signal: "x" for the inputs, "|x|" for their absolute values.
        test: capacities, and the equal-returns test of prices that each feature's own loss feels.
        explained: squared correlation of each readout with its feature.
        whole: `-dL/dC_i` of the whole loss.
        whole_stderr: its standard error.
        jacobian: median cosine of the slopes that embed the features here with their average Jacobians, which few
            samples suffice for; None where those are not to be had.
    """

    name: str
    signal: str
    test: EqualReturns
    explained: Float[Tensor, " n_features"]
    whole: Float[Tensor, " n_features"]
    whole_stderr: Float[Tensor, " n_features"]
    jacobian: float | None

    @property
    def capacity(self) -> Float[Tensor, " n_features"]:
        """Response capacity of every feature."""
        return self.test.capacity

    @property
    def mean_benefit(self) -> Float[Tensor, " n_bins"]:
        """Mean benefit of the impure features in each bin of ranks; NaN in one without."""
        return by_rank(self.test.benefit, self.test.feature_class == FeatureClass.IMPURE)

    @property
    def price_ratio(self) -> float:
        """Largest over smallest of these means; infinite where one is not positive, 1 where there is none."""
        mean = self.mean_benefit[~self.mean_benefit.isnan()]
        if not len(mean):
            return 1.0
        return float(mean.max() / mean.min()) if float(mean.min()) > 0 else float("inf")

    @property
    def whole_share(self) -> float:
        """Size of the impure features' benefits to the whole loss, beyond their errors, over the mean own benefit."""
        impure = self.test.feature_class == FeatureClass.IMPURE
        if not bool(impure.any()):
            return 0.0
        square = (self.whole.square() - self.whole_stderr.square())[impure].mean().clamp(min=0)
        return float(square.sqrt() / self.test.prices.mean.abs())


@dataclass(frozen=True)
class Deep:
    """One trained network.

    Attributes:
        task: "reconstruct" or "compute".
        relative_loss: expected loss over that of ignoring every feature.
        monosemantic: the same if the most important features had a dimension each and the others none.
        states: of the trained network, in order; the target of its outputs last.
        start: the outputs before training.
        null: dispersion of the outputs' prices if importances were dealt out to other features, `[n_deals]`.
    """

    task: str
    relative_loss: float
    monosemantic: float
    states: tuple[State, ...]
    start: State
    null: Float[Tensor, " n_deals"]

    @property
    def target(self) -> str:
        """Signal that the outputs should show."""
        return self.states[-1].signal

    def of(self, signal: str) -> tuple[State, ...]:
        """The states, measured for one signal."""
        return tuple(state for state in self.states if state.signal == signal)


@dataclass(frozen=True)
class Layers:
    """What was found in both networks.

    Attributes:
        importance: of every feature.
        reconstruct: target `x`, a ReLU at the outputs.
        compute: target `|x|`, linear outputs.
    """

    importance: Float[Tensor, " n_features"]
    reconstruct: Deep
    compute: Deep

    @property
    def networks(self) -> tuple[Deep, Deep]:
        """Both."""
        return self.reconstruct, self.compute


def layers(config: LayersConfig = LayersConfig()) -> Layers:
    """Train both networks and measure every state, before and after.

    Features are uniform on [0, 1] when active where they are to be reconstructed, and signed where their absolute value
    is the target. ReLU neurons; float32.

    Example:
        >>> small = LayersConfig(n_features=24, d_hidden=8, d_mlp=8, adam_steps=200, batch_size=64, samples=2000)
        >>> found = layers(small)
        >>> [(state.name, state.signal) for state in found.reconstruct.states]
        [('embedding', 'x'), ('block 1', 'x'), ('block 2', 'x'), ('block 3', 'x'), ('outputs', 'x')]

    Source: ours.
    """
    importance = zipf(config.n_features, config.exponent)
    return Layers(importance, _network(config, importance, "reconstruct"), _network(config, importance, "compute"))


def _network(config: LayersConfig, importance: Tensor, task: str) -> Deep:
    generator = torch.Generator(config.device).manual_seed(config.seed)
    reconstruct = task == "reconstruct"
    p = torch.full((config.n_features,), config.feature_probability, device=config.device)
    features = SparseUniform(p, signed=not reconstruct)
    start = ResidualMLP(
        config.n_features,
        config.d_hidden,
        n_layers=config.n_layers,
        d_mlp=config.d_mlp,
        target="identity" if reconstruct else "abs",
        output="relu" if reconstruct else "identity",
        generator=generator,
        dtype=torch.float32,
    )
    settings = FitConfig(
        loss="sampled",
        adam_steps=config.adam_steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup_steps=min(50, config.adam_steps),
        record_every=100,
    )
    done = fit(start, features, importance, settings, generator=generator)
    x = torch.cat(list(_draws(features, config.samples, generator)))
    assert isinstance(done.model, ResidualMLP)
    target, variance = "x" if reconstruct else "|x|", float(SparseUniform(config.feature_probability).variance)
    states = [
        state
        for signal in dict.fromkeys(("x", target))
        for state in _measured(done.model, x, importance, signal, _streams(done.model), {}, config.passes)
    ]
    ended, start_outputs = (_outputs(model, x, importance, target, config.passes) for model in (done.model, start))
    return Deep(
        task=task,
        relative_loss=float(done.loss) / (variance * float(importance.sum())),
        monosemantic=float(importance[config.d_hidden :].sum() / importance.sum()),
        states=(*states, ended),
        start=start_outputs,
        null=dealt_dispersion(ended.test, importance, config.seed),
    )


def _draws(features: SparseUniform, n: int, generator: torch.Generator) -> Iterator[Tensor]:
    for first in range(0, n, DRAW):
        yield features.sample(min(DRAW, n - first), generator=generator, dtype=torch.float32)


def _outputs(model: ResidualMLP, x: Tensor, importance: Tensor, signal: str, passes: int) -> State:
    """The last stream, as the outputs read it."""
    last = list(_streams(model))[-1]
    (state,) = _measured(model, x, importance, signal, {last: OUTPUTS}, {last: model.readout.detach()[0]}, passes)
    return state


def _measured(
    model: ResidualMLP,
    x: Tensor,
    importance: Tensor,
    signal: str,
    names: dict[str, str],
    readout: dict[str, Tensor],
    passes: int,
) -> Iterator[State]:
    scale, network = importance.to(x), model.network()
    f = x if signal == "x" else x.abs()

    def own(output: Tensor, x: Tensor) -> Tensor:
        return scale * (output - model.targets(x[:, None])[:, 0]).square()

    def whole(output: Tensor, x: Tensor) -> Tensor:
        return own(output, x).sum(-1)

    apart = measure_layers(network, x, own, tuple(names), features=f, readout=readout, per_feature=True, passes=passes)
    whole_loss = measure_layers(network, x, whole, tuple(names), features=f, readout=readout)
    moved: Sequence[Layer | None] = [None] * len(names)
    if signal == "x":
        moved = measure_layers(
            network, x[:JACOBIAN_SAMPLES], whole, tuple(names), embedding="jacobian", standardise=False
        )
    for mine, total, slope, name in zip(apart, whole_loss, moved, names.values(), strict=True):
        cosine = None if slope is None else torch.cosine_similarity(mine.embedding, slope.embedding, dim=-1)
        yield State(
            name=name,
            signal=signal,
            test=equal_returns(mine.prices),
            explained=mine.explained,
            whole=-total.prices.price,
            whole_stderr=total.prices.stderr,
            jacobian=None if cosine is None else float(cosine.median()),
        )


def _streams(model: ResidualMLP) -> dict[str, str]:
    """Submodules whose outputs are the streams, and what they are called."""
    return {"embed": "embedding", **{f"block_{k}": f"block {k}" for k in range(1, model.n_layers + 1)}}
