"""What flattening costs, against allocations that are known."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from polysem import theory
from polysem.features import geometric
from polysem.studies import Flattening, FlatteningConfig, Stage, flattening

CONFIG = FlatteningConfig(
    n_features=5,
    d_hidden=2,
    restarts=6,
    adam_steps=500,
    n_shares=5,
    probabilities=(0.05,),
    relu_features=4,
    relu_hidden=2,
    relu_restarts=3,
    relu_steps=200,
    batch_size=64,
)
V, F = geometric(5, 0.9), 20.0


@pytest.fixture(scope="module")
def found() -> Flattening:
    return flattening(CONFIG)


def test_floor_and_optimum_are_those_of_theory(found: Flattening) -> None:
    for way in found.ways:
        assert_close(way.floor, float((F - 1) * V[2:].square().sum()))
        assert_close(way.optimum, float(theory.allocate(V, F, 2).loss))
        assert_close(way.price, way.floor - way.optimum)
        assert way.loss.min() >= way.optimum * (1 - 1e-9)
        assert (way.choice_error[way.n_impure == 0] >= -1e-6 * way.floor).all()


def test_without_a_penalty_none_is_monosemantic_and_with_it_all_are(found: Flattening) -> None:
    counts = {way.name: way.n_monosemantic for way in found.ways}
    assert counts["no penalty"] == 0
    assert counts["largest κ for all, ramped"] >= 4
    best = next(way for way in found.ways if way.name == "a tenth of that, ramped, for all")
    assert best.n_at_floor >= 3
    assert_close(float(best.loss.min()), best.floor, rtol=1e-4, atol=0)


def test_thresholds(found: Flattening) -> None:
    uniform, each = found.thresholds
    for one in (uniform, each):
        assert_close(one.chord, 2 / (F - 1))
        assert one.monosemantic[0] == 0
        assert one.monosemantic[one.shares >= one.chord].max() == 1
        assert ((one.polysemanticity < 1e-3).double().mean(-1) <= one.monosemantic).all()
        below, above = (one.optimum * factor for factor in (0.98, 1.02))
        assert _best_is_monosemantic(above, uniform=one.uniform)
        assert not _best_is_monosemantic(below, uniform=one.uniform)
    assert uniform.optimum < each.optimum


def test_the_least_share_that_sufficed_is_one_after_which_all_did(found: Flattening) -> None:
    shares = torch.tensor([0.1, 0.2, 0.4, 1.0])
    for monosemantic, least in (([0.0, 1.0, 0.5, 1.0], 1.0), ([0.0, 1.0, 1.0, 1.0], 0.2), ([1.0, 1.0, 1.0, 0.9], None)):
        one = replace(found.thresholds[0], shares=shares, monosemantic=torch.tensor(monosemantic))
        assert math.isnan(one.trained) if least is None else math.isclose(one.trained, least, rel_tol=1e-6)


def _best_is_monosemantic(share: float, *, uniform: bool) -> bool:
    C = torch.linspace(0, 1, 201, dtype=torch.float64)
    kappa = V.square() * (F - 1) ** 2 * (F - 3) / 4
    kappa = share * (kappa.max().expand_as(kappa) if uniform else kappa)
    curves = theory.loss(V[:, None], torch.full((5, 1), F), C) + kappa[:, None] * C * (1 - C)
    best = theory.allocate_curves(C, curves, 2).capacity
    return bool(((best < 0.05) | (best > 0.95)).all())


def test_fine_tuning_makes_features_pure_and_they_relax_again(found: Flattening) -> None:
    ways = found.quadratic
    assert (ways.tuned.end_index < 1e-6).all()
    assert (ways.tuned.end_loss >= 1 - 1e-9).all()
    assert_close(ways.tuned_released.end_loss, ways.ordinary.end_loss, rtol=1e-2, atol=0)
    relu = found.relu[0]
    assert relu.fall > 0.8
    assert relu.tuned.end_loss.mean() > relu.ordinary.end_loss.mean()


def test_stages_follow_training(found: Flattening) -> None:
    for ways, steps in ((found.quadratic, 500), (found.relu[0], 200)):
        for stage in (ways.ordinary, ways.scratch, ways.tuned, ways.scratch_released, ways.tuned_released):
            assert isinstance(stage, Stage)
            assert stage.steps[0] == 0
            assert stage.steps[-1] == steps
            assert (stage.steps.diff() > 0).all()
            assert stage.loss.shape == stage.polysemanticity.shape == (len(stage.steps), len(stage.end_loss))
    assert_close(found.quadratic.tuned.loss[-1], found.quadratic.tuned.end_loss)
    assert_close(found.quadratic.tuned.loss[0], found.quadratic.ordinary.end_loss)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kurtosis": 3.0}, "kurtosis must be above 3 and finite, got 3.0"),
        ({"d_hidden": 10}, "n_features must be above the 10 dimensions, got 10"),
        ({"probabilities": ()}, r"probabilities must be numbers in \(0, 1\]"),
        ({"decay": 0.0}, r"decay must be in \(0, 1\], got 0.0"),
        ({"n_shares": 1}, "n_shares must be a whole number of at least 2, got 1"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FlatteningConfig(**settings)
