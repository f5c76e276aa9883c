"""A network trained on real text: words in its states, what capacity they have there, and whether it has one price."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from polysem import _checks
from polysem.networks import FeatureDirections, features_from_labels, record
from polysem.returns import EqualReturns, equal_returns, layers
from polysem.studies._configs_words import WordsConfig
from polysem.studies._dealt import dealt_dispersion
from polysem.studies._english import KINDS, Verses, load_verses

STATES = {"embed": "embedding", "stream": "stream"}
OUTPUTS = "outputs"


@dataclass(frozen=True)
class WordState:
    """Words in one state of the network.

    Attributes:
        name: "embedding" or "stream", read as well as can be linearly; or "outputs", the stream as the outputs read it.
        test: capacities of the words, and the equal-returns test of prices that each word's own loss feels.
        explained: squared correlation of each readout with its word.
    """

    name: str
    test: EqualReturns
    explained: Float[Tensor, " n_words"]


@dataclass(frozen=True)
class Words:
    """What was found.

    Attributes:
        words: the features.
        ignoring: loss of each word if the network only knew how often it comes `[n_words]`.
        relative_loss: loss on held-out verses, over that of ignoring every word.
        before: states before training.
        after: states after it.
        null: dispersion of the outputs' prices if words had each other's `ignoring`, `[n_deals]`.
        kinds: what kind of book a verse is from, which the network was not asked for, in each state by name.
        kinds_before: the same before training.
    """

    words: tuple[str, ...]
    ignoring: Float[Tensor, " n_words"]
    relative_loss: float
    before: tuple[WordState, ...]
    after: tuple[WordState, ...]
    null: Float[Tensor, " n_deals"]
    kinds: dict[str, FeatureDirections]
    kinds_before: dict[str, FeatureDirections]


class WordNetwork(nn.Module):
    """Words of a verse, a narrow stream to which a block of neurons adds, and a logit for each word."""

    def __init__(self, config: WordsConfig, share: Float[Tensor, " n_words"], generator: torch.Generator) -> None:
        super().__init__()
        n, d = config.n_words, config.d_hidden
        first, second = nn.Linear(d, config.n_neurons), nn.Linear(config.n_neurons, d)
        self.embed, self.neurons = nn.Linear(n, d), nn.Sequential(first, nn.GELU(), second)
        self.stream = nn.Identity()  # gives the sum below a name
        self.read = nn.Linear(d, n)
        for layer, inputs in ((self.embed, d), (first, d), (second, config.n_neurons)):
            nn.init.normal_(layer.weight, std=inputs**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)
        self.read.weight.data.copy_(self.embed.weight.mT)
        self.read.bias.data.copy_(share.logit())

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        h = self.embed(x)
        logits: Tensor = self.read(self.stream(h + self.neurons(h)))
        return logits


def words(config: WordsConfig = WordsConfig()) -> Words:
    """Train a network on the verses of a book and measure the words in its states, before and after.

    Each word has a logistic loss of its own: whether it is in the verse. All else is measured on held-out verses, as
    `returns.layers` does with `per_feature`: what would each word gain if its readout saw less of the others? Words of
    real text come together, so that part of what a readout sees of others says something about its own word.

    Raises:
        ModuleNotFoundError: the text is missing (extra `[studies]`).
        ValueError: more verses held out than there are.

    Source: ours.
    """
    verses = load_verses(config.n_words)
    n = len(verses.x)
    _checks.require(config.held_out < n, "held_out", config.held_out, f"below the number of verses, {n}")
    generator = torch.Generator().manual_seed(config.seed)
    order = torch.randperm(n, generator=generator)
    train, test = verses.x[order[config.held_out :]], order[: config.held_out]
    held_out = Verses(verses.words, verses.x[test], verses.kind[test])
    share = train.mean(0).clamp(1 / len(train), 1 - 1 / len(train))
    network = WordNetwork(config, share, generator)
    before, kinds_before = _measured(network, held_out, config), _kinds(network, held_out, config)
    _train(network, train, config, generator)
    after = _measured(network, held_out, config)
    with torch.no_grad():
        loss = losses(network(held_out.x), held_out.x).sum(-1).mean()
        ignoring = losses(share.logit().expand_as(held_out.x), held_out.x).mean(0)
    return Words(
        words=verses.words,
        ignoring=ignoring.double(),
        relative_loss=float(loss / ignoring.sum()),
        before=before,
        after=after,
        null=dealt_dispersion(after[-1].test, ignoring.double(), config.seed),
        kinds=_kinds(network, held_out, config),
        kinds_before=kinds_before,
    )


def losses(logits: Tensor, x: Tensor) -> Tensor:
    """Of each word of each verse."""
    return functional.softplus(logits) - x * logits


def _train(network: nn.Module, x: Tensor, config: WordsConfig, generator: torch.Generator) -> None:
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=config.steps)
    for _ in range(config.steps):
        batch = x[torch.randint(len(x), (config.batch_size,), generator=generator)]
        optimiser.zero_grad()
        torch.autograd.backward(losses(network(batch), batch).sum(-1).mean())
        optimiser.step()
        schedule.step()


def _measured(network: WordNetwork, verses: Verses, config: WordsConfig) -> tuple[WordState, ...]:
    found = layers(network, verses.x, losses, tuple(STATES), per_feature=True, passes=config.passes, seed=config.seed)
    last = list(STATES)[-1]
    rows = {last: network.read.weight.detach()}
    found += layers(
        network, verses.x, losses, (last,), readout=rows, per_feature=True, passes=config.passes, seed=config.seed
    )
    names = (*STATES.values(), OUTPUTS)
    return tuple(
        WordState(name, equal_returns(layer.prices), layer.explained) for name, layer in zip(names, found, strict=True)
    )


def _kinds(network: WordNetwork, verses: Verses, config: WordsConfig) -> dict[str, FeatureDirections]:
    with record(network, tuple(STATES)) as seen, torch.no_grad():
        network(verses.x)
    return {
        STATES[name]: features_from_labels(h, verses.kind, names=tuple(KINDS), seed=config.seed)
        for name, h in seen.items()
    }
