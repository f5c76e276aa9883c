"""Chances of sets of active features against enumeration, and draws of large sets against their law."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from polysem.zoo._supports import all_supports, at_least, sample_at_least, small_supports, up_to_two

PROBABILITIES = st.lists(st.one_of(st.floats(1e-9, 1), st.just(1.0)), min_size=1, max_size=6)


def double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def law(p: list[float]) -> dict[tuple[int, ...], float]:
    """The chance of each set of active features."""
    sets = itertools.product((0, 1), repeat=len(p))
    return {s: math.prod(q if on else 1 - q for on, q in zip(s, p, strict=True)) for s in sets}


@settings(deadline=None)
@given(p=PROBABILITIES)
def test_chances_equal_enumeration(p: list[float]) -> None:
    n, expected = len(p), law(p)
    none, one, two = small_supports(double(p))
    assert_close(none.item(), expected[(0,) * n], rtol=1e-12, atol=0)
    for i, k in itertools.product(range(n), repeat=2):
        support = tuple(int(j in (i, k)) for j in range(n))
        if i == k:
            assert_close(one[i].item(), expected[support], rtol=1e-12, atol=0)
            assert two[i, i].item() == 0.0
        else:
            assert_close(two[i, k].item(), expected[support], rtol=1e-12, atol=0)
    for masks, chance in (all_supports(double(p)), up_to_two(double(p))):
        listed = {tuple(mask): c for mask, c in zip(masks.long().tolist(), chance.tolist(), strict=True)}
        assert len(listed) == len(masks)
        for support, c in listed.items():
            assert_close(c, expected[support], rtol=1e-12, atol=0)
    assert len(masks) == 1 + n + n * (n - 1) // 2


@settings(deadline=None)
@given(p=PROBABILITIES, count=st.integers(0, 4))
def test_tails_keep_their_digits(p: list[float], count: int) -> None:
    chances = at_least(double(p), count)
    for i, k in itertools.product(range(len(p) + 1), range(count + 1)):
        expected = math.fsum(c for s, c in law(p[i:]).items() if sum(s) >= k)
        assert_close(chances[i, k].item(), expected, rtol=1e-12, atol=0)


def test_settings_are_separate() -> None:
    p = double([[0.1, 0.9, 0.4], [1.0, 0.2, 1e-6]])
    for function in (lambda q: at_least(q, 3)[0], lambda q: small_supports(q)[2], lambda q: all_supports(q)[1]):
        assert_close(function(p), torch.stack([function(row) for row in p]), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("p", "count"),
    [([0.3, 0.1, 0.6, 0.2, 0.5], 3), ([1e-6, 2e-6, 1e-6, 3e-6], 3), ([1.0, 0.2, 1.0, 0.4, 0.3], 3), ([0.9, 0.5], 1)],
)
def test_draws_follow_the_conditional_law(p: list[float], count: int) -> None:
    n_samples = 40_000
    active = sample_at_least(double(p), count, n_samples, torch.Generator().manual_seed(0))
    drawn = {tuple(row): 0 for row in active.long().tolist()}
    for row in active.long().tolist():
        drawn[tuple(row)] += 1
    expected = {s: c for s, c in law(p).items() if sum(s) >= count and c > 0}
    total = math.fsum(expected.values())
    assert set(drawn) <= set(expected)
    for support, chance in expected.items():
        share = chance / total
        error = math.sqrt(share * (1 - share) / n_samples)
        assert abs(drawn.get(support, 0) / n_samples - share) <= 4.5 * error


def test_draws_of_several_settings() -> None:
    p = double([[0.3, 0.1, 0.6, 0.2], [1e-6, 1.0, 0.5, 0.5]])
    active = sample_at_least(p, 3, 20_000, torch.Generator().manual_seed(0))
    assert active.shape == (20_000, 2, 4)
    assert (active.sum(-1) >= 3).all()
    for i in range(2):
        sets = {s: c for s, c in law(p[i].tolist()).items() if sum(s) >= 3}
        for feature in range(4):
            share = sum(c for s, c in sets.items() if s[feature]) / sum(sets.values())
            assert abs(active[:, i, feature].double().mean().item() - share) < 0.02
