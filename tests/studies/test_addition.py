"""A transformer that adds: it is the one that was trained, and waves are found where they are."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from made_addition import made_addition
from polysem.measure import FeatureClass
from polysem.plots import addition_figure
from polysem.studies import Addition, AdditionTransformer, addition


def logits_by_hand(w: dict[str, Tensor], tokens: list[int]) -> Tensor:
    """One sequence, head by head and position by position, with a causal mask."""
    x = [w["tok_embed.weight"][token] + w["pos_embed.weight"][k] for k, token in enumerate(tokens)]
    moved = torch.zeros_like(x[2])
    for head in range(2):
        q, k, v = (w[f"blocks.0.attn.W_{name}"][head] for name in "QKV")
        scores = torch.stack([(x[2] @ q) @ (x[j] @ k) / 2 for j in range(3)])  # √4
        weights = scores.exp() / scores.exp().sum()
        moved += sum(weights[j] * (x[j] @ v) for j in range(3)) @ w["blocks.0.attn.W_O"][head]
    h = x[2] + moved
    inside = (w["blocks.0.mlp.W_in.weight"] @ h + w["blocks.0.mlp.W_in.bias"]).clamp(min=0)
    h = h + w["blocks.0.mlp.W_out.weight"] @ inside + w["blocks.0.mlp.W_out.bias"]
    return w["unembed.weight"] @ h


def test_logits_are_those_computed_by_hand() -> None:
    w = made_addition(7)
    tokens = [[3, 5, 7], [0, 6, 7]]
    expected = torch.stack([logits_by_hand(w, sequence) for sequence in tokens])
    torch.testing.assert_close(AdditionTransformer(w)(torch.tensor(tokens)), expected, rtol=1e-4, atol=1e-5)


def test_waves_in_directions_of_their_own_are_pure_and_numbers_share_them() -> None:
    found = addition(made_addition(31), draws=5)
    assert found.represented.tolist() == [1, 3]
    pure = found.waves.capacity > 0.95
    # Waves that are not there have rows of rounding, whose capacity means nothing.
    assert bool(pure.reshape(-1, 2)[[0, 2]].all())
    torch.testing.assert_close(found.variance[[0, 2]], torch.full((2,), 0.5, dtype=torch.float64))
    assert found.effective_dimension == pytest.approx(4)
    assert found.tokens.total == pytest.approx(4)
    torch.testing.assert_close(found.tokens.capacity, torch.full((31,), 4 / 31, dtype=torch.float64))
    assert float(found.other_bases.max()) < 0.8
    assert found.waves.names[:3] == ("cos 1", "sin 1", "cos 2")


@pytest.fixture(scope="module")
def trained(addition_file: Path) -> Addition:
    return addition(torch.load(addition_file, map_location="cpu", weights_only=True))


def test_the_trained_network_adds_all_pairs(trained: Addition) -> None:
    assert trained.accuracy == 1
    assert trained.loss < 0.01


def test_its_features_are_waves_of_four_frequencies(trained: Addition) -> None:
    assert trained.represented.tolist() == [19, 36, 49, 56]
    assert float(trained.variance[trained.represented - 1].sum()) > 0.9
    assert trained.effective_dimension == pytest.approx(9.2, abs=0.05)
    assert trained.tokens.total == pytest.approx(trained.effective_dimension, rel=0.01)
    assert float(trained.tokens.capacity.max()) < 0.12
    assert float(trained.other_bases.max()) < 0.6
    (end,) = (found for found in trained.states if found.features == "waves" and found.state == "end of the stream")
    pure = end.test.feature_class == FeatureClass.PURE
    assert (pure.nonzero()[:, 0] // 2 + 1).tolist() == [19, 19, 36, 36, 49, 49, 56, 56]
    assert float(end.explained[pure].min()) > 0.96
    (numbers,) = (found for found in trained.states if found.features == "answers" and found.state == end.state)
    assert float(numbers.explained.max()) < 0.2


def test_prices_of_the_whole_loss_say_nothing_of_numbers(trained: Addition) -> None:
    for found in trained.states:
        if found.features == "answers" and found.state != "neurons":
            assert float(found.test.prices.value) > 0.95
            assert float(found.test.prices.mean) < 0  # more capacity would not even help


def test_figure() -> None:
    found = addition(made_addition(31), draws=5)
    figure = addition_figure(found)
    assert [trace.name for trace in figure.data] == ["numbers", "waves, not ignored", "waves, ignored"]
    assert len(figure.data[0].x) == 31
    assert sorted(figure.data[1].text) == ["cos 1", "cos 3", "sin 1", "sin 3"]
    assert "those of 2 frequencies (1, 3), 100% of the variance, are pure" in figure.layout.meta["caption"]


@pytest.mark.bad_input
def test_bad_input() -> None:
    with pytest.raises(ValueError, match="modulus must be an odd number above 2, got 8"):
        addition(made_addition(8))
    with pytest.raises(KeyError, match="unembed.weight"):
        addition({name: value for name, value in made_addition(7).items() if name != "unembed.weight"})
