"""The penalty against its formula, in loops of one's own and inside `fit`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from polysem import theory
from polysem.features import SparseSign, SparseUniform
from polysem.interventions import CapacityPenalty, flattening_kappa
from polysem.measure import capacity, direction_capacity, response_capacity
from polysem.returns import curve
from polysem.training import FitConfig, fit
from polysem.zoo import QuadraticModel, TiedAutoencoder, UntiedAutoencoder


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(W: torch.Tensor, kappa: list[float]) -> float:
    total = 0.0
    for i in range(len(W)):
        own = float(W[i] @ W[i])
        C = own**2 / sum(float(W[i] @ W[j]) ** 2 for j in range(len(W)))
        total += kappa[i] * C * (1 - C)
    return total


@given(seed=st.integers(0, 100))
@settings(deadline=None, max_examples=20)
def test_it_is_its_formula_for_rows_responses_and_models(seed: int) -> None:
    W, kappa = normal(2, 5, 3, seed=seed), [1.0, 2.0, 0.0, 0.5, 3.0]
    penalty = CapacityPenalty(kappa)
    expected = torch.tensor([by_hand(rows, kappa) for rows in W], dtype=torch.float64)
    assert_close(penalty(W), expected)
    assert_close(penalty(response=W @ W.mT), expected)
    model = TiedAutoencoder(5, 3, n_inst=2)
    model.load_state_dict({"W": W, "b": torch.zeros(2, 5)})
    assert_close(penalty(model), expected)


def test_untied_readouts_count() -> None:
    model = UntiedAutoencoder(5, 2, n_inst=3, generator=torch.Generator().manual_seed(0))
    C = response_capacity(model.embedding, model.readout)
    assert_close(CapacityPenalty(2.0)(model), 2 * (C * (1 - C)).sum(-1))
    assert_close(CapacityPenalty(2.0)(response=model.response()), 2 * (C * (1 - C)).sum(-1))


def test_directions_alone() -> None:
    W = normal(4, 2, seed=1)
    C = capacity(W, norm="unit")
    assert_close(CapacityPenalty(1.0, norm="unit")(W * 7), (C * (1 - C)).sum())


def test_gradients() -> None:
    W = normal(5, 2, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(CapacityPenalty([1.0, 2.0, 3.0, 4.0, 0.0]), W)
    R = normal(4, 4, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda R: CapacityPenalty(1.5)(response=R), R)


def test_pure_and_ignored_features_cost_nothing() -> None:
    W = torch.tensor([[1.0, 0.0], [0.0, 3.0], [0.0, 0.0]], requires_grad=True)
    cost = CapacityPenalty(10.0)(W)
    assert cost == 0
    (slope,) = torch.autograd.grad(cost, W)
    assert slope.isfinite().all()


def test_the_ramp_counts_calls_in_training_and_survives_in_the_state() -> None:
    W = torch.tensor([[1.0], [1.0]])  # two of capacity 1/2
    penalty = CapacityPenalty(2.0, ramp=4)
    values = [float(penalty(W)) for _ in range(2)]
    penalty.eval()
    values.append(float(penalty(W)))
    again = CapacityPenalty(2.0, ramp=4)
    again.load_state_dict(penalty.state_dict())
    values += [float(again(W)) for _ in range(3)]
    assert values == [0.25, 0.5, 0.5, 0.75, 1.0, 1.0]


def test_a_loop_of_ones_own_becomes_monosemantic() -> None:
    W = torch.nn.Parameter(normal(4, 2, seed=4))
    penalty, optimiser = CapacityPenalty(5.0), torch.optim.Adam([W], lr=0.02)
    for _ in range(600):
        (W.grad,) = torch.autograd.grad(penalty(W), W)
        optimiser.step()
    C = capacity(W.detach())
    assert ((C < 0.01) | (C > 0.99)).all()


def test_fits_resume_in_the_middle_of_a_ramp(tmp_path: Path) -> None:
    features, v = SparseSign([0.1] * 4, standardise=True), [1.0, 0.9, 0.8, 0.7]
    start = QuadraticModel(4, 2, generator=torch.Generator().manual_seed(0))
    config = FitConfig(adam_steps=40, polish="none", checkpoint_every=15)
    whole = fit(start, features, v, config, penalties=[CapacityPenalty(3.0, ramp=30)])

    def stop(step: int) -> None:
        if step == 20:
            raise KeyboardInterrupt

    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(start, features, v, config, penalties=[CapacityPenalty(3.0, ramp=30)], resume=path, progress=stop)
    resumed = fit(start, features, v, config, penalties=[CapacityPenalty(3.0, ramp=30)], resume=path)
    assert torch.equal(resumed.model.embedding, whole.model.embedding)


@pytest.mark.parametrize("C", [None, [0.0, 0.1, 0.5, 1.0]])
def test_kappa_is_the_closed_form_on_any_grid(C: list[float] | None) -> None:
    F, v = (torch.tensor(x, dtype=torch.float64) for x in ([20.0, 8.0, 3.0, 2.0], [1.0, 0.5, 1.0, 1.0]))
    features = SparseSign.from_kurtosis(F, standardise=True)
    kappa = flattening_kappa(curve(QuadraticModel(4, 2), features, v, C=C))
    assert_close(kappa[0], v.square() * (F - 1).square() * (F - 3).clamp(min=0) / 4, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("share", "concave"), [(1.0, True), (0.9, False)])
def test_with_kappa_curves_are_concave_and_with_less_they_are_not(share: float, concave: bool) -> None:
    C = torch.linspace(0, 1, 401, dtype=torch.float64)
    v, F = torch.tensor([1.0, 0.6], dtype=torch.float64), torch.tensor([20.0, 6.0], dtype=torch.float64)
    features = SparseSign.from_kurtosis(F, standardise=True)
    kappa = flattening_kappa(curve(QuadraticModel(2, 1), features, v))[0]
    curves = theory.loss(v[:, None], F[:, None], C) + share * kappa[:, None] * C * (1 - C)
    assert ((curves.diff(n=2, dim=-1) <= 1e-9).all(-1) == concave).all()


@pytest.mark.parametrize(("share", "above"), [(1.0, True), (0.9, False)])
def test_with_the_bound_of_the_chord_curves_lie_above_it_and_with_less_they_do_not(share: float, above: bool) -> None:
    C = torch.linspace(0, 1, 401, dtype=torch.float64)
    v, F = torch.tensor([1.0, 0.6], dtype=torch.float64), torch.tensor([20.0, 6.0], dtype=torch.float64)
    features = SparseSign.from_kurtosis(F, standardise=True)
    kappa = flattening_kappa(curve(QuadraticModel(2, 1), features, v), bound="chord")[0]
    assert_close(kappa, v.square() * (F - 1) * (F - 3) / 2, rtol=1e-9, atol=0)
    curves = theory.loss(v[:, None], F[:, None], C) + share * kappa[:, None] * C * (1 - C)
    chord = (1 - C) * curves[:, :1] + C * curves[:, -1:]
    assert ((curves >= chord - 1e-9).all(-1) == above).all()


def test_sharing_after_a_jump_at_0_costs_more_than_dealing_out_dimensions() -> None:
    features = SparseUniform([0.05] * 3)
    curves = curve(TiedAutoencoder(3, 2), features, [1.0] * 3, pattern="antipodal")
    kappa, C = flattening_kappa(curves, C_min=0.05), curves.C_grid
    chord = (1 - C) * curves.losses[..., :1] + C * curves.losses[..., -1:]
    counted = C >= 0.05
    for share, above in ((1.0, True), (0.9, False)):
        penalised = curves.losses + share * kappa[..., None] * C * (1 - C)
        assert ((penalised >= chord - 1e-12)[..., counted].all(-1) == above).all()
    assert (flattening_kappa(curves) > kappa).all()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kappa": -1.0}, "kappa must be non-negative and finite, got -1.0"),
        ({"kappa": float("nan")}, "kappa must be free of NaN"),
        ({"kappa": 1.0, "norm": "l2"}, 'norm must be "raw" or "unit", got \'l2\''),
        ({"kappa": 1.0, "ramp": 0}, "ramp must be a whole number of at least 1, got 0"),
    ],
)
def test_bad_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CapacityPenalty(**options)


@pytest.mark.bad_input
def test_bad_arguments() -> None:
    penalty, W = CapacityPenalty([1.0, 2.0]), torch.ones(3, 2)
    with pytest.raises(ValueError, match="shape of kappa must be one number or"):
        penalty(W)
    with pytest.raises(ValueError, match="W and response must be given as one of the two, got 'neither'"):
        penalty()
    with pytest.raises(ValueError, match="W and response must be given as one of the two, got 'both'"):
        penalty(W, response=W)
    with pytest.raises(ValueError, match="shape of response must be"):
        penalty(response=W)
    with pytest.raises(TypeError, match="W must be"):
        penalty([1.0])
    curves = curve(QuadraticModel(2, 1), SparseSign([0.1] * 2, standardise=True), [1.0, 1.0])
    with pytest.raises(ValueError, match="C_min must be at most"):
        flattening_kappa(curves, C_min=1.0)
    with pytest.raises(ValueError, match="bound must be"):
        flattening_kappa(curves, bound="tangent")  # type: ignore[arg-type]


def test_directions_are_charged_for_their_own_capacities() -> None:
    g = torch.Generator().manual_seed(0)
    model = QuadraticModel(4, 2, n_inst=3, generator=g)
    u = torch.nn.functional.normalize(torch.randn(3, 2, 4, generator=g, dtype=torch.float64), dim=-1)
    kappa = torch.rand(3, 2, generator=g, dtype=torch.float64)
    C = direction_capacity(model.response(), u)
    penalty = CapacityPenalty(kappa, directions=u)
    torch.testing.assert_close(penalty(model), (kappa * C * (1 - C)).sum(-1))
    torch.testing.assert_close(penalty(response=model.response()), penalty(model))
    axes = CapacityPenalty(1.0, directions=torch.eye(4, dtype=torch.float64).expand(3, 4, 4))
    torch.testing.assert_close(axes(model), CapacityPenalty(1.0)(model))


@pytest.mark.bad_input
def test_directions_of_an_embedding_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="W must be a toy model or a response matrix where directions are charged"):
        CapacityPenalty(1.0, directions=torch.eye(2))(torch.eye(2))
