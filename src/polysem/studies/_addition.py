"""A transformer that has learned to add modulo a prime: waves in few dimensions, and what the measures say of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from polysem import _checks
from polysem.measure import FeatureClass, capacity, classify
from polysem.networks import FeatureDirections, features_from_inputs
from polysem.returns import EqualReturns, equal_returns, layers

STATES = {"attended": "after attention", "neurons": "neurons", "final": "end of the stream"}
PREFIX = "blocks.0."


@dataclass(frozen=True)
class AnswerState:
    """One choice of features of the answer in one state, over all pairs of numbers.

    Attributes:
        state: which.
        features: "answers" (which number it is) or "waves" (its Fourier components).
        explained: squared correlation of the best linear readout with each feature.
        test: capacities, and the equal-returns test with prices of the whole loss.
    """

    state: str
    features: str
    explained: Float[Tensor, " n_features"]
    test: EqualReturns


@dataclass(frozen=True)
class Addition:
    """What was found.

    Attributes:
        accuracy: over all pairs of numbers.
        loss: mean cross entropy, in nats.
        tokens: numbers as features of the token embedding: one row each, less the mean row.
        waves: Fourier components of the token embedding as features, cosine and sine of each frequency in turn.
        variance: share of the embedding's variance at each frequency from 1 on.
        effective_dimension: participation ratio of the tokens' rows.
        states: of the answer's features.
        other_bases: largest capacity of a feature if other orthogonal combinations of the numbers, drawn at random,
            were the features, `[draws]`.
    """

    accuracy: float
    loss: float
    tokens: FeatureDirections
    waves: FeatureDirections
    variance: Float[Tensor, " n_frequencies"]
    effective_dimension: float
    states: tuple[AnswerState, ...]
    other_bases: Float[Tensor, " draws"]

    @property
    def represented(self) -> Int[Tensor, " n_represented"]:
        """Frequencies of which both waves are pure in the embedding."""
        kind = classify(self.waves.capacity, torch.linalg.vector_norm(self.waves.embedding, dim=-1))
        return (kind.reshape(-1, 2) == FeatureClass.PURE).all(-1).nonzero()[:, 0] + 1


class AdditionTransformer(nn.Module):
    """One block of attention and ReLU neurons, without norms, over the tokens `a`, `b`, `=`.

    Args:
        weights: `tok_embed.weight` `[modulus + 1, d]`, `pos_embed.weight` `[3, d]`, `unembed.weight`, and under
            `blocks.0.` the heads' `attn.W_Q`, `W_K`, `W_V` `[n_heads, d, d_head]`, `W_O` `[n_heads, d_head, d]` and the
            neurons' `mlp.W_in`, `mlp.W_out` (weight and bias, as `nn.Linear` has them).
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.weights = {name: value.detach().float() for name, value in weights.items()}
        self.attended, self.neurons, self.final = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, tokens: Int[Tensor, "n_pairs 3"]) -> Float[Tensor, "n_pairs n_tokens"]:
        """Logits of the answer, at the last token."""
        w = self.weights
        x = w["tok_embed.weight"][tokens] + w["pos_embed.weight"]
        q, k, v = (torch.einsum("npd,hde->nhpe", x, w[f"{PREFIX}attn.W_{name}"]) for name in "QKV")
        pattern = (q[:, :, -1:] @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)  # the last token sees all three
        moved = torch.einsum("nhe,hed->nd", (pattern @ v)[:, :, 0], w[f"{PREFIX}attn.W_O"])
        h = self.attended(x[:, -1] + moved)
        inside = functional.linear(h, w[f"{PREFIX}mlp.W_in.weight"], w[f"{PREFIX}mlp.W_in.bias"]).relu()
        out = functional.linear(self.neurons(inside), w[f"{PREFIX}mlp.W_out.weight"], w[f"{PREFIX}mlp.W_out.bias"])
        logits: Tensor = self.final(h + out) @ w["unembed.weight"].mT
        return logits


