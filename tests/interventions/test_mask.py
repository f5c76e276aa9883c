"""Masking until monosemantic: closed forms of the quadratic model, exact losses of others, a plain loop."""

from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from polysem import theory
from polysem.features import SparseSign, SparseUniform, geometric
from polysem.interventions import MASK_RULES, MaskRule, Outcome, mask
from polysem.measure import FeatureClass, capacity, classify
from polysem.training import FitConfig, fit
from polysem.zoo import Autoencoder, HiddenLayerModel, QuadraticModel, TiedAutoencoder, ToyModel, UntiedAutoencoder

N, D = 6, 2
KURTOSIS = torch.tensor([6.0, 30.0, 10.0, 60.0, 8.0, 20.0], dtype=torch.float64)
V = torch.tensor([1.0, 0.5, 0.9, 0.4, 0.8, 0.7], dtype=torch.float64)
FEATURES = SparseSign.from_kurtosis(KURTOSIS, standardise=True)
GAIN = V.square() * (KURTOSIS - 1)
FLOOR = min(GAIN.sum() - GAIN[list(kept)].sum() for kept in combinations(range(N), D))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def trained() -> ToyModel:
    return fit(QuadraticModel(N, D, n_inst=3, generator=seeded(0)), FEATURES, V).model


def of_random(by: MaskRule, seed: int = 0) -> torch.Generator | None:
    return seeded(seed) if by == "random" else None


@pytest.mark.parametrize("by", MASK_RULES)
def test_what_is_kept_is_pure_and_the_rest_costs_its_ignored_loss(by: MaskRule, trained: ToyModel) -> None:
    found = mask(trained, FEATURES, V, by=by, generator=of_random(by))
    history = found.history
    assert (found.status == Outcome.MONOSEMANTIC).all()
    assert (found.n_impure == 0).all()
    assert ((found.feature_class == FeatureClass.PURE).sum(-1) == D).all()
    ignored = found.feature_class == FeatureClass.IGNORED
    assert_close(found.fit.loss, (ignored * GAIN).sum(-1), rtol=1e-9, atol=0)
    assert_close(found.fit.model.exact_loss(FEATURES, V), found.fit.loss, rtol=1e-12, atol=0)
    assert_close(history.loss[0], theory.allocate(V, KURTOSIS, D).loss.expand(3), rtol=1e-9, atol=0)
    for instance in range(3):
        order = history.order(instance)
        assert len(order) == history.n_rounds[instance] == int(found.masked[instance].sum())
        for done in range(len(order) + 1):  # the optimum of those that are not masked, and the others ignored
            v = V.clone()
            v[order[:done]] = 0.0
            expected = theory.allocate(v, KURTOSIS, D).loss + GAIN[order[:done]].sum()
            assert_close(history.loss[done, instance], expected, rtol=1e-9, atol=0)


def test_one_shot_by_gain_is_the_best_monosemantic_set(trained: ToyModel) -> None:
    found = mask(trained, FEATURES, V, by="gain", keep=D)
    assert_close(found.fit.loss, FLOOR.expand(3), rtol=1e-9, atol=0)
    assert (found.status == Outcome.MONOSEMANTIC).all()
    assert (found.history.n_rounds == 1).all()
    assert found.history.order(0) == GAIN.argsort()[: N - D].tolist()
    assert_close(found.masked.sum(-1), torch.full((3,), N - D))
    by_importance = mask(trained, FEATURES, V, by="importance", keep=D)
    assert (by_importance.fit.loss > 1.2 * FLOOR).all()


def test_benefit_is_what_present_capacity_saves(trained: ToyModel) -> None:
    found = mask(trained, FEATURES, V)
    order, masked = [], torch.zeros(N, dtype=torch.bool)
    model = trained
    while True:
        W = model.embedding.detach()[0]
        C = capacity(W)
        kinds = classify(C, W.norm(dim=-1))
        if not (kinds == FeatureClass.IMPURE).any():
            break
        saved = theory.loss(V, KURTOSIS, torch.zeros(())) - theory.loss(V, KURTOSIS, C)
        worst = min((i for i in range(N) if kinds[i] != FeatureClass.IGNORED), key=lambda i: float(saved[i]))
        order.append(worst)
        masked[worst] = True
        model = fit(model, FEATURES, V, mask=masked).model
    assert found.history.order(0) == order
    assert len(order) >= N - D - 1


def test_keeping_all_or_too_many(trained: ToyModel) -> None:
    same = mask(trained, FEATURES, V, keep=N)
    assert_close(same.fit.model.embedding, trained.embedding, rtol=0, atol=0)
    assert (same.history.n_rounds == 0).all()
    assert (same.status == Outcome.EXHAUSTED).all()
    three = mask(trained, FEATURES, V, by="gain", keep=3)
    assert (three.status == Outcome.EXHAUSTED).all()
    assert (three.n_impure > 0).all()


