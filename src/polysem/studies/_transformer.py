"""Small transformers with known features: what the activation of their neurons does to polysemanticity, and costs."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional

from polysem.features import geometric
from polysem.measure import FeatureClass, features_per_neuron, polysemanticity
from polysem.returns import EqualReturns, Prices, equal_returns, layers
from polysem.studies._configs_transformer import LEARNING_RATES, TransformerConfig
from polysem.sweeps import Engine, Grid, Output, Stack, SweepStatus, run, task
from polysem.zoo import KINDS, SequenceTask, SequenceTransformer

if TYPE_CHECKING:
    import xarray as xr

WARM_UP = 0.05
PASSES = 8
STAGES = ("hook_pre", "hook_mid", "hook_post")
"""Neurons before their activation, after it, and after the layer norm that SoLU has, as the stream receives them."""

READ: dict[str, int | str] = {"place": "n_places", "variable": len(KINDS), "feature": "n_features"}


@task(
    shared=(
        "activation",
        "n_features",
        "decay",
        "feature_probability",
        "n_positions",
        "d_model",
        "d_mlp",
        "n_layers",
        "n_heads",
        "n_places",
        "steps",
        "batch_size",
        "n_test",
    ),
    outputs={
        "loss": Output({"target": 2}),
        "loss_ignored": Output({"target": 2}),
        "loss_monosemantic": Output(),
        "importance": Output({"feature": "n_features"}),
        "capacity": Output(READ),
        "kind": Output(READ, "int64"),
        "price": Output(READ),
        "price_stderr": Output(READ),
        "features_per_neuron": Output({"stage": len(STAGES), "layer": "n_layers", "neuron": "d_mlp"}),
    },
    max_cells=1,
)
def transformer_cells(stack: Stack) -> dict[str, Tensor]:
    r"""Train one transformer, and read its features in the residual stream and at its neurons.

    Places are those of the stream, from the embedding to the end of the last block, then the neurons of each block.
    Variables are `zoo.KINDS`. The price of a variable is `dL_i/dC_i` where `L_i` is what the network loses on that
    feature (`SequenceTask.own_losses`), in units of the loss of ignoring everything.

    Args:
        stack: one cell, with the settings of `TransformerConfig`.

    Returns:
        Losses of the magnitudes here and before, on other sequences than those of training, and the exact ones of
        ignoring them; that of holding as many targets as the stream has dimensions without error; capacities,
        `FeatureClass` (`kind`) and prices; features per neuron, NaN where there is no such neuron.

    Source: ours.
    """
    generator = torch.Generator().manual_seed(int(stack.seeds[0]))
    p, n = [stack["feature_probability"]] * stack["n_features"], stack["n_features"]
    sequences, importance = SequenceTask(p, stack["n_positions"]), geometric(n, stack["decay"])
    model = new_transformer(stack, generator)
    train(model, sequences, importance, stack, generator)
    x = sequences.sample(stack["n_test"], generator=generator, dtype=torch.float32)
    ignored = sequences.ignored_loss(importance)
    total = float(ignored.sum())
    variables = sequences.variables(x)
    places = (*model.residual_hooks, *model.neuron_hooks)
    read = layers(
        model,
        x,
        lambda outputs, x: sequences.own_losses(outputs, x, importance) / total,
        places,
        features=variables,
        per_feature=True,
        passes=PASSES,
    )
    fields = {
        "capacity": [layer.capacity for layer in read],
        "kind": [layer.prices.feature_class for layer in read],
        "price": [layer.prices.price for layer in read],
        "price_stderr": [layer.prices.stderr for layer in read],
    }
    losses = sequences.losses(model(x), x, importance).double().mean(0)
    found = {
        "loss": losses.reshape(2, n).sum(-1),
        "loss_ignored": ignored.reshape(2, n).sum(-1),
        "loss_monosemantic": ignored.sort(descending=True).values[stack["d_model"] :].sum(),
        "importance": importance,
        "features_per_neuron": answers(model, x, variables, stack["d_mlp"]),
        **{name: torch.stack(values).reshape(-1, len(KINDS), n) for name, values in fields.items()},
    }
    return {name: value[None] for name, value in found.items()}


def new_transformer(stack: Stack, generator: torch.Generator) -> SequenceTransformer:
    """A transformer at its random start."""
    activation, d_mlp = stack["activation"], stack["d_mlp"]
    return SequenceTransformer(
        stack["n_features"],
        stack["d_model"],
        n_positions=stack["n_positions"],
        n_outputs=2 * stack["n_features"],
        d_mlp=d_mlp * 2 // 3 if activation == "bilinear" else d_mlp,
        n_layers=stack["n_layers"],
        n_heads=stack["n_heads"],
        activation=activation,
        generator=generator,
        dtype=torch.float32,
    )


def train(
    model: SequenceTransformer, sequences: SequenceTask, importance: Tensor, stack: Stack, generator: torch.Generator
) -> None:
    """Adam, at a rate that rises and then falls along a cosine."""
    steps = stack["steps"]
    warm = max(1, round(WARM_UP * steps))
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATES[stack["activation"]], fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / warm) * (1 + math.cos(math.pi * step / steps)) / 2
    )
    with torch.enable_grad():
        for _ in range(steps):
            x = sequences.sample(stack["batch_size"], generator=generator, dtype=torch.float32)
            loss = sequences.losses(model(x), x, importance).sum(-1).mean()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    model.requires_grad_(False)


def answers(
    model: SequenceTransformer, x: Tensor, variables: Tensor, d_mlp: int
) -> Float[Tensor, "n_stages n_layers d_mlp"]:
    """Features per neuron at every stage, NaN where there is no such neuron.

    The features are those here and those before, each with its value and its magnitude: a one-sided neuron answers to
    both of one feature.
    """
    names = [hook.replace(STAGES[-1], stage) for stage in STAGES for hook in model.neuron_hooks]
    states = layers(model, x, lambda y, x: y.flatten(1).sum(1), names, features=variables)
    slopes = torch.stack([state.embedding for state in states])
    value, magnitude = slopes.reshape(len(names), 2, 2, -1, slopes.shape[-1]).unbind(2)
    found = features_per_neuron(torch.hypot(value, magnitude).flatten(1, 2))
    padded = functional.pad(found, (0, d_mlp - found.shape[-1]), value=torch.nan)
    return padded.reshape(len(STAGES), -1, d_mlp)


@dataclass(frozen=True)
class Transformers:
    """Transformers of several activations and starts; arrays have the axes `[n_activations, n_starts]` first.

    Attributes:
        activation: names.
        places: names of the places of the residual stream, then of the neurons of each block.
        n_stream: how many of them are of the stream.
        importance: `I` `[n_features]`.
        loss: over that of ignoring everything.
        target_loss: the same of the magnitudes here and of those before `[..., 2]`.
        monosemantic: loss of a stream that holds one target for each of its dimensions without error, over that of
            ignoring everything.
        capacity: response capacity `[..., n_places, n_variables, n_features]`; variables are `zoo.KINDS`.
        kind: `FeatureClass` of each.
        price: `dL/dC` of each, 0 where it is not impure.
        price_stderr: standard error of `price`.
        per_neuron: effective number of features to which each neuron answers `[..., n_stages, n_layers, d_mlp]`: 0
            where it is dead, NaN where there is none. Stages are before the activation, after it, and after a layer
            norm.
        n_failed: networks without a result; they are NaN everywhere.
    """

    activation: tuple[str, ...]
    places: tuple[str, ...]
    n_stream: int
    importance: np.ndarray
    loss: np.ndarray
    target_loss: np.ndarray
    monosemantic: float
    capacity: np.ndarray
    kind: np.ndarray
    price: np.ndarray
    price_stderr: np.ndarray
    per_neuron: np.ndarray
    n_failed: int

    @property
    def polysemanticity(self) -> np.ndarray:
        """Mean of `4 C (1 - C)` over what is represented in each place `[..., n_places]`."""
        flat = (*self.capacity.shape[:-2], -1)
        C, kind = (torch.as_tensor(values.reshape(flat)) for values in (self.capacity, self.kind))
        index = polysemanticity(C, kind).numpy()
        return np.where(np.isnan(self.loss)[..., None], np.nan, index)

    @property
    def in_stream(self) -> np.ndarray:
        """Mean polysemanticity of the places of the stream."""
        return np.asarray(self.polysemanticity[..., : self.n_stream].mean(-1))

    @property
    def features_per_neuron(self) -> np.ndarray:
        """Mean over the neurons that are not dead, at each stage `[..., n_stages]`."""
        alive = self.per_neuron > 0
        count = alive.sum((-2, -1))
        mean = np.where(alive, self.per_neuron, 0.0).sum((-2, -1)) / np.maximum(count, 1)
        return np.where(count > 0, mean, np.nan)

    @property
    def at_end(self) -> np.ndarray:
        """Polysemanticity at the end of the stream."""
        return np.asarray(self.polysemanticity[..., self.n_stream - 1])

    @property
    def correlations(self) -> dict[str, np.ndarray]:
        """Rank correlations of benefit `-dL/dC`, capacity and importance over what is impure at the stream's end.

        NaN where that is fewer than three, or all equal.
        """
        at = np.s_[..., self.n_stream - 1, :, :]
        values = {
            "benefit": -self.price[at],
            "capacity": self.capacity[at],
            "importance": np.broadcast_to(self.importance, self.price[at].shape),
        }
        impure = self.kind[at] == int(FeatureClass.IMPURE)
        found = {}
        for one, other in combinations(values, 2):
            ranks = np.full(self.loss.shape, np.nan)
            for network in np.ndindex(self.loss.shape):
                pair = [values[name][network][impure[network]] for name in (one, other)]
                if impure[network].sum() > 2 and all(np.ptp(each) > 0 for each in pair):
                    ranks[network] = spearmanr(*pair).statistic
            found[f"{one} with {other}"] = ranks
        return found

    def test(self, activation: int, start: int, place: int) -> EqualReturns:
        """The equal-returns test of everything that one network represents in one place."""
        at = (activation, start, place)
        price, stderr, capacity, kind = (
            torch.from_numpy(values[at].reshape(-1))
            for values in (self.price, self.price_stderr, self.capacity, self.kind)
        )
        return equal_returns(Prices(price, stderr, capacity, kind))


def transformer_grid(config: TransformerConfig = TransformerConfig()) -> Grid:
    """The networks: activation × start (`seed`)."""
    fixed = ("n_features", "decay", "feature_probability", "n_positions", "d_model", "d_mlp", "n_layers", "n_heads")
    return Grid(
        {"activation": config.activations, "seed": range(config.seed, config.seed + config.starts)},
        fixed={
            **{name: getattr(config, name) for name in (*fixed, "steps", "batch_size", "n_test")},
            "n_places": 1 + 3 * config.n_layers,
        },
    )


def transformers(
    config: TransformerConfig,
    store: Path,
    *,
    engine: Engine | None = None,
    progress: Callable[[SweepStatus], None] | None = None,
) -> Transformers:
    """Train transformers of every activation, or go on with what the store has of them.

    Args:
        config: sizes, activations and training.
        store: directory of the sweep's store.
        engine: where they are trained; by default in this process.
        progress: called with the sweep's status.

    Returns:
        Losses, capacities, prices and features per neuron.

    Source: ours; the question is one of the discussion of Scherlis et al. 2022, what neurons answer to is that of
        Elhage et al. 2022 (Softmax Linear Units).
    """
    return read_transformers(run(transformer_grid(config), transformer_cells, store, engine=engine, progress=progress))


def read_transformers(dataset: "xr.Dataset") -> Transformers:
    """What the store of a sweep of `transformer_cells` says, finished or not."""
    data: Any = dataset.transpose("activation", "seed", "place", "stage", "layer", ...)
    loss, ignored = data["loss"].values, data["loss_ignored"].values
    hooks = SequenceTransformer(
        1, 1, n_positions=1, n_outputs=1, d_mlp=1, n_layers=data.sizes["layer"], n_heads=1, generator=torch.Generator()
    )
    return Transformers(
        activation=tuple(str(name) for name in data["activation"].values),
        places=(*hooks.residual_hooks, *hooks.neuron_hooks),
        n_stream=len(hooks.residual_hooks),
        importance=np.nanmean(data["importance"].values, (0, 1)),
        loss=loss.sum(-1) / ignored.sum(-1),
        target_loss=loss / ignored,
        monosemantic=float(np.nanmean(data["loss_monosemantic"].values / ignored.sum(-1))),
        capacity=data["capacity"].values,
        kind=data["kind"].values,
        price=data["price"].values,
        price_stderr=data["price_stderr"].values,
        per_neuron=data["features_per_neuron"].values,
        n_failed=int(np.isnan(loss[..., 0]).sum()),
    )
