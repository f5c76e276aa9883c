"""The law of activities in groups against exact enumeration, its moments against what was asked for."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from polysem.features import (
    CorrelatedFeatures,
    ExclusiveFeatures,
    IndependentFeatures,
    SparseFeatures,
    SparseGaussian,
    SparseLaplace,
    SparseSign,
    SparseUniform,
)

Law = dict[tuple[bool, ...], float]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def outcomes(n: int) -> list[tuple[bool, ...]]:
    return list(itertools.product([False, True], repeat=n))


def independent_law(p: list[float]) -> Law:
    return {s: math.prod(q if on else 1 - q for q, on in zip(p, s, strict=True)) for s in outcomes(len(p))}


def correlated_law(p: list[float], rho: float) -> Law:
    """The mixture over the hidden cause, outcome by outcome; of a pair of negative correlation one is flipped."""
    if rho < 0:
        flipped = correlated_law([p[0], 1 - p[1]], -rho)
        return {(first, not second): chance for (first, second), chance in flipped.items()}
    odds = [q / (1 - q) for q in p]
    cause = math.sqrt(min(odds) * max(odds))
    present = [q * (1 + math.sqrt(rho / (cause * o))) for q, o in zip(p, odds, strict=True)]
    absent = [q * (1 - math.sqrt(rho * cause / o)) for q, o in zip(p, odds, strict=True)]
    share = cause / (1 + cause)
    with_cause, without = independent_law(present), independent_law(absent)
    return {s: share * with_cause[s] + (1 - share) * without[s] for s in with_cause}


def exclusive_law(p: list[float]) -> Law:
    law = dict.fromkeys(outcomes(len(p)), 0.0)
    law[(False,) * len(p)] = 1 - sum(p)
    for i, q in enumerate(p):
        law[tuple(i == j for j in range(len(p)))] = q
    return law


def product_law(n: int, parts: list[tuple[list[int], Law]]) -> Law:
    """The joint law of independent groups, each with its members' positions."""
    return {s: math.prod(law[tuple(s[member] for member in members)] for members, law in parts) for s in outcomes(n)}


def pair_chances(law: Law, n: int) -> Tensor:
    table = [[sum(c for s, c in law.items() if s[i] and s[j]) for j in range(n)] for i in range(n)]
    return torch.tensor(table, dtype=torch.float64)


P = [0.3, 0.2, 0.5, 0.1, 0.25]
CASES = {
    "pair": (
        CorrelatedFeatures(SparseGaussian(P), [[3, 0]], correlation=0.4),
        [([3, 0], correlated_law([0.1, 0.3], 0.4)), ([1, 2, 4], independent_law([0.2, 0.5, 0.25]))],
    ),
    "group and opposite pair": (
        CorrelatedFeatures(SparseGaussian(P), [[0, 2, 4], [1, 3]], correlation=[0.3, -0.12]),
        [([0, 2, 4], correlated_law([0.3, 0.5, 0.25], 0.3)), ([1, 3], correlated_law([0.2, 0.1], -0.12))],
    ),
    "opposite pair that is often active": (
        CorrelatedFeatures(SparseGaussian([0.9, 0.2, 0.6]), [[0, 2]], correlation=-0.25),
        [([0, 2], correlated_law([0.9, 0.6], -0.25)), ([1], independent_law([0.2]))],
    ),
    "as one": (
        CorrelatedFeatures(SparseGaussian([0.2, 0.2, 0.2]), [[0, 1, 2]], correlation=1.0),
        [([0, 1, 2], {s: 0.2 * all(s) + 0.8 * (not any(s)) for s in outcomes(3)})],
    ),
    "one a subset of the other": (
        CorrelatedFeatures(SparseGaussian([0.2, 0.5]), [[0, 1]], correlation=0.5),
        [([0, 1], {(False, False): 0.5, (False, True): 0.3, (True, False): 0.0, (True, True): 0.2})],
    ),
    "uncorrelated": (
        CorrelatedFeatures(SparseGaussian(P), [[0, 1]], correlation=0.0),
        [([*range(5)], independent_law(P))],
    ),
    "beside a certain one": (
        CorrelatedFeatures(SparseGaussian([0.3, 0.3, 1.0]), [[0, 1]], correlation=0.5),
        [([0, 1], correlated_law([0.3, 0.3], 0.5)), ([2], independent_law([1.0]))],
    ),
    "exclusive": (
        ExclusiveFeatures(SparseGaussian(P), [[4, 0, 1]]),
        [([4, 0, 1], exclusive_law([0.25, 0.3, 0.2])), ([2, 3], independent_law([0.5, 0.1]))],
    ),
    "exclusive pairs": (
        ExclusiveFeatures(SparseGaussian(P), [[0, 1], [2, 3]]),
        [([0, 1], exclusive_law([0.3, 0.2])), ([2, 3], exclusive_law([0.5, 0.1])), ([4], independent_law([0.25]))],
    ),
    "always exactly one": (
        ExclusiveFeatures(SparseGaussian([0.5, 0.3, 0.2]), [[0, 1, 2]]),
        [([0, 1, 2], exclusive_law([0.5, 0.3, 0.2]))],
    ),
    "faint": (
        CorrelatedFeatures(SparseGaussian([1e-9, 1e-9, 2e-9]), [[0, 1]], correlation=0.5),
        [([0, 1], correlated_law([1e-9, 1e-9], 0.5)), ([2], independent_law([2e-9]))],
    ),
}
every_case = pytest.mark.parametrize("case", CASES)


