"""Search for features: scores against closed forms, winners against what is known of them."""

import itertools
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize
from torch.testing import assert_close

from polysem.features import SparseSign, SparseUniform, geometric
from polysem.interventions import FoundDirections, View, match, search, view
from polysem.interventions._objectives import SCORES, counts, whole_benefit
from polysem.measure import IGNORED_BELOW, PURE_ABOVE
from polysem.returns import Samples, curve
from polysem.theory import allocate
from polysem.training import FitConfig, fit
from polysem.zoo import HiddenLayerModel, QuadraticModel, TiedAutoencoder

N, D = 3, 2
V = torch.tensor([1.0, 0.8, 0.7], dtype=torch.float64)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rotation(n: int, seed: int) -> Tensor:
    return torch.linalg.qr(torch.randn(n, n, generator=seeded(seed), dtype=torch.float64)).Q


def outcomes(*kurtosis: int) -> Tensor:
    """Standardised sparse signs, every outcome as often as it is likely: `2k` samples of which two are not 0."""
    values = [[0.0] * (2 * F - 2) + [F**0.5, -(F**0.5)] for F in kurtosis]
    return torch.tensor(list(itertools.product(*values)), dtype=torch.float64)


def quadratic(x: Tensor, v: Tensor, *kurtosis: float, seed: int = 1) -> tuple[View, Tensor]:
    """A trained quadratic model, seen through a rotation."""
    features = SparseSign.from_kurtosis(list(kurtosis), standardise=True)
    start = QuadraticModel(len(v), len(v) - 1, n_inst=2, generator=seeded(0))
    Q = rotation(len(v), seed)
    return view(fit(start, features, v).model, x, v, rotation=Q), Q


@pytest.fixture(scope="module")
def seen() -> tuple[View, Tensor]:
    return quadratic(outcomes(5, 5, 5), V, 5.0, 5.0, 5.0)


def test_kurtosis_importance_and_score_are_the_closed_forms() -> None:
    F, g = torch.tensor([5.0, 4.0, 2.0], dtype=torch.float64), seeded(2)
    looked, Q = quadratic(outcomes(5, 4, 2), V, 5.0, 4.0, 2.0)
    u = normalize(torch.randn(2, 6, N, generator=g, dtype=torch.float64), dim=-1)
    true = u @ Q.mT
    kurtosis, v = 3 + true.pow(4) @ (F - 3), true.square() @ V
    assert_close(looked.kurtosis_of(u), kurtosis)
    assert_close(looked.importance_of(u), v)
    assert_close(SCORES["diminishing"](looked, u), v.square() * (kurtosis - 1).square() * (kurtosis - 3) / 4)
    assert_close(whole_benefit(looked, u), v.square() * (kurtosis - 1))
    assert_close(SCORES["non_gaussian"](looked, u), (kurtosis - 3).abs())


def test_diminishing_returns_find_the_features_in_their_order(seen: tuple[View, Tensor]) -> None:
    looked, Q = seen
    found = search(looked, n_directions=N, restarts=8, generator=seeded(0))
    assert match(found.directions, Q.expand(2, N, N)).feature.tolist() == [[0, 1, 2]] * 2
    assert_close(found.score, (V.square() * 4**2 * 2 / 4).expand(2, N), rtol=1e-3, atol=0)
    assert_close(found.directions @ found.directions.mT, torch.eye(N).double().expand(2, N, N), rtol=0, atol=1e-9)
    assert (found.restarts <= found.score[..., None]).all()


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), F=st.floats(3, 50), n=st.integers(2, 6))
def test_with_equal_kurtosis_no_mixture_scores_beyond_the_best_feature(seed: int, F: float, n: int) -> None:
    g = seeded(seed)
    v = torch.rand(n, generator=g, dtype=torch.float64)
    true = normalize(torch.randn(100, n, generator=g, dtype=torch.float64), dim=-1)
    excess, importance = true.pow(4).sum(-1) * (F - 3), true.square() @ v
    assert (importance.square() * (excess + 2).square() * excess <= v.max() ** 2 * (F - 1) ** 2 * (F - 3) + 1e-9).all()


def test_with_kurtosis_against_importance_a_mixture_wins() -> None:
    looked, Q = quadratic(outcomes(3, 8), torch.tensor([1.0, 0.05]), 3.0, 8.0)
    found = search(looked, restarts=8, generator=seeded(0))
    features = SCORES["diminishing"](looked, Q.expand(2, 2, 2))
    assert match(found.directions, Q.expand(2, 2, 2)).feature.tolist() == [[-1], [-1]]
    assert (found.score[:, 0] > 2 * features.amax(-1)).all()


