"""Settings of the network that reads English text: numbers only, without torch."""

from dataclasses import dataclass

from polysem import _checks


@dataclass(frozen=True)
class WordsConfig:
    """A network that passes the words of a verse through a narrow stream and says which they were.

    Attributes:
        n_words: the most frequent words of the text, as features.
        d_hidden: dimension of the stream.
        n_neurons: of the block that adds to it.
        steps: of Adam, with a learning rate that rises and falls.
        batch_size: verses of a step.
        learning_rate: the largest.
        held_out: verses that training does not see; everything is measured on them.
        passes: backward passes for the prices of a state, over which words are spread.
        seed: of the verses held out, the start and the steps.
    """

    n_words: int = 300
    d_hidden: int = 32
    n_neurons: int = 64
    steps: int = 1000
    batch_size: int = 256
    learning_rate: float = 0.01
    held_out: int = 8000
    passes: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("d_hidden", "n_neurons", "steps", "batch_size"):
            _checks.whole(name, getattr(self, name))
        scarce = _checks.whole("n_words", self.n_words) > self.d_hidden
        _checks.require(scarce, "n_words", self.n_words, f"above d_hidden = {self.d_hidden}")
        _checks.whole("held_out", self.held_out, 4)
        few = _checks.whole("passes", self.passes) <= self.n_words
        _checks.require(few, "passes", self.passes, f"at most n_words = {self.n_words}")
        _checks.whole("seed", self.seed, 0)
        rate = self.learning_rate
        _checks.require(0 < rate < float("inf"), "learning_rate", rate, "positive and finite")
