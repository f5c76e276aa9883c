"""Figures of a network over real text: what is shown is in the result, and captions say what was found."""

import pytest
import torch
from torch.testing import assert_close

from drawn import numbers
from polysem.measure import FeatureClass
from polysem.plots import words_figures
from polysem.studies import Words, WordsConfig, words


@pytest.fixture(scope="module")
def result() -> Words:
    return words(WordsConfig(n_words=30, d_hidden=5, n_neurons=4, steps=60, batch_size=64, held_out=2000))


def test_prices_are_those_of_the_outputs(result: Words) -> None:
    figure = dict(words_figures(result))["prices"]
    for trace, states in zip(figure.data, (result.before, result.after), strict=False):
        test = states[-1].test
        there = (test.feature_class == FeatureClass.IMPURE) & (test.benefit > 0)
        assert list(trace.text) == [word for word, shown in zip(result.words, there.tolist(), strict=True) if shown]
        assert_close(numbers(trace.x), result.ignoring[there])
        assert_close(numbers(trace.y), test.benefit[there])
    after = result.after[-1].test.prices
    assert (
        f"{float(after.value):.0%} after it (95 % interval {float(after.low):.0%} to" in figure.layout.meta["caption"]
    )


def test_kinds_are_those_of_the_states(result: Words) -> None:
    figure = dict(words_figures(result))["kinds"]
    shown = [result.kinds_before["stream"], *result.kinds.values()]
    assert [trace.name for trace in figure.data] == ["stream, before training", "embedding", "stream"]
    for trace, found in zip(figure.data, shown, strict=True):
        assert_close(numbers(trace.y), found.explained)
    assert f"In the stream: capacity {result.kinds['stream'].total:.1f}" in figure.layout.meta["caption"]
    assert bool((torch.stack([found.explained for found in shown]) >= 0).all())
