"""Curves flattened one by one: against a plain loop over one network, and against the closed form of the curves."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from polysem import theory
from polysem.features import SparseFeatures, SparseSign, SparseUniform, geometric
from polysem.interventions import CapacityPenalty, OneByOne, Outcome, flatten_one_by_one, flattening_kappa
from polysem.measure import FeatureClass, capacity, classify
from polysem.returns import curve
from polysem.training import FitConfig, fit
from polysem.zoo import HiddenLayerModel, QuadraticModel, TiedAutoencoder, ToyModel

N, D, F = 6, 2, 12.0
V = geometric(N, 0.85)
FEATURES = SparseSign.from_kurtosis([F] * N, standardise=True)
KAPPA = V.square() * (F - 1) ** 2 * (F - 3) / 4
SHORT = FitConfig(adam_steps=100)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def trained() -> ToyModel:
    return fit(QuadraticModel(N, D, n_inst=3, generator=seeded(0)), FEATURES, V).model


@pytest.fixture(scope="module")
def found(trained: ToyModel) -> OneByOne:
    return flatten_one_by_one(trained, FEATURES, V, SHORT)


def by_hand(model: ToyModel, features: SparseFeatures, v: Tensor, config: FitConfig) -> tuple[list[int], Tensor]:
    """The procedure as the discussion states it, on one network."""
    kappa, order = torch.zeros(len(v), dtype=torch.float64), []
    while True:
        W = model.embedding.detach()[0]
        kinds = classify(capacity(W), W.norm(dim=-1)).tolist()
        strength = flattening_kappa(curve(model, features, v))[0].tolist()
        left = [i for i in range(len(v)) if kinds[i] == FeatureClass.IMPURE and i not in order]
        if not left:
            return order, W
        worst = max(left, key=lambda i: strength[i])
        new = torch.zeros_like(kappa)
        new[worst] = strength[worst]
        penalties = [CapacityPenalty(kappa), CapacityPenalty(new, ramp=config.adam_steps // 2)]
        model = fit(
            model, features, v, FitConfig(adam_steps=config.adam_steps, polish="none"), penalties=penalties
        ).model
        kappa, order = kappa + new, [*order, worst]


def test_it_is_the_plain_loop(trained: ToyModel, found: OneByOne) -> None:
    state = {name: value[1:2] for name, value in trained.state_dict().items()}
    alone = QuadraticModel(N, D)
    alone.load_state_dict(state)
    order, W = by_hand(alone, FEATURES, V, SHORT)
    assert len(order) > 2
    assert found.history.order(1) == order
    assert_close(found.fit.model.embedding[1], W, rtol=0, atol=1e-6)


def test_until_no_feature_is_impure(found: OneByOne, trained: ToyModel) -> None:
    assert (found.status == Outcome.MONOSEMANTIC).all()
    assert (found.n_impure == 0).all()
    history = found.history
    assert_close(history.loss[0], theory.allocate(V, F, D).loss.expand(3), rtol=1e-9, atol=0)
    assert (history.n_impure[0] > D).all()
    assert_close(history.loss[-1], found.fit.loss, rtol=0, atol=0)
    assert_close(found.fit.model.exact_loss(FEATURES, V), found.fit.loss)
    assert_close(history.polysemanticity[-1], found.polysemanticity, rtol=0, atol=0)
    assert (found.fit.n_steps == 100 * history.n_rounds).all()
    assert len(found.fit.history) == 2 + len(history.chosen) * (10 + 2)
    ignored = found.feature_class == FeatureClass.IGNORED
    assert_close(found.fit.loss, (ignored * (F - 1) * V.square()).sum(-1), rtol=1e-2, atol=0)
    assert_close(trained.exact_loss(FEATURES, V), history.loss[0])  # left untouched


def test_the_strongest_is_chosen_and_keeps_its_kappa(found: OneByOne) -> None:
    for instance in range(3):
        order = found.history.order(instance)
        assert order == sorted(order)  # κ falls with importance, and the first is impure at the start
        expected = torch.zeros(N, dtype=torch.float64)
        expected[order] = KAPPA[order]
        assert_close(found.kappa[instance], expected, rtol=1e-9, atol=0)


def test_curves_before_and_after(found: OneByOne) -> None:
    C, chosen = found.C_grid, found.history.chosen
    assert found.before.shape == found.after.shape == (*chosen.shape, len(C))
    for at in (chosen >= 0).nonzero().tolist():
        i = int(chosen[tuple(at)])
        expected = theory.loss(V[i], F, C)
        assert_close(found.before[tuple(at)], expected, rtol=1e-9, atol=1e-9)
        assert_close(found.after[tuple(at)], expected + KAPPA[i] * C * (1 - C), rtol=1e-9, atol=1e-9)
        assert (found.after[tuple(at)].diff(n=2) <= 1e-9).all()  # concave
    assert found.before[chosen < 0].isnan().all()


def test_several_at_once(trained: ToyModel) -> None:
    some = flatten_one_by_one(trained, FEATURES, V, FitConfig(adam_steps=1), at_once=4)
    assert some.history.chosen[:2].tolist() == [[[0, 1, 2, 3]] * 3, [[4, 5, -1, -1]] * 3]
    whole = flatten_one_by_one(trained, FEATURES, V, SHORT, at_once=N + 5)
    assert (whole.history.n_rounds == 1).all()
    same = fit(
        trained,
        FEATURES,
        V,
        FitConfig(adam_steps=100, polish="none"),
        penalties=[CapacityPenalty(torch.where(classify_of(trained) == FeatureClass.IMPURE, KAPPA, 0.0), ramp=50)],
    )
    assert_close(whole.fit.loss, same.loss, rtol=1e-6, atol=0)


def classify_of(model: ToyModel) -> Tensor:
    W = model.embedding.detach()
    return classify(capacity(W), W.norm(dim=-1))


def test_every_instance_stops_by_itself(trained: ToyModel) -> None:
    mixed = QuadraticModel(N, D, n_inst=3)
    state = trained.state_dict()
    pure = theory.embed(theory.allocate(V, 1.5, D), D)  # the first two own a dimension
    state["W"] = torch.stack([state["W"][0], pure, state["W"][2]])
    mixed.load_state_dict(state)
    found = flatten_one_by_one(mixed, FEATURES, V, SHORT, at_once=3)
    assert found.history.n_rounds[1] == 0
    assert (found.history.n_rounds[[0, 2]] > 0).all()
    assert (found.status == Outcome.MONOSEMANTIC).all()
    assert torch.equal(found.fit.model.embedding[1], pure)
    assert (found.history.loss[:, 1] == found.history.loss[0, 1]).all()
    assert (found.fit.history[:, 1] == found.fit.history[0, 1]).all()
    assert found.fit.n_steps[1] == 0
    assert (found.kappa[1] == 0).all()


def test_rising_returns_leave_nothing_to_flatten() -> None:
    features = SparseSign.from_kurtosis([2.0] * 4, standardise=True)
    model = QuadraticModel(4, 2, generator=seeded(0))
    found = flatten_one_by_one(model, features, geometric(4, 0.9), SHORT)
    assert found.status.tolist() == [Outcome.EXHAUSTED]
    assert found.n_impure > 0
    assert found.history.chosen.shape == (0, 1, 1)
    assert found.before.shape == found.after.shape == (0, 1, 1, len(found.C_grid))
    assert torch.equal(found.fit.model.embedding, model.embedding)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    kurtosis=st.lists(st.floats(1.5, 2.9) | st.just(3.0) | st.floats(3.1, 60), min_size=2, max_size=5),
    at_once=st.integers(1, 3),
    steps=st.integers(1, 12),
)
def test_it_never_cycles(seed: int, kurtosis: list[float], at_once: int, steps: int) -> None:
    n = len(kurtosis)
    features = SparseSign.from_kurtosis(kurtosis, standardise=True)
    v = 0.2 + torch.rand(n, generator=seeded(seed), dtype=torch.float64)
    model = QuadraticModel(n, n // 2, n_inst=3, generator=seeded(seed))
    config = FitConfig(adam_steps=steps, learning_rate=0.3)
    found = flatten_one_by_one(model, features, v, config, at_once=at_once, ramp=0)
    not_diminishing = [i for i in range(n) if kurtosis[i] <= 3]
    assert len(found.history.chosen) <= n
    for instance in range(3):
        order = found.history.order(instance)
        assert len(set(order)) == len(order)
        assert not set(order) & set(not_diminishing)
        impure = (found.feature_class[instance] == FeatureClass.IMPURE).nonzero().flatten().tolist()
        assert (found.status[instance] == Outcome.MONOSEMANTIC) == (not impure)
        assert set(impure) <= {*order, *not_diminishing}


def test_a_relu_history_replays_from_a_seed() -> None:
    n, importance = 5, geometric(5, 0.9)
    features = SparseUniform([0.05] * n)
    config = FitConfig(loss="sampled", adam_steps=20, batch_size=16, learning_rate=0.03, stratified=True)
    start = TiedAutoencoder(n, 2, n_inst=2, generator=seeded(0))
    model = fit(start, features, importance, config, generator=seeded(1)).model
    first, again, other = (
        flatten_one_by_one(model, features, importance, config, at_once=2, generator=seeded(seed)) for seed in (2, 2, 3)
    )
    assert len(first.history.chosen) > 0
    assert (first.kappa.amax(-1) > 0).all()
    for one, two in (
        (first.history.chosen, again.history.chosen),
        (first.history.loss, again.history.loss),
        (first.history.n_impure, again.history.n_impure),
        (first.history.polysemanticity, again.history.polysemanticity),
        (first.before.nan_to_num(), again.before.nan_to_num()),
        (first.after.nan_to_num(), again.after.nan_to_num()),
        (first.kappa, again.kappa),
        (first.fit.model.W, again.fit.model.W),
        (first.fit.model.b, again.fit.model.b),
        (first.fit.history, again.fit.history),
    ):
        assert torch.equal(one, two)
    assert not torch.equal(first.fit.model.W, other.fit.model.W)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at_once": 0}, "at_once must be a whole number of at least 1, got 0"),
        ({"share": 0.0}, "share must be positive, got 0.0"),
        ({"ramp": -1}, "ramp must be a whole number of at least 0, got -1"),
        ({"C_min": 1.0}, "C_min must be at most the second-largest capacity of the curves, got 1.0"),
        ({"generator": torch.Generator()}, "generator must be left out"),
    ],
)
def test_bad_settings(options: dict[str, Any], message: str, trained: ToyModel) -> None:
    with pytest.raises(ValueError, match=message):
        flatten_one_by_one(trained, FEATURES, V, SHORT, **options)


@pytest.mark.bad_input
def test_bad_models() -> None:
    with pytest.raises(TypeError, match="model must be a QuadraticModel, .* got HiddenLayerModel"):
        flatten_one_by_one(HiddenLayerModel(3, 2), SparseUniform([0.1] * 3), [1.0] * 3)