@every_case
def test_stated_pair_probabilities_are_those_of_the_law(case: str) -> None:
    features, parts = CASES[case]
    n = features.n_features
    law = product_law(n, parts)
    assert_close(sum(law.values()), 1.0, rtol=1e-12, atol=0)
    assert_close(features.pair_probability, pair_chances(law, n), rtol=1e-9, atol=1e-12)
    assert_close(features.pair_probability.diagonal(), features.feature_probability, rtol=0, atol=0)


@every_case
@pytest.mark.parametrize("conditioned", [False, True])
def test_samples_follow_the_law(case: str, conditioned: bool) -> None:
    features, parts = CASES[case]
    n = 100_000
    law = product_law(features.n_features, parts)
    none = law[(False,) * features.n_features]
    if conditioned:
        x, weight = features.sample_active(n, generator=seeded(1))
        some = math.fsum(chance for s, chance in law.items() if any(s))
        assert_close(weight.item(), some, rtol=1e-9, atol=0)
        law = {s: chance / some for s, chance in law.items() if any(s)}
    else:
        x = features.sample(n, generator=seeded(1))
        assert_close((x == 0).all(-1).double().mean().item(), none, rtol=0, atol=5 / n**0.5)
    rows, counts = (x != 0).unique(dim=0, return_counts=True)
    seen = {tuple(row): count for row, count in zip(rows.tolist(), counts.tolist(), strict=True)}
    assert seen.keys() <= {s for s, chance in law.items() if chance > 1e-15}
    for s, chance in law.items():
        deviation = abs(seen.get(s, 0) - n * chance)
        assert deviation <= 5 * math.sqrt(n * chance * max(0.0, 1 - chance)) + 1e-3, s


@pytest.mark.parametrize("case", ["pair", "group and opposite pair", "opposite pair that is often active", "as one"])
def test_empirical_correlation_is_the_asked_one(case: str) -> None:
    features, _ = CASES[case]
    assert isinstance(features, CorrelatedFeatures)
    n = 200_000
    s = (features.sample(n, generator=seeded(2)) != 0).double()
    for position, group in enumerate(features.groups):
        rho = features.correlation[position].item()
        for i, j in itertools.combinations(group, 2):
            a, b = ((s[:, k] - s[:, k].mean()) / s[:, k].std() for k in (i, j))
            stderr = (a * b - rho * (a.square() + b.square()) / 2).std().item() / math.sqrt(n)
            assert abs((a * b).mean().item() - rho) <= 4 * stderr + 1e-5, (i, j)
    alone = [k for k in range(s.shape[1]) if all(k not in group for group in features.groups)]
    correlation = torch.corrcoef(s.T)
    assert all(abs(correlation[k, j].item()) < 4 / math.sqrt(n) for k in alone for j in range(s.shape[1]) if j != k)


