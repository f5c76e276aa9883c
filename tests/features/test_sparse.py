"""Moments against quadrature, enumeration and samples; the law of active sets against enumeration."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor
from torch.testing import assert_close

from polysem.features import (
    IndependentFeatures,
    SparseFeatures,
    SparseGaussian,
    SparseLaplace,
    SparseSign,
    SparseUniform,
)

Make = Callable[..., SparseFeatures]


def signed_uniform(p: object, *, standardise: bool = False) -> SparseFeatures:
    return SparseUniform(p, signed=True, standardise=standardise)


MAKERS = [SparseUniform, signed_uniform, SparseGaussian, SparseLaplace, SparseSign]
DENSITIES = {
    SparseUniform: stats.uniform(0, 1),
    signed_uniform: stats.uniform(-1, 2),
    SparseGaussian: stats.norm(),
    SparseLaplace: stats.laplace(scale=math.sqrt(0.5)),
}
every_slab = pytest.mark.parametrize("make", MAKERS)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slab_expectation(make: Make, f: Callable[[float], float]) -> float:
    if make is SparseSign:
        return (f(1.0) + f(-1.0)) / 2
    density = DENSITIES[make]
    low, high = density.support()
    pieces = [(low, 0.0), (0.0, high)] if low < 0 else [(low, high)]
    return sum(integrate.quad(lambda z: f(z) * density.pdf(z), a, b, epsabs=1e-13, epsrel=1e-12)[0] for a, b in pieces)


@every_slab
@pytest.mark.parametrize("p", [1.0, 0.3, 1e-3])
def test_moments_equal_quadrature(make: Make, p: float) -> None:
    mean = p * slab_expectation(make, lambda z: z)

    def central(k: int) -> float:
        return p * slab_expectation(make, lambda z: (z - mean) ** k) + (1 - p) * (0 - mean) ** k

    features = make(p)
    assert features.mean.shape == features.variance.shape == features.kurtosis.shape == ()
    assert features.mean.dtype == features.variance.dtype == features.kurtosis.dtype == torch.float64
    assert_close(features.mean.item(), mean, rtol=1e-10, atol=1e-12)
    assert_close(features.variance.item(), central(2), rtol=1e-10, atol=0)
    assert_close(features.skewness.item(), central(3) / central(2) ** 1.5, rtol=1e-9, atol=1e-12)
    assert_close(features.kurtosis.item(), central(4) / central(2) ** 2, rtol=1e-9, atol=0)


@every_slab
@pytest.mark.parametrize("standardise", [False, True])
def test_moments_equal_those_of_a_million_samples(make: Make, standardise: bool) -> None:
    features = make([0.15, 0.8], standardise=standardise)
    n = 1_000_000
    x = features.sample(n, generator=seeded(1))
    raw = make([0.15, 0.8])
    if standardise:
        assert_close(features.mean, torch.zeros(2, dtype=torch.float64))
        assert_close(features.variance, torch.ones(2, dtype=torch.float64))
        assert_close(features.skewness, raw.skewness)
        assert_close(features.kurtosis, raw.kurtosis)
    centred = x - features.mean
    for name, samples, truth in [
        ("mean", centred, torch.zeros(2, dtype=torch.float64)),
        ("variance", centred**2, features.variance),
        ("third", centred**3, features.skewness * features.variance**1.5),
        ("fourth", centred**4, features.kurtosis * features.variance**2),
    ]:
        error = (samples.mean(0) - truth).abs() / (samples.std(0) / math.sqrt(n) + 1e-12)
        assert error.max() < 5, name


@pytest.mark.parametrize("make", [signed_uniform, SparseUniform, SparseGaussian, SparseLaplace])
def test_active_values_follow_the_slab(make: Make) -> None:
    x = make(1.0).sample(20_000, generator=seeded(2))
    assert stats.kstest(x.numpy(), DENSITIES[make].cdf).pvalue > 1e-3


def test_signs_are_fair_and_of_unit_size() -> None:
    x = SparseSign(1.0).sample(20_000, generator=seeded(3))
    assert_close(x.abs(), torch.ones_like(x))
    assert abs(x.mean().item()) < 5 / math.sqrt(20_000)


def active_set_law(p: list[float]) -> dict[tuple[bool, ...], float]:
    return {
        s: math.prod(q if on else 1 - q for q, on in zip(p, s, strict=True))
        for s in itertools.product([False, True], repeat=len(p))
    }


def active_set_counts(x: Tensor) -> dict[tuple[bool, ...], int]:
    rows, counts = (x != 0).unique(dim=0, return_counts=True)
    return {tuple(row): count for row, count in zip(rows.tolist(), counts.tolist(), strict=True)}


@pytest.mark.parametrize("p", [[0.5, 0.2, 0.7], [0.01, 0.3, 1.0], [1.0, 0.4, 0.6], [1e-3, 2e-3, 3e-3]])
@pytest.mark.parametrize("conditioned", [False, True])
def test_law_of_active_sets_equals_enumeration(p: list[float], conditioned: bool) -> None:
    n = 100_000
    law = active_set_law(p)
    if conditioned:
        x, weight = SparseGaussian(p).sample_active(n, generator=seeded(4))
        none = law.pop((False,) * 3)
        assert_close(weight.item(), 1 - none, rtol=1e-12, atol=0)
        law = {s: chance / (1 - none) for s, chance in law.items()}
    else:
        x = SparseGaussian(p).sample(n, generator=seeded(4))
    counts = active_set_counts(x)
    assert counts.keys() <= {s for s, chance in law.items() if chance > 0}
    for active, chance in law.items():
        deviation = abs(counts.get(active, 0) - n * chance)
        assert deviation <= 5 * math.sqrt(n * chance * (1 - chance)) + 1e-9, active


@every_slab
@pytest.mark.parametrize("standardise", [False, True])
def test_weighted_conditional_expectation_is_the_expectation(make: Make, standardise: bool) -> None:
    features = make([0.05, 0.2, 0.1], standardise=standardise)
    n = 400_000

    def f(x: Tensor) -> Tensor:
        return (x.sum(-1) - 0.3).square()

    x, weight = features.sample_active(n, generator=seeded(5))
    values = f(x)
    estimate = weight * values.mean() + (1 - weight) * f(features.inactive_value)
    truth = features.variance.sum() + (features.mean.sum() - 0.3) ** 2
    stderr = weight * values.std() / math.sqrt(n)
    assert (estimate - truth).abs() < 5 * stderr


def test_samples_at_tiny_probability() -> None:
    p = 1e-12
    x, weight = SparseSign([p] * 4).sample_active(40_000, generator=seeded(6))
    assert_close(weight.item(), -math.expm1(4 * math.log1p(-p)), rtol=1e-14, atol=0)
    assert_close((x != 0).sum(-1), torch.ones(40_000, dtype=torch.int64))
    share = (x != 0).double().mean(0)
    assert (share - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 40_000)


def test_settings_before_the_last_axis_are_conditioned_separately() -> None:
    p = torch.tensor([[0.1, 0.2], [1.0, 0.5], [1e-9, 1e-9]], dtype=torch.float64)
    x, weight = SparseGaussian(p).sample_active(50_000, generator=seeded(7))
    assert x.shape == (50_000, 3, 2)
    assert_close(weight, torch.tensor([0.28, 1.0, 2e-9 - 1e-18], dtype=torch.float64), rtol=1e-12, atol=0)
    assert (x != 0).any(-1).all()
    expected = p / weight[:, None]
    deviation = ((x != 0).double().mean(0) - expected).abs()
    assert (deviation <= 5 * (expected * (1 - expected) / 50_000).clamp(min=0).sqrt() + 1e-12).all()


def test_a_number_is_one_feature() -> None:
    features = SparseUniform(0.25)
    assert features.n_features == 1
    assert features.sample(7, generator=seeded(8)).shape == (7,)
    x, weight = features.sample_active(7, generator=seeded(8))
    assert x.shape == (7,)
    assert (x > 0).all()
    assert_close(weight, torch.tensor(0.25, dtype=torch.float64))


@every_slab
def test_float32_samples_are_the_float64_ones_rounded(make: Make) -> None:
    features = make([0.3, 0.6], standardise=True)
    for draw in (features.sample, lambda *a, **k: features.sample_active(*a, **k)[0]):
        single = draw(50, generator=seeded(9), dtype=torch.float32)
        assert single.dtype == torch.float32
        assert_close(single, draw(50, generator=seeded(9)).float(), rtol=0, atol=0)


def test_the_given_probability_is_copied() -> None:
    p = torch.tensor([0.5], dtype=torch.float64)
    features = SparseSign(p)
    p[0] = 0.1
    assert features.feature_probability.item() == 0.5


def test_properties_say_how_it_was_made() -> None:
    features = SparseUniform([0.5], signed=True, standardise=True)
    assert (features.signed, features.standardise, features.n_features) == (True, True, 1)
    assert not SparseUniform([0.5]).signed


@every_slab
@settings(deadline=None, max_examples=30)
@given(kurtosis=st.lists(st.floats(6.0, 1e8), min_size=1, max_size=4))
def test_features_from_kurtosis_have_it(make: Make, kurtosis: list[float]) -> None:
    kind = SparseUniform if make is signed_uniform else make
    assert isinstance(kind, type)
    assert issubclass(kind, IndependentFeatures)
    features = kind.from_kurtosis(kurtosis, standardise=True)
    assert features.standardise
    assert_close(features.kurtosis, torch.tensor(kurtosis, dtype=torch.float64), rtol=1e-12, atol=0)
    assert_close(kind.from_kurtosis(kurtosis).mean, torch.zeros(len(kurtosis), dtype=torch.float64))


def test_lowest_kurtosis_is_that_of_the_slab() -> None:
    lowest = {SparseUniform: 1.8, SparseGaussian: 3.0, SparseLaplace: 6.0, SparseSign: 1.0}
    for kind, kurtosis in lowest.items():
        assert_close(kind.from_kurtosis(kurtosis).feature_probability.item(), 1.0, rtol=1e-12, atol=0)


@pytest.mark.bad_input
@pytest.mark.parametrize("kind", [SparseUniform, SparseGaussian, SparseLaplace, SparseSign])
@pytest.mark.parametrize("kurtosis", [0.9, math.inf, math.nan])
def test_unreachable_kurtosis_is_refused(kind: type[IndependentFeatures], kurtosis: float) -> None:
    with pytest.raises(ValueError, match="kurtosis must be"):
        kind.from_kurtosis(kurtosis)


@pytest.mark.bad_input
@pytest.mark.parametrize("p", [0.0, -0.1, 1.1, math.nan, [0.5, 0.0], []])
def test_impossible_probabilities_are_refused(p: object) -> None:
    with pytest.raises(ValueError, match="feature_probability must be"):
        SparseUniform(p)


@pytest.mark.bad_input
def test_bad_draws_are_refused() -> None:
    features = SparseSign([0.5])
    for draw in (features.sample, features.sample_active):
        with pytest.raises(ValueError, match="n must be"):
            draw(0, generator=seeded(0))
        with pytest.raises(TypeError, match="generator must be"):
            draw(1, generator=None)
        with pytest.raises(TypeError, match="dtype must be"):
            draw(1, generator=seeded(0), dtype=torch.int64)
    with pytest.raises(TypeError, match="feature_probability must be"):
        SparseSign("often")


@pytest.mark.parametrize("make", [SparseUniform, signed_uniform, SparseGaussian, SparseLaplace, SparseSign])
@pytest.mark.parametrize("standardise", [False, True])
def test_nodes_stand_for_the_law_of_an_active_feature(
    make: Callable[..., IndependentFeatures], standardise: bool
) -> None:
    p = torch.tensor([[0.2, 1.0]], dtype=torch.float64)
    features = make(p, standardise=standardise)
    nodes, weight = features.active_nodes(8)
    assert nodes.shape == (8, 1, 2)
    assert_close(weight.sum().item(), 1.0)
    x = torch.cat([nodes, features.inactive_value[None]])
    chance = torch.cat([p * weight[:, None, None], 1 - p[None]])
    mean = (chance * x).sum(0)
    assert_close(mean, features.mean, rtol=1e-12, atol=1e-12)
    assert_close((chance * (x - mean).square()).sum(0), features.variance, rtol=1e-12, atol=1e-12)
    many, weight = features.active_nodes(400)
    shape = slab_expectation(make, abs)
    if not standardise:
        assert_close(float(weight @ many[:, 0, 0].abs()), shape, rtol=3e-3, atol=0)


@pytest.mark.bad_input
def test_a_number_of_nodes_that_is_no_multiple_of_four_is_refused() -> None:
    with pytest.raises(ValueError, match="n must be a multiple of 4, got 6"):
        SparseSign(0.5).active_nodes(6)