def test_in_a_trained_tight_frame_all_directions_have_one_price(seen: tuple[View, Tensor]) -> None:
    looked, _ = seen
    u = normalize(torch.randn(2, 50, N, generator=seeded(1), dtype=torch.float64), dim=-1)
    expected = -allocate(V, [5.0] * N, 2).price
    assert_close(SCORES["importance"](looked, u), expected.expand(2, 50), rtol=1e-6, atol=0)


def test_least_importance_is_below_that_of_every_feature() -> None:
    x = outcomes(5, 5, 5)
    looked = view(QuadraticModel(N, D, n_inst=2, generator=seeded(4)), x, V)
    found = search(looked, "importance", restarts=16, generator=seeded(0))
    many = normalize(torch.randn(2, 500, N, generator=seeded(1), dtype=torch.float64), dim=-1)
    prices = SCORES["importance"](looked, many)
    inside = counts(looked, "importance", many)
    assert (found.score >= torch.where(inside, prices, -torch.inf).amax(-1, keepdim=True) - 1e-6).all()
    assert ((found.capacity > IGNORED_BELOW) & (found.capacity < PURE_ABOVE)).all()


def test_capacity_finds_an_eigenvector(seen: tuple[View, Tensor]) -> None:
    looked, _ = seen
    found = search(looked, "capacity", restarts=8, generator=seeded(0))
    u = found.directions[:, 0]
    assert_close(found.score, torch.ones_like(found.score), rtol=1e-6, atol=0)
    moved = (looked.response @ u[..., None])[..., 0]
    assert_close(moved, (moved * u).sum(-1, keepdim=True) * u, rtol=0, atol=1e-3)


def test_a_search_repeats_from_its_seed(seen: tuple[View, Tensor]) -> None:
    first, again = (search(seen[0], n_directions=2, restarts=4, steps=20, generator=seeded(3)) for _ in range(2))
    assert torch.equal(first.directions, again.directions)
    assert torch.equal(first.restarts, again.restarts)


def test_what_is_excluded_is_not_found(seen: tuple[View, Tensor]) -> None:
    looked, Q = seen
    known = torch.stack([Q[:1], torch.zeros(1, N, dtype=torch.float64)])
    found = search(looked, without=known, restarts=8, generator=seeded(0))
    assert match(found.directions, Q.expand(2, N, N)).feature.tolist() == [[1], [0]]
    with pytest.raises(ValueError, match=r"n_directions must be at most the dimensions that are left, 2, got 3"):
        search(looked, without=known, n_directions=3, generator=seeded(0))


def test_directions_are_uncorrelated_where_inputs_are_correlated() -> None:
    g = seeded(0)
    mix = torch.randn(4, 4, generator=g, dtype=torch.float64)
    mix[:, 3] = 0  # an input that never varies
    x = SparseUniform([0.3] * 4).sample(500, generator=g) @ mix
    looked = view(TiedAutoencoder(4, 2, generator=g), x, [1.0] * 4)
    found = search(looked, n_directions=3, restarts=4, steps=10, generator=g).directions[0]
    covariance = found @ torch.cov(x.mT) @ found.mT
    assert_close(covariance, torch.diag(covariance.diagonal()), rtol=0, atol=1e-9)
    assert_close(found[:, 3], torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="dimensions that are left, 3"):
        search(looked, n_directions=4, generator=g)


@pytest.fixture(scope="module")
def relu() -> tuple[View, Tensor, TiedAutoencoder, Tensor]:
    g, features, importance = seeded(0), SparseUniform([0.2] * N), geometric(N, 0.9)
    config = FitConfig(loss="sampled", adam_steps=200, batch_size=128)
    model = fit(TiedAutoencoder(N, D, generator=g), features, importance, config, generator=g).model
    x, Q = features.sample(400, generator=g), rotation(N, 4)
    assert isinstance(model, TiedAutoencoder)
    return view(model, x, importance, rotation=Q), Q, model, x