def test_every_instance_stops_by_itself(trained: ToyModel) -> None:
    mixed = QuadraticModel(N, D, n_inst=3)
    state = trained.state_dict()
    pure = theory.embed(theory.allocate(V, 2.0, D), D)
    state["W"] = torch.stack([state["W"][0], pure, state["W"][2]])
    mixed.load_state_dict(state)
    found = mask(mixed, FEATURES, V)
    assert found.history.n_rounds[1] == 0
    assert (found.history.n_rounds[[0, 2]] > 1).all()
    assert torch.equal(found.fit.model.embedding[1], pure)
    assert not found.masked[1].any()


@pytest.mark.parametrize("kind", [TiedAutoencoder, UntiedAutoencoder])
def test_losses_of_autoencoders_are_over_all_features(kind: type[Autoencoder]) -> None:
    features, importance = SparseUniform([0.2, 0.1, 0.3]), [1.0, 0.9, 0.8]
    model = kind(3, 1, n_inst=2, generator=seeded(0))
    found = mask(model, features, importance, FitConfig(adam_steps=20, polish="none"), keep=1)
    assert (found.masked.sum(-1) == 2).all()
    exact = found.fit.model.exact_loss(features, importance)
    assert_close(exact, found.fit.loss, rtol=2e-4, atol=0)  # constants are measured on the points of the curves
    b = dict(found.fit.model.named_parameters())["b"].detach()
    assert_close(b[found.masked], features.mean.expand(2, 3)[found.masked], rtol=1e-2, atol=0)
    assert (found.fit.model.response()[found.masked] == 0).all()


def test_the_random_rule_and_sampled_losses_replay_from_a_seed() -> None:
    n, importance = 5, geometric(5, 0.9)
    features = SparseUniform([0.05] * n)
    config = FitConfig(loss="sampled", adam_steps=25, batch_size=32, learning_rate=0.03, stratified=True)
    start = TiedAutoencoder(n, 2, n_inst=2, generator=seeded(0))
    model = fit(start, features, importance, config, generator=seeded(1)).model
    one, two, other = (
        mask(model, features, importance, config, by="random", generator=seeded(seed)) for seed in (2, 2, 3)
    )
    assert (one.status == Outcome.MONOSEMANTIC).all()
    for a, b in (
        (one.history.chosen, two.history.chosen),
        (one.history.loss, two.history.loss),
        (one.history.polysemanticity, two.history.polysemanticity),
        (one.fit.model.W, two.fit.model.W),
        (one.fit.model.b, two.fit.model.b),
    ):
        assert torch.equal(a, b)
    assert not torch.equal(one.fit.model.W, other.fit.model.W)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    kurtosis=st.lists(st.floats(1.5, 60), min_size=2, max_size=5),
    by=st.sampled_from(MASK_RULES),
)
def test_it_never_cycles_and_ends_monosemantic(seed: int, kurtosis: list[float], by: MaskRule) -> None:
    n = len(kurtosis)
    features = SparseSign.from_kurtosis(kurtosis, standardise=True)
    v = 0.2 + torch.rand(n, generator=seeded(seed), dtype=torch.float64)
    model = QuadraticModel(n, n // 2, n_inst=3, generator=seeded(seed))
    config = FitConfig(adam_steps=5, polish="none")
    found = mask(model, features, v, config, by=by, generator=of_random(by, seed))
    assert (found.status == Outcome.MONOSEMANTIC).all()
    assert len(found.history.chosen) <= n - 1
    for instance in range(3):
        order = found.history.order(instance)
        assert sorted(set(order)) == sorted(order) == found.masked[instance].nonzero().flatten().tolist()
    assert (found.fit.model.embedding[found.masked] == 0).all()
    assert_close(found.fit.model.exact_loss(features, v), found.fit.loss, rtol=1e-9, atol=1e-12)


def test_ties_go_to_the_first() -> None:
    features = SparseSign.from_kurtosis([20.0] * 4, standardise=True)
    model = fit(QuadraticModel(4, 2, n_inst=2, generator=seeded(0)), features, [1.0] * 4).model
    assert mask(model, features, [1.0] * 4, by="gain").history.chosen[..., 0].tolist() == [[0, 0], [1, 1]]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "size"}, 'by must be "benefit" or "gain" or .* got \'size\''),
        ({"keep": 0}, "keep must be a whole number of at least 1, got 0"),
        ({"keep": N + 1}, "keep must be at most n_features = 6, got 7"),
        ({"by": "random"}, 'generator must be given where by="random"'),
        ({"generator": torch.Generator()}, "generator must be .* left out elsewhere"),
    ],
)
def test_bad_settings(options: dict[str, Any], message: str, trained: ToyModel) -> None:
    with pytest.raises(ValueError, match=message):
        mask(trained, FEATURES, V, **options)


@pytest.mark.bad_input
def test_bad_models() -> None:
    with pytest.raises(TypeError, match="model must be a QuadraticModel, .* got HiddenLayerModel"):
        mask(HiddenLayerModel(3, 2), SparseUniform([0.1] * 3), [1.0] * 3)
    with pytest.raises(ValueError, match="generator must be given where loss"):
        mask(TiedAutoencoder(5, 2), SparseUniform([0.1] * 5), [1.0] * 5, FitConfig(loss="sampled"))
