"""The whole procedure on quadratic models whose features are not given."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from polysem.features import SparseSign
from polysem.interventions import SearchedAndTreated, View, match, search_and_treat, view
from polysem.measure import PURE_ABOVE, FeatureClass, classify, response_capacity
from polysem.training import fit
from polysem.zoo import QuadraticModel, ToyModel

N, D, F, N_INST = 4, 2, 10.0, 2
V = torch.tensor([1.0, 0.8, 0.6, 0.5], dtype=torch.float64)
FEATURES = SparseSign.from_kurtosis([F] * N, standardise=True)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


Q = torch.linalg.qr(torch.randn(N_INST, N, N, generator=seeded(1), dtype=torch.float64)).Q
X = FEATURES.sample(6000, generator=seeded(2))


def loss(model: ToyModel, room: Tensor) -> Tensor:
    """The exact loss where only a part of the inputs is left: at `room = 1` that of the model."""
    A = room @ (model.response() - torch.diag(V)) @ room
    return 2 * A.square().sum((-2, -1)) + (F - 3) * A.diagonal(dim1=-2, dim2=-1).square().sum(-1)


def look(model: ToyModel, room: Tensor) -> View:
    return view(model, torch.einsum("sn,inm->sim", X, room), V, rotation=Q)


@pytest.fixture(scope="module")
def start() -> QuadraticModel:
    model = fit(QuadraticModel(N, D, n_inst=N_INST, generator=seeded(0)), FEATURES, V).model
    assert isinstance(model, QuadraticModel)
    return model


def treated(start: ToyModel, **options: Any) -> SearchedAndTreated:
    given = {"steps": 120, "restarts": 6, "search_steps": 40, **options}
    return search_and_treat(start, loss, look, rotation=Q, generator=seeded(3), **given)


def classes(model: ToyModel) -> Tensor:
    W = model.embedding.detach()
    return classify(response_capacity(W, W), torch.linalg.vector_norm(W, dim=-1))


def test_flattening_what_is_found_leaves_no_feature_impure(start: QuadraticModel) -> None:
    before = {name: value.clone() for name, value in start.state_dict().items()}
    assert (classes(start) == FeatureClass.IMPURE).sum() >= 3 * N_INST
    done = treated(start)
    assert not (classes(done.model) == FeatureClass.IMPURE).any()
    for i in range(N_INST):
        assert match(done.directions[:, i], Q[i]).recovered == N
    assert_close(done.loss[0], fit(start, FEATURES, V).loss, rtol=1e-6, atol=1e-9)
    saved = (F - 1) * V.square()
    assert_close(
        done.loss[-1], saved.sum() - (saved * (classes(done.model) == FeatureClass.PURE)).sum(-1), rtol=0.05, atol=0
    )
    assert_close(done.kappa[0], (V[0] ** 2 * (F - 1) ** 2 * (F - 3) / 4).expand(N_INST), rtol=0.2, atol=0)
    assert (done.treated == (done.kappa > 0)).all()
    assert not done.exhausted.any()
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())


def test_masking_what_is_found_stops_when_the_rest_fits(start: QuadraticModel) -> None:
    done = treated(start, treatment="mask")
    assert done.treated.sum(0).tolist() == [N - D] * N_INST
    assert not done.treated[-1].any()
    assert not done.exhausted.any()
    kinds = classes(done.model)
    assert kinds.tolist() == [[FeatureClass.PURE] * D + [FeatureClass.IGNORED] * (N - D)] * N_INST
    assert_close(done.loss[-1], ((F - 1) * V.square()[D:].sum()).expand(N_INST), rtol=0.05, atol=0)
    assert (done.capacity[-1] > PURE_ABOVE).all()


def test_rounds_can_run_out(start: QuadraticModel) -> None:
    done = treated(start, treatment="mask", rounds=1, candidates=2)
    assert done.exhausted.all()
    assert len(done.directions) == 1
    assert treated(start, rounds=1, steps=1).exhausted.all()


def test_what_is_masked_is_gone(start: QuadraticModel) -> None:
    done = treated(start, treatment="mask", objective="importance", rounds=1)
    u = (Q @ done.directions[0, ..., None])[..., 0]
    assert_close(torch.einsum("in,ind->id", u, done.model.embedding.detach()), torch.zeros(N_INST, D).double())


def test_a_history_replays_from_its_seed(start: QuadraticModel) -> None:
    first, again = (treated(start, rounds=2, steps=20) for _ in range(2))
    for name in ("directions", "score", "kappa", "loss"):
        assert torch.equal(getattr(first, name), getattr(again, name))


@pytest.mark.bad_input
def test_bad_arguments(start: QuadraticModel) -> None:
    with pytest.raises(ValueError, match='treatment must be "flatten" or "mask", got \'heal\''):
        treated(start, treatment="heal")
    with pytest.raises(ValueError, match="objective must be one of"):
        treated(start, objective="beauty")
    with pytest.raises(ValueError, match="share must be non-negative"):
        treated(start, share=-1.0)
    with pytest.raises(ValueError, match="rounds must be a whole number"):
        treated(start, rounds=0)
    with pytest.raises(ValueError, match="candidates must be a whole number"):
        treated(start, treatment="mask", candidates=0)
