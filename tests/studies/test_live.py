"""Models that are watched: the same bits every time, losses term by term, penalties and masks that do their work."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from polysem.features import geometric
from polysem.measure import FeatureClass
from polysem.studies import (
    FLATTENED,
    WATCHED,
    Live,
    LiveConfig,
    Moment,
    intervene,
    known_optimum,
    live,
    live_bounds,
)
from polysem.theory import allocate
from polysem.zoo import UntiedAutoencoder

CONFIG = LiveConfig(architecture="quadratic", n_features=5, feature_probability=0.1, decay=0.8, steps=400, frames=20)
KURTOSIS = 1.8 / CONFIG.feature_probability


@pytest.fixture(scope="module")
def ordinary() -> Live:
    return live(CONFIG)


def watched(config: LiveConfig) -> list[Moment]:
    seen: list[Moment] = []
    done = live(config, seen.append)
    assert_close(seen[-1].loss, done.last.loss, rtol=0, atol=0)
    return seen


def loss_of(W: torch.Tensor) -> float:
    """Of the quadratic model with `v² = I`, term by term."""
    total = 0.0
    for i in range(len(W)):
        for j in range(len(W)):
            product = float(W[i] @ W[j])
            v = CONFIG.decay ** (i / 2)
            total += (KURTOSIS - 1) * (v - product) ** 2 if i == j else 2 * product**2
    return total


def test_every_moment_is_what_it_says() -> None:
    seen = watched(CONFIG)
    assert [moment.step for moment in seen] == list(range(0, 401, 20))
    for moment in seen[:: len(seen) // 4]:
        for start in range(CONFIG.n_seeds):
            W = moment.W[start]
            assert float(moment.loss[start]) == pytest.approx(loss_of(W), rel=1e-9)
            squares = (W @ W.mT).square()
            assert_close(moment.capacity[start], squares.diagonal() / squares.sum(-1), rtol=0, atol=1e-9)
    assert_close(seen[-1].places, seen[-1].W)


def test_it_ends_at_the_known_optimum(ordinary: Live) -> None:
    best = allocate(geometric(5, 0.8).sqrt(), KURTOSIS, 2.0)
    assert known_optimum(CONFIG) == pytest.approx(float(best.loss), rel=1e-12)
    assert_close(ordinary.last.loss, best.loss.expand(2), rtol=1e-9, atol=0)
    assert_close(ordinary.last.capacity, best.capacity.expand(2, -1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["tied identity", "untied identity"])
def test_linear_models_end_at_principal_components(name: str) -> None:
    config = LiveConfig(architecture=name, n_features=4, d_hidden=2, feature_probability=0.5, decay=0.5)
    variance = 0.5 / 3 - 0.25**2
    assert known_optimum(config) == pytest.approx(variance * (0.25 + 0.125), rel=1e-12)
    assert_close(
        live(config).last.loss, torch.full((2,), known_optimum(config), dtype=torch.float64), rtol=1e-4, atol=0
    )


def test_the_same_again_bit_for_bit() -> None:
    config = LiveConfig(architecture="tied relu", steps=30, frames=5)
    for one, other in zip(watched(config), watched(config), strict=True):
        for name in ("W", "capacity", "loss", "places"):
            assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=0)


def test_more_dimensions_are_seen_from_one_side() -> None:
    seen = watched(LiveConfig(architecture="quadratic", n_features=9, d_hidden=5, decay=0.9, steps=50, frames=50))
    assert seen[0].places.shape == (2, 9, 3)
    assert_close(torch.linalg.svdvals(seen[0].places), torch.linalg.svdvals(seen[0].W)[:, :3])
    for before, after in pairwise(seen):
        assert bool(((after.places - before.places).norm(dim=-1) <= (after.W - before.W).norm(dim=-1) + 1e-12).all())


def test_rows_whose_length_means_nothing_are_relative() -> None:
    last = live(LiveConfig(architecture="untied identity", steps=20)).last
    assert_close(last.places.norm(dim=-1).amax(-1), torch.ones(2, dtype=torch.float64))


def test_bounds_of_the_quadratic_model() -> None:
    bounds = live_bounds(CONFIG)
    assert bounds.kappa == pytest.approx((KURTOSIS - 1) ** 2 * (KURTOSIS - 3) / 4, rel=1e-9)
    assert bounds.monosemantic == pytest.approx((KURTOSIS - 1) * sum(0.8**i for i in (2, 3, 4)), rel=1e-9)


@pytest.mark.parametrize("name", ["quadratic", "tied relu", "tied softplus"])
def test_the_full_penalty_makes_features_monosemantic(name: str) -> None:
    config = LiveConfig(architecture=name, n_features=3, d_hidden=1, decay=0.8, steps=200)
    bounds, before = live_bounds(config), live(config)
    after = intervene(before, kappa=bounds.kappa)
    assert int(before.last.counts(FeatureClass.IMPURE).sum()) > 0
    assert after.last.counts(FeatureClass.IMPURE).tolist() == [0, 0]
    assert bool((after.last.loss > 0.98 * bounds.monosemantic).all())
    assert bool((after.last.polysemanticity < before.last.polysemanticity).all())


def test_masked_features_cost_what_ignoring_them_costs(ordinary: Live) -> None:
    done = intervene(ordinary, masked=[0, 3])
    kept = [1, 2, 4]
    v = geometric(5, 0.8).sqrt()
    best = allocate(v[kept], KURTOSIS, 2.0)
    unseen = (KURTOSIS - 1) * float(v[[0, 3]].square().sum())
    assert_close(done.last.loss, (best.loss + unseen).expand(2), rtol=1e-9, atol=0)
    assert_close(done.last.capacity[:, kept], best.capacity.expand(2, -1), rtol=0, atol=1e-4)
    assert not done.last.W[:, [0, 3]].any()
    assert_close(ordinary.last.W, ordinary.model.embedding.detach())  # the start is left as it was


def test_watching_ends_training() -> None:
    def enough(moment: Moment) -> None:
        if moment.step >= 40:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        live(CONFIG, enough)


def test_capacity_of_untied_models_is_that_of_what_is_read() -> None:
    done = live(LiveConfig(architecture="untied relu", n_features=3, steps=20))
    assert isinstance(done.model, UntiedAutoencoder)
    R = done.model.response().detach().double()
    assert_close(done.last.capacity, R.diagonal(dim1=-2, dim2=-1).square() / R.square().sum(-1))


@pytest.mark.bad_input
def test_bad_input(ordinary: Live) -> None:
    for name in ("hidden relu", "nonsense"):
        with pytest.raises(ValueError, match="architecture must be"):
            live(LiveConfig(architecture=name))
    with pytest.raises(ValueError, match="architecture must be"):
        live_bounds(LiveConfig(architecture="tied identity"))
    for bad in ({"n_features": 0}, {"decay": 0.0}, {"feature_probability": 1.5}, {"steps": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            LiveConfig(**bad)
    for masked in ([5], [-1], [0, 1, 2, 3, 4]):
        with pytest.raises(ValueError, match="masked"):
            intervene(ordinary, masked=masked)
    for kappa in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="kappa"):
            intervene(ordinary, kappa=kappa)
    assert set(FLATTENED) < set(WATCHED)


def test_untied_readouts_evade_the_penalty() -> None:
    """Why they are not among `FLATTENED`: no feature is impure any more, at far less than the tied floor."""
    config = LiveConfig(architecture="untied relu", feature_probability=0.1, decay=0.9, steps=150, frames=1)
    tied = live_bounds(replace(config, architecture="tied relu"))
    after = intervene(live(config), kappa=tied.kappa)
    least = int(after.last.loss.argmin())
    assert int(after.last.counts(FeatureClass.IMPURE)[least]) == 0
    assert float(after.last.loss[least]) < 0.5 * tied.monosemantic
