"""Flattened returns on the quadratic model, where the best monosemantic allocation is known, and on a ReLU one."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from polysem import theory
from polysem.features import SparseSign, SparseUniform, geometric
from polysem.interventions import flatten, flattening_kappa
from polysem.measure import IGNORED_BELOW, FeatureClass
from polysem.returns import curve
from polysem.training import FitConfig, fit
from polysem.zoo import HiddenLayerModel, QuadraticModel, TiedAutoencoder

N, D, F, RESTARTS = 10, 4, 20.0, 32
V = geometric(N, 0.9)
FEATURES = SparseSign.from_kurtosis([F] * N, standardise=True)
FLOOR = (F - 1) * V.square()[D:].sum()


@pytest.fixture(scope="module")
def start() -> QuadraticModel:
    return QuadraticModel(N, D, n_inst=RESTARTS, generator=torch.Generator().manual_seed(0))


def test_without_a_penalty_every_feature_is_polysemantic(start: QuadraticModel) -> None:
    done = fit(start, FEATURES, V)
    assert_close(done.loss, theory.allocate(V, F, D).loss.expand(RESTARTS), rtol=1e-6, atol=0)
    assert round(float(done.loss[0]), 2) == 10.14
    found = flatten(start, FEATURES, V, FitConfig(adam_steps=1000), kappa=0.0)
    assert (found.n_impure == N).sum() >= 30
    assert (found.polysemanticity > 0.5).all()


@pytest.mark.parametrize("uniform", [False, True])
def test_at_the_predicted_kappa_none_is(start: QuadraticModel, uniform: bool) -> None:
    found = flatten(start, FEATURES, V, FitConfig(adam_steps=1000), uniform=uniform, ramp=0)
    kappa = V.square() * (F - 1) ** 2 * (F - 3) / 4
    assert_close(found.kappa, (kappa.max().expand(N) if uniform else kappa).expand(RESTARTS, N), rtol=1e-9, atol=0)
    assert (found.n_impure == 0).sum() >= 30
    assert found.fit.loss.min() >= FLOOR * (1 - 1e-9)


def test_a_tenth_of_it_ramped_finds_the_best_monosemantic_allocation(start: QuadraticModel) -> None:
    assert round(float(FLOOR), 2) == 30.89
    found = flatten(start, FEATURES, V, FitConfig(adam_steps=2000), share=0.1)
    assert (found.n_impure == 0).all()
    assert (found.fit.loss <= FLOOR * (1 + 1e-4)).sum() >= 20
    best = found.fit.best
    assert_close(found.fit.loss[best], FLOOR, rtol=1e-4, atol=0)
    assert found.feature_class[best].tolist() == [FeatureClass.PURE] * D + [FeatureClass.IGNORED] * (N - D)


def test_a_thousandth_of_it_does_not_suffice(start: QuadraticModel) -> None:
    found = flatten(start, FEATURES, V, FitConfig(adam_steps=1000), share=0.001)
    assert (found.n_impure > 0).all()


def test_fine_tuning_and_taking_the_penalty_away_again(start: QuadraticModel) -> None:
    trained = fit(start, FEATURES, V).model
    tuned = flatten(trained, FEATURES, V, FitConfig(adam_steps=1500), share=0.1)
    assert (tuned.n_impure == 0).all()
    assert (tuned.fit.loss > 2 * theory.allocate(V, F, D).loss).all()
    relaxed = fit(tuned.fit.model, FEATURES, V)
    assert_close(relaxed.loss, theory.allocate(V, F, D).loss.expand(RESTARTS), rtol=1e-6, atol=0)


def test_a_relu_autoencoder_sets_kappa_by_its_own_curves() -> None:
    features, importance, g = SparseUniform([0.05] * 4), geometric(4, 0.9), torch.Generator().manual_seed(0)
    start = TiedAutoencoder(4, 2, n_inst=2, generator=g)
    config = FitConfig(loss="sampled", adam_steps=4, batch_size=16)
    found = flatten(start, features, importance, config, uniform=False, generator=g)
    assert_close(found.kappa, flattening_kappa(curve(start, features, importance), C_min=IGNORED_BELOW))
    assert (found.kappa > 0).all()


def test_given_curves_are_used(start: QuadraticModel) -> None:
    curves = curve(start, FEATURES, 2 * V)
    found = flatten(start, FEATURES, V, FitConfig(adam_steps=1), curves=curves)
    assert_close(found.kappa, flattening_kappa(curves).amax(-1, keepdim=True).expand(-1, N))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": -1.0}, "share must be non-negative, got -1.0"),
        ({"kappa": "theory"}, "kappa must be \"curves\" or numbers, got 'theory'"),
        ({"kappa": -1.0}, "kappa must be non-negative and finite"),
        ({"ramp": -1}, "ramp must be a whole number of at least 0, got -1"),
    ],
)
def test_bad_settings(options: dict[str, Any], message: str, start: QuadraticModel) -> None:
    with pytest.raises(ValueError, match=message):
        flatten(start, FEATURES, V, FitConfig(adam_steps=1), **options)


@pytest.mark.bad_input
def test_bad_models(start: QuadraticModel) -> None:
    with pytest.raises(TypeError, match="model must be a QuadraticModel, .* got HiddenLayerModel"):
        flatten(HiddenLayerModel(3, 2), SparseUniform([0.1] * 3), [1.0] * 3)
    with pytest.raises(ValueError, match="curves must be left out unless"):
        flatten(start, FEATURES, V, kappa=1.0, curves=curve(start, FEATURES, V))
