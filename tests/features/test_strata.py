"""Stratified samples against the enumerated law of their supports, and their exact weights."""

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torch.testing import assert_close

from polysem.features import (
    CorrelatedFeatures,
    IndependentFeatures,
    SparseGaussian,
    SparseLaplace,
    SparseSign,
    SparseUniform,
    StratifiedSampler,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def enumerated_mean(p: list[float], f: object) -> float:
    """`E f(x) 1(some feature active)` for features that are 1 or -1, outcome by outcome."""
    total = 0.0
    for outcome in itertools.product((0, 1, -1), repeat=len(p)):
        if any(outcome):
            chance = math.prod(1 - q if not s else q / 2 for q, s in zip(p, outcome, strict=True))
            total += chance * f(outcome)
    return total


@pytest.mark.parametrize("p", [[0.3, 0.05, 0.6], [1e-3, 2e-3, 1e-4], [0.5, 1.0, 0.2]])
@pytest.mark.parametrize("n", [1, 7])
def test_means_are_those_of_all_outcomes(p: list[float], n: int) -> None:
    def f(x: tuple[float, ...]) -> float:
        return x[0] + 2 * x[1] * x[2] + 3 * abs(x[0] * x[2]) + abs(x[1]) + 5 * abs(x[0] * x[1] * x[2]) + 0.25

    repeats, generator, sampler = 1000, seeded(0), StratifiedSampler(SparseSign(p))
    means = []
    for _ in range(repeats):
        x, weight = sampler.sample(n, generator=generator)
        means.append(sum(w * f(tuple(row)) for w, row in zip(weight.tolist(), x.tolist(), strict=True)) / n)
    means = torch.tensor(means, dtype=torch.float64)
    assert abs(float(means.mean()) - enumerated_mean(p, f)) < 4.5 * float(means.std()) / repeats**0.5


def test_frequency_of_every_support_follows_its_law() -> None:
    p, n, draws = [0.3, 0.05, 0.6, 0.5], 50, 500
    sampler, generator = StratifiedSampler(SparseSign(p)), seeded(1)
    count: dict[tuple[bool, ...], float] = {}
    for _ in range(draws):
        x, _ = sampler.sample(n, generator=generator)
        for row in (x != 0).tolist():
            count[tuple(row)] = count.get(tuple(row), 0) + 1
    supports = [s for s in itertools.product((False, True), repeat=4) if any(s)]
    chance = {s: sum(s) ** 2 * math.prod(q if on else 1 - q for q, on in zip(p, s, strict=True)) for s in supports}
    total = sum(chance.values())
    for s in supports:
        q = chance[s] / total
        # Strata make counts vary less than independent draws would.
        assert abs(count.get(s, 0) / (n * draws) - q) < 4.5 * math.sqrt(q * (1 - q) / (n * draws))
    sizes = [sum(s) for s in count]
    assert sorted(set(sizes)) == [1, 2, 3, 4]


@pytest.mark.parametrize("n", [10, 1000])
def test_number_of_samples_of_a_size_is_within_one_of_its_share(n: int) -> None:
    p = torch.linspace(0.01, 0.3, 12, dtype=torch.float64)
    law = torch.tensor(poisson_binomial(p), dtype=torch.float64)
    sizes = torch.arange(13, dtype=torch.float64)
    share = law * sizes**2 / (law * sizes**2).sum()
    for seed in range(20):
        x, weight = StratifiedSampler(SparseSign(p)).sample(n, generator=seeded(seed))
        size = (x != 0).sum(-1)
        assert_close(weight, (law * sizes**2).sum() / size.square(), rtol=1e-12, atol=0, check_dtype=False)
        counts = torch.bincount(size, minlength=13)
        assert ((counts - n * share).abs() < 1 + 1e-9).all()
        assert (size.diff() >= 0).all()


def test_number_of_samples_of_every_support_is_within_one_of_its_share() -> None:
    p, n = [0.3, 0.05, 0.6, 0.5], 500
    x, _ = StratifiedSampler(SparseSign(p)).sample(n, generator=seeded(2))
    count = Counter(tuple(row) for row in (x != 0).tolist())
    supports = [s for s in itertools.product((False, True), repeat=4) if any(s)]
    chance = [sum(s) ** 2 * math.prod(q if on else 1 - q for q, on in zip(p, s, strict=True)) for s in supports]
    for support, part in zip(supports, chance, strict=True):
        assert abs(count[support] - n * part / sum(chance)) < 1 + 1e-9


@pytest.mark.parametrize("n", [1, 6, 60])
def test_means_of_powers_of_values_are_those_of_independent_ones(n: int) -> None:
    p, slab = [0.3, 0.1, 0.6], (1 / 2, 1 / 3)
    powers = [(1, 0, 0), (2, 0, 0), (1, 1, 0), (0, 2, 1), (1, 0, 2), (1, 1, 1), (2, 1, 2)]
    truth = double([math.prod(q * slab[k - 1] for q, k in zip(p, power, strict=True) if k) for power in powers])
    repeats = 20_000  # as settings of their own
    x, weight = StratifiedSampler(SparseUniform(double([p]).expand(repeats, 3))).sample(n, generator=seeded(5))
    means = torch.stack([(weight * (x ** double(power)).prod(-1)).mean(0) for power in powers], -1)
    assert ((means.mean(0) - truth).abs() < 4.5 * means.std(0) / repeats**0.5).all()


def poisson_binomial(p: Tensor) -> list[float]:
    law = [1.0]
    for q in p.tolist():
        law = [(law[k] if k < len(law) else 0) * (1 - q) + (law[k - 1] * q if k else 0) for k in range(len(law) + 1)]
    return law


@settings(deadline=None, max_examples=40)
@given(
    p=st.lists(st.one_of(st.floats(1e-12, 1.0), st.just(1.0)), min_size=1, max_size=12),
    n=st.integers(1, 40),
    seed=st.integers(0, 2**32),
)
def test_samples_have_an_active_feature_and_all_certain_ones(p: list[float], n: int, seed: int) -> None:
    features = SparseGaussian(p)
    x, weight = StratifiedSampler(features).sample(n, generator=seeded(seed))
    active = x != 0
    certain = features.feature_probability == 1
    assert active.any(-1).all()
    assert active[:, certain].all()
    assert x.isfinite().all()
    assert (weight > 0).all()


@pytest.mark.parametrize(
    ("features", "law"),
    [
        (SparseUniform([0.2] * 3), stats.uniform()),
        (SparseUniform([0.2] * 3, signed=True), stats.uniform(-1, 2)),
        (SparseGaussian([0.2] * 3), stats.norm()),
        (SparseLaplace([0.2] * 3), stats.laplace(scale=0.5**0.5)),
    ],
)
def test_values_of_lone_features_are_spread_evenly_over_the_slab(features: IndependentFeatures, law: object) -> None:
    x, _ = StratifiedSampler(features).sample(3000, generator=seeded(2))
    alone = x[(x != 0).sum(-1) == 1]
    for column in alone.T:
        values = column[column != 0]
        rank = torch.tensor(law.cdf(values.sort().values.numpy()))
        even = (torch.arange(len(rank)) + 0.5) / len(rank)
        assert_close(rank, even.double(), rtol=0, atol=1.5 / len(rank))


def test_values_of_two_active_features_fill_the_square_evenly() -> None:
    x, _ = StratifiedSampler(SparseUniform([0.2] * 4)).sample(6000, generator=seeded(6))
    both = x[(x != 0).sum(-1) == 2]
    for i, j in itertools.combinations(range(4), 2):
        pair = both[(both[:, i] != 0) & (both[:, j] != 0)][:, [i, j]]
        counts = torch.histogramdd(pair, [5, 5], range=[0.0, 1.0, 0.0, 1.0]).hist
        expected = len(pair) / 25
        # Independent draws would have a mean square of about `expected`.
        assert (counts - expected).square().mean() < 0.2 * expected


def pairs_of_values(repeats: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Supports of two out of twenty equal features, each drawn so many times on average, and their values."""
    p = 0.05
    law = poisson_binomial(torch.full((20,), p, dtype=torch.float64))
    total = sum(k**2 * chance for k, chance in enumerate(law))
    n = round(repeats * math.comb(20, 2) * total / (4 * law[2]))
    x, _ = StratifiedSampler(SparseUniform([p] * 20)).sample(n, generator=generator)
    x = x[(x != 0).sum(-1) == 2]
    support = (x != 0).nonzero()[:, 1].reshape(-1, 2)
    return support, x.gather(-1, support)


def test_values_vary_where_every_pair_comes_once() -> None:
    generator = seeded(7)
    for _ in range(10):
        _, values = pairs_of_values(1, generator)
        assert_close(values.std(0), torch.full((2,), 12**-0.5, dtype=torch.float64), rtol=0, atol=0.02)


def test_values_of_a_pair_do_not_move_in_step() -> None:
    support, values = pairs_of_values(3, seeded(8))
    same = (support[1:] == support[:-1]).all(-1)
    ahead, behind = values[1:][same], values[:-1][same]
    step = (ahead - behind) % 1
    assert same.sum() > 300
    assert ((step[:, 0] - step[:, 1]).abs() > 0.1).all()


def test_settings_have_laws_of_their_own_and_standardised_values_shift() -> None:
    p = torch.tensor([[0.1, 0.2, 0.4], [0.5, 1.0, 0.01]], dtype=torch.float64)
    features = SparseUniform(p, standardise=True)
    x, weight = StratifiedSampler(features).sample(20_000, generator=seeded(3))
    assert (x.shape, weight.shape) == ((20_000, 2, 3), (20_000, 2))
    none = (1 - p).prod(-1)
    assert_close(weight.mean(0), 1 - none, rtol=1e-3, atol=0)
    mean = (weight[..., None] * x).mean(0) + none[:, None] * features.inactive_value
    assert_close(mean, torch.zeros_like(p), rtol=0, atol=0.02)
    second = (weight[..., None] * x.square()).mean(0) + none[:, None] * features.inactive_value.square()
    assert_close(second, torch.ones_like(p), rtol=0.03, atol=0)


def test_single_feature_and_dtype() -> None:
    x, weight = StratifiedSampler(SparseSign(0.3)).sample(5, generator=seeded(4), dtype=torch.float32)
    assert (x.shape, x.dtype, weight.shape, weight.dtype) == ((5,), torch.float32, (5,), torch.float64)
    assert_close(weight, torch.full((5,), 0.3, dtype=torch.float64), rtol=1e-14, atol=0)


@pytest.mark.bad_input
def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="features must be independent for stratified samples, got Correlated"):
        StratifiedSampler(CorrelatedFeatures(SparseSign([0.2, 0.2]), [[0, 1]], correlation=0.5))
    sampler = StratifiedSampler(SparseSign([0.2, 0.2]))
    with pytest.raises(ValueError, match="n must be"):
        sampler.sample(0, generator=seeded(0))
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator"):
        sampler.sample(3, generator=None)