def addition(weights: Mapping[str, Tensor], *, draws: int = 20, seed: int = 0) -> Addition:
    """Measure a transformer that adds two numbers modulo an odd one, with numbers and with waves as features.

    All pairs of numbers are run. Numbers, one-hot, are what is easily taken for features here; Fourier components
    `√2 cos(2π k n / p)`, `√2 sin(2π k n / p)` are what such networks compute with. Over all numbers, and over the
    answers of all pairs, waves are orthogonal, so that slopes are exact.

    Prices are of the whole loss: around a minimum they vanish, and what is left has both signs. And numbers are alike,
    so that their capacities are, whatever the network does. So equal returns of numbers are no test of the theory.

    Args:
        weights: as `AdditionTransformer` takes them.
        draws: of the null of directions at random.
        seed: seeds it.

    Raises:
        KeyError: a weight is missing.
        ValueError: an even modulus.

    Source: ours; the algorithm after Nanda et al. 2023.
    """
    network = AdditionTransformer(weights)
    rows = network.weights["tok_embed.weight"][:-1].double()
    modulus = len(rows)
    _checks.require(modulus % 2 == 1 and modulus > 2, "modulus", modulus, "an odd number above 2")
    numbers = torch.arange(modulus)
    basis = fourier(numbers, modulus)
    components = basis.mT @ rows / modulus
    power = components.square().sum(-1).reshape(-1, 2).sum(-1)
    names = [f"{wave} {k}" for k in range(1, modulus // 2 + 1) for wave in ("cos", "sin")]
    nothing = torch.zeros_like(rows[0])
    squares = torch.linalg.svdvals(rows - rows.mean(0)).square()
    a, b = torch.cartesian_prod(numbers, numbers).unbind(-1)
    answer = (a + b) % modulus
    tokens = torch.stack([a, b, torch.full_like(a, modulus)], -1)
    with torch.no_grad():
        logits = network(tokens)
    return Addition(
        accuracy=float((logits.argmax(-1) == answer).double().mean()),
        loss=float(functional.cross_entropy(logits, answer)),
        tokens=features_from_inputs(rows, draws=draws, seed=seed),
        waves=features_from_inputs(components, baseline=nothing, names=names, draws=draws, seed=seed),
        variance=power / power.sum(),
        effective_dimension=float(squares.sum().square() / squares.square().sum()),
        states=tuple(_answers(network, tokens, answer, modulus)),
        other_bases=_other_bases(components, draws, seed),
    )


def _other_bases(components: Tensor, draws: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (draws, len(components), len(components))
    turned, _ = torch.linalg.qr(torch.randn(shape, generator=generator, dtype=components.dtype))
    return capacity(turned @ components).amax(-1)


def fourier(numbers: Int[Tensor, " n"], modulus: int) -> Float[Tensor, "n n_waves"]:
    """Cosine and sine of each frequency up to half the modulus, at unit variance over all numbers."""
    angle = 2 * math.pi * torch.outer(numbers, torch.arange(1, modulus // 2 + 1)).double() / modulus
    return math.sqrt(2) * torch.stack([angle.cos(), angle.sin()], -1).flatten(1)


def _answers(network: AdditionTransformer, tokens: Tensor, answer: Tensor, modulus: int) -> list[AnswerState]:
    def losses(logits: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        return functional.cross_entropy(logits, batch[1], reduction="none")

    found = []
    for kind, features in (
        ("answers", functional.one_hot(answer, modulus).float()),
        ("waves", fourier(answer, modulus).float()),
    ):
        measured = layers(network, (tokens, answer), losses, tuple(STATES), features=features, held_out=False)
        for name, layer in zip(STATES.values(), measured, strict=True):
            found.append(AnswerState(name, kind, layer.explained, equal_returns(layer.prices)))
    return found