@every_case
def test_each_feature_keeps_its_law(case: str) -> None:
    features, _ = CASES[case]
    marginals = features.marginals
    for moment in ("mean", "variance", "kurtosis", "inactive_value", "feature_probability"):
        assert_close(getattr(features, moment), getattr(marginals, moment), rtol=0, atol=0)
    assert marginals.independent
    assert not features.independent


@pytest.mark.parametrize(
    "marginals",
    [
        SparseUniform([0.3, 0.4, 0.2], standardise=True),
        SparseUniform([0.3, 0.4, 0.2], signed=True),
        SparseLaplace([0.3, 0.4, 0.2], standardise=True),
        SparseSign([0.3, 0.4, 0.2]),
    ],
)
@pytest.mark.parametrize("exclusive", [False, True])
def test_moments_of_samples(marginals: IndependentFeatures, exclusive: bool) -> None:
    """Means and covariances, where only a slab with a mean makes features themselves covary."""
    n, groups = 400_000, [[0, 2]]
    features: SparseFeatures
    if exclusive:
        features = ExclusiveFeatures(marginals, groups)
    else:
        features = CorrelatedFeatures(marginals, groups, correlation=0.5)
    x, weight = features.sample_active(n, generator=seeded(3))
    rest = features.inactive_value
    m1, m2, _, _ = marginals.slab_moments
    p, pairs = features.feature_probability, features.pair_probability
    scale = (p * m2 - (p * m1).square()).sqrt() if marginals.standardise else torch.ones_like(p)
    for i, j in itertools.product(range(3), repeat=2):
        covariance = (pairs[i, j] - p[i] * p[j]) * m1**2 / (scale[i] * scale[j])
        truth = features.variance[i] if i == j else covariance
        f = (x[:, i] - features.mean[i]) * (x[:, j] - features.mean[j])
        at_rest = (rest[i] - features.mean[i]) * (rest[j] - features.mean[j])
        estimate = weight * f.mean() + (1 - weight) * at_rest
        assert abs(estimate - truth) <= 5 * weight * f.std() / math.sqrt(n) + 1e-12, (i, j)


def test_settings_have_their_own_probabilities_and_correlations() -> None:
    p = torch.tensor([[0.2, 0.2, 0.5], [0.5, 0.4, 0.1]], dtype=torch.float64)
    features = CorrelatedFeatures(SparseSign(p), [[0, 1]], correlation=[[0.9], [-0.3]])
    x, weight = features.sample_active(100_000, generator=seeded(4))
    assert x.shape == (100_000, 2, 3)
    for k, rho in enumerate([0.9, -0.3]):
        one = CorrelatedFeatures(SparseSign(p[k]), [[0, 1]], correlation=rho)
        _, alone = one.sample_active(1, generator=seeded(4))
        assert_close(weight[k], alone)
        assert_close(features.pair_probability[k], one.pair_probability)
        pairs = (x[:, k, :, None] != 0) & (x[:, k, None] != 0)
        expected = one.pair_probability / alone
        deviation = (pairs.double().mean(0) - expected).abs()
        assert (deviation < 5 * (expected * (1 - expected) / 100_000).clamp(min=0).sqrt() + 1e-9).all()


def test_same_seed_same_samples() -> None:
    for features, _ in CASES.values():
        first, again = (features.sample_active(20, generator=seeded(5))[0] for _ in range(2))
        assert_close(first, again, rtol=0, atol=0)
        single, _ = features.sample_active(20, generator=seeded(5), dtype=torch.float32)
        assert_close(single, first.float(), rtol=0, atol=0)