def test_along_features_a_relu_model_scores_by_its_curves(relu: tuple[View, Tensor, TiedAutoencoder, Tensor]) -> None:
    looked, Q, model, x = relu
    samples = Samples(x, response=model.response()[0].detach(), loss="relu")
    losses = curve(samples, importance=geometric(N, 0.9), C=[0.0, 0.5, 1.0], C_min=0.0).losses
    expected = 2 * (losses[:, 0] + losses[:, 2]) - 4 * losses[:, 1]
    assert_close(SCORES["diminishing"](looked, Q[None])[0], expected, rtol=1e-6, atol=1e-9)
    assert_close(whole_benefit(looked, Q[None])[0], losses[:, 0] - losses[:, 2], rtol=1e-6, atol=1e-9)


def test_a_search_climbs_beyond_every_feature_of_a_relu_model(
    relu: tuple[View, Tensor, TiedAutoencoder, Tensor],
) -> None:
    looked, Q, *_ = relu
    for objective in ("diminishing", "capacity", "importance"):
        found = search(looked, objective, restarts=12, steps=60, generator=seeded(0))
        features = SCORES[objective](looked, Q[None])
        assert (found.score >= features.amax() - 0.01 * features.amax().abs()).all()


def test_fast_ica_finds_the_features() -> None:
    pytest.importorskip("sklearn")
    features, g = SparseSign([0.2] * 5, standardise=True), seeded(0)
    Q = torch.stack([rotation(5, seed) for seed in (1, 2)])
    model = QuadraticModel(5, 2, n_inst=2, generator=g)
    looked = view(model, features.sample(4000, generator=g), [1.0] * 5, rotation=Q)
    found: FoundDirections = search(looked, "non_gaussian", n_directions=5, generator=g)
    assert match(found.directions, Q).recovered.tolist() == [5, 5]
    assert (found.score.diff(dim=-1) <= 0).all()
    rest = search(looked, "non_gaussian", n_directions=4, without=Q[:, :1], generator=g)
    assert sorted(match(rest.directions, Q).feature[0].tolist()) == [1, 2, 3, 4]


def test_match_tells_features_from_mixtures() -> None:
    u = torch.tensor([[2.0, 0.0, 0.1], [-1.0, 0.1, 0.0], [1.0, 1.0, 0.0]])
    found = match(torch.stack([u, u.flip(-1)]), torch.eye(3).expand(2, 3, 3))
    assert found.feature.tolist() == [[0, 0, -1], [2, 2, -1]]
    assert found.recovered.tolist() == [1, 1]
    assert_close(found.cosine[0, 2], torch.tensor(0.5).sqrt())
    assert match(u, torch.eye(3), same=0.7).feature.tolist() == [0, 0, 0]


@pytest.mark.bad_input
def test_bad_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    x, v, g = outcomes(5, 5, 5), V, seeded(0)
    model = QuadraticModel(N, D, generator=g)
    looked = view(model, x, v)
    with pytest.raises(TypeError, match="model must be a QuadraticModel or an autoencoder, got HiddenLayerModel"):
        view(HiddenLayerModel(N, D, generator=g), x, v)
    with pytest.raises(ValueError, match="activation must be one of 'identity', 'relu', 'abs', got 'gelu'"):
        view(TiedAutoencoder(N, D, activation="gelu", generator=g), x, v)
    with pytest.raises(ValueError, match="rotation must be orthogonal"):
        view(model, x, v, rotation=torch.ones(N, N))
    with pytest.raises(ValueError, match=r"shape of rotation must be one of \(\(3, 3\), \(1, 3, 3\)\)"):
        view(model, x, v, rotation=torch.eye(2))
    with pytest.raises(ValueError, match=r"objective must be one of .*'capacity', 'non_gaussian', got 'beauty'"):
        search(looked, "beauty", generator=g)
    with pytest.raises(ValueError, match="restarts must be a whole number of at least 1, got 0"):
        search(looked, restarts=0, generator=g)
    with pytest.raises(ValueError, match="learning_rate must be positive and finite"):
        search(looked, learning_rate=0.0, generator=g)
    with pytest.raises(ValueError, match=r"same must be in \[0, 1\)"):
        match(torch.eye(2), torch.eye(2), same=1.0)
    with pytest.raises(ValueError, match="shape of truth"):
        match(torch.eye(2), torch.eye(3))
    with pytest.raises(ValueError, match="loss must be one of 'quadratic'"):
        View(looked.x, looked.moments, looked.importance, "gelu")
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(ModuleNotFoundError, match=r'needs scikit-learn: pip install "polysem\[studies\]"'):
        search(looked, "non_gaussian", generator=g)