@settings(deadline=None, max_examples=60)
@given(
    p=st.lists(st.floats(1e-6, 0.999), min_size=2, max_size=4),
    share=st.floats(0, 1),
    negative=st.booleans(),
)
def test_every_feasible_correlation_is_reached(p: list[float], share: float, negative: bool) -> None:
    """Up to the bound of Fréchet: both active at most min p_i, and in a pair at least max(0, p_1 + p_2 - 1)."""
    p = p[:2] if negative else p
    q = [1 - p[1] if negative and k == 1 else chance for k, chance in enumerate(p)]
    low, high = min(q), max(q)
    reach = math.sqrt(low * (1 - high) / (high * (1 - low)))
    rho = (-1 if negative else 1) * share * reach * (1 - 1e-9)
    features = CorrelatedFeatures(SparseSign(p), [list(range(len(p)))], correlation=rho)
    pairs = features.pair_probability
    for i, j in itertools.combinations(range(len(p)), 2):
        spread = math.sqrt(p[i] * (1 - p[i]) * p[j] * (1 - p[j]))
        assert_close((pairs[i, j].item() - p[i] * p[j]) / spread, rho, rtol=1e-6, atol=1e-6)
        assert pairs[i, j] <= min(p[i], p[j]) * (1 + 1e-9)
        assert pairs[i, j] >= max(0.0, p[i] + p[j] - 1) - 1e-12
    x, weight = features.sample_active(50, generator=seeded(6))
    assert (x != 0).any(-1).all()
    assert max(p) * (1 - 1e-12) <= weight.item() <= min(1.0, sum(p)) * (1 + 1e-12)


def test_independent_features_state_their_pairs() -> None:
    features = SparseSign([[0.5, 0.2], [1.0, 0.1]])
    expected = torch.tensor([[[0.5, 0.1], [0.1, 0.2]], [[1.0, 0.1], [0.1, 0.1]]], dtype=torch.float64)
    assert_close(features.pair_probability, expected)
    assert_close(SparseSign(0.5).pair_probability, torch.tensor([[0.5]], dtype=torch.float64))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("p", "groups", "correlation", "message"),
    [
        ([0.5, 0.1], [[0, 1]], 0.34, "correlation must be at most 0.333333 in size"),
        ([0.5, 0.1], [[0, 1]], -0.34, "correlation must be at most 0.333333 in size"),
        ([0.1, 0.1], [[0, 1]], -0.12, "correlation must be at most 0.111111 in size"),
        ([0.1, 0.1], [[0, 1]], 1.1, "correlation must be at most 1 in size"),
        ([0.1, 0.1], [[0, 1]], math.nan, "correlation must be free of NaN"),
        ([0.1, 1.0], [[0, 1]], 0.1, "correlation must be at most 0 in size"),
        ([1.0, 1.0], [[0, 1]], 0.1, "correlation must be at most 0 in size"),
        ([0.1, 0.1, 0.1], [[0, 1, 2]], -0.01, "at least 0 in a group of more than two"),
        ([0.1, 0.1], [[0, 1]], [0.1, 0.2], "correlation must be a number or of shape"),
        ([0.1, 0.1], [[0]], 0.1, "each of groups must be of at least two"),
        ([0.1, 0.1], [[0, 2]], 0.1, "an index in groups must be below n_features = 2"),
        ([0.1, 0.1], [[0, -1]], 0.1, "an index in groups must be a whole number"),
        ([0.1, 0.1], [[0, 0]], 0.1, "an index in groups must be in one group only"),
        ([0.1, 0.1, 0.1], [[0, 1], [1, 2]], 0.1, "an index in groups must be in one group only"),
        (0.1, [[0, 1]], 0.1, "marginals must have a feature axis"),
    ],
)
def test_impossible_correlations_are_refused(
    p: object, groups: list[list[int]], correlation: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CorrelatedFeatures(SparseSign(p), groups, correlation=correlation)


@pytest.mark.bad_input
def test_impossible_groups_are_refused() -> None:
    with pytest.raises(ValueError, match=r"feature_probability must be of sum at most 1 in group \[0, 2\], got 1.1"):
        ExclusiveFeatures(SparseSign([0.6, 0.1, 0.5]), [[0, 2]])
    features = CASES["pair"][0]
    with pytest.raises(TypeError, match="marginals must be independent features, got CorrelatedFeatures"):
        ExclusiveFeatures(features, [[0, 1]])
    for draw in (features.sample, features.sample_active):
        with pytest.raises(ValueError, match="n must be"):
            draw(0, generator=seeded(0))
