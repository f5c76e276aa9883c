"""Autoencoders: outputs and losses against loops, derivatives by parameters, training, linear facts, bad input."""

import math
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from polysem.features import (
    CorrelatedFeatures,
    SparseFeatures,
    SparseGaussian,
    SparseLaplace,
    SparseSign,
    SparseUniform,
)
from polysem.measure import blocks, capacity
from polysem.training import FitConfig, FitStatus, fit
from polysem.zoo import QuadraticModel, TiedAutoencoder, UntiedAutoencoder, expected_loss

KINDS = [TiedAutoencoder, UntiedAutoencoder]
INSTEAD = r'\(pass method="sampled" to expected_loss, FitConfig\(loss="sampled"\) to fit\)'
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda z: z,
    "relu": functional.relu,
    "gelu": functional.gelu,
    "softplus": functional.softplus,
    "abs": lambda z: z.abs(),
    "square": lambda z: z**2,
    "tanh": lambda z: z.tanh(),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", [*ACTIVATIONS, torch.cos])
def test_outputs_and_losses_equal_a_loop(
    kind: type[TiedAutoencoder], activation: str | Callable[[Tensor], Tensor]
) -> None:
    model = kind(4, 2, n_inst=3, activation=activation, generator=seeded(0))
    with torch.no_grad():
        model.b.copy_(torch.randn(3, 4, generator=seeded(1), dtype=torch.float64))
    act = ACTIVATIONS[activation] if isinstance(activation, str) else activation
    x = torch.randn(5, 3, 4, generator=seeded(2), dtype=torch.float64)
    importance = torch.rand(3, 4, generator=seeded(3), dtype=torch.float64)
    W, V, b = model.embedding.detach(), model.readout.detach(), model.b.detach()
    outputs, losses = torch.zeros_like(x), torch.zeros(5, 3, dtype=torch.float64)
    for s in range(5):
        for i in range(3):
            hidden = sum(x[s, i, k] * W[i, k] for k in range(4))
            for j in range(4):
                outputs[s, i, j] = act(hidden @ V[i, j] + b[i, j])
                losses[s, i] += importance[i, j] * (outputs[s, i, j] - x[s, i, j]) ** 2
    assert_close(model(x).detach(), outputs)
    assert_close(model.per_sample_loss(x, importance).detach(), losses)
    assert_close(model(x[:, :1]), model(x[:, :1].expand(5, 3, 4)))
    assert_close(model.response(), torch.einsum("njd,nid->nji", model.readout, model.embedding))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features", [SparseUniform([0.3, 0.8]), SparseGaussian([0.3, 0.8])])
def test_exact_loss_differentiates_by_every_parameter(kind: type[TiedAutoencoder], features: SparseFeatures) -> None:
    model = kind(2, 1, n_inst=2, generator=seeded(0))
    weight = torch.tensor([1.0, -3.0], dtype=torch.float64)
    loss = model.exact_loss(features, [1.0, 0.5])
    (weight * loss).sum().backward()
    objective = model.objective(features, [1.0, 0.5])
    theta = objective.pack(model.state_dict())
    assert_close(loss.detach(), objective.loss(theta), rtol=0, atol=0)
    expected = objective.unpack(weight[:, None] * objective.gradient(theta))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0
        assert_close(parameter.grad, expected[name], rtol=1e-14, atol=0)
    for name, value in objective.unpack(theta).items():
        assert_close(value, model.state_dict()[name], rtol=0, atol=0)


def test_autograd_finds_the_second_derivatives() -> None:
    model = TiedAutoencoder(2, 1, n_inst=2, generator=seeded(0))
    features, importance = SparseUniform([0.3, 0.8]), [1.0, 0.5]
    objective = model.objective(features, importance)
    theta = objective.pack(model.state_dict())
    (by_W,) = torch.autograd.grad(model.exact_loss(features, importance).square().sum(), model.W, create_graph=True)
    direction = torch.randn(2, 2, 1, generator=seeded(1), dtype=torch.float64)
    found = torch.autograd.grad((by_W * direction).sum(), [model.W, model.b])
    loss, gradient, hessian = objective.loss(theta), objective.gradient(theta), objective.hessian(theta)
    along = torch.cat([direction.flatten(1), torch.zeros(2, 2)], -1)[..., None]
    square = 2 * (gradient[..., None] * gradient[:, None] + loss[:, None, None] * hessian)
    expected = objective.unpack((square @ along)[..., 0])
    assert_close(found[0], expected["W"], rtol=1e-12, atol=1e-14)
    assert_close(found[1], expected["b"], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features", [SparseUniform([[0.3, 0.8], [0.1, 1.0], [0.5, 0.5]]), SparseGaussian([0.3, 0.8])])
def test_selected_instances_are_unchanged(kind: type[TiedAutoencoder], features: SparseFeatures) -> None:
    model = kind(2, 1, n_inst=3, generator=seeded(0))
    objective = model.objective(features, [[1.0, 0.5], [1.0, 2.0], [0.3, 0.1]])
    theta, chosen = objective.pack(model.state_dict()), torch.tensor([2, 0])
    part = objective.select(chosen)
    assert_close(part.loss(theta[chosen]), objective.loss(theta)[chosen], rtol=1e-14, atol=0)
    assert_close(part.gradient(theta[chosen]), objective.gradient(theta)[chosen], rtol=1e-12, atol=1e-16)
    assert_close(part.hessian(theta[chosen]), objective.hessian(theta)[chosen], rtol=1e-12, atol=1e-16)


def test_tied_is_untied_with_equal_rows() -> None:
    tied = TiedAutoencoder(3, 2, n_inst=2, activation="square", generator=seeded(0))
    untied = UntiedAutoencoder(3, 2, n_inst=2, activation="square")
    untied.load_state_dict({**tied.state_dict(), "V": tied.W.detach()})
    features = SparseLaplace([0.3, 0.2, 0.5])
    one, other = tied.objective(features, [1.0, 0.5, 0.2]), untied.objective(features, [1.0, 0.5, 0.2])
    theta, both = one.pack(tied.state_dict()), other.pack(untied.state_dict())
    fold = torch.zeros(15, 9, dtype=torch.float64)  # how (W, V, b) moves with (W, b)
    fold[:6, :6] = fold[6:12, :6] = torch.eye(6)
    fold[12:, 6:] = torch.eye(3)
    assert_close(one.loss(theta), other.loss(both), rtol=1e-14, atol=0)
    assert_close(one.gradient(theta), other.gradient(both) @ fold, rtol=1e-12, atol=1e-14)
    assert_close(one.hessian(theta), fold.T @ other.hessian(both) @ fold, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_start_is_seeded_and_precision_is_kept(kind: type[TiedAutoencoder]) -> None:
    first, again = (kind(3, 2, n_inst=4, generator=seeded(3), dtype=torch.float32) for _ in range(2))
    for name, value in first.state_dict().items():
        assert value.dtype == torch.float32
        assert_close(value, again.state_dict()[name], rtol=0, atol=0)
    features = SparseGaussian([0.3, 0.2, 0.5])
    double = kind(3, 2, n_inst=4)
    double.load_state_dict(first.state_dict())
    loss = first.exact_loss(features, [1.0, 1.0, 1.0])
    assert loss.dtype == torch.float64
    assert_close(loss, double.exact_loss(features, [1.0, 1.0, 1.0]), rtol=1e-14, atol=0)
    with pytest.raises(AssertionError):
        assert_close(first.embedding, kind(3, 2, n_inst=4, generator=seeded(4), dtype=torch.float32).embedding)


@pytest.mark.parametrize("kind", KINDS)
def test_linear_autoencoder_keeps_the_most_important_directions_and_no_superposition(
    kind: type[TiedAutoencoder],
) -> None:
    """Of independent features it keeps the `d` with the largest `I_i Var x_i`, whatever their sparsity."""
    p, importance, d = [0.02, 0.5, 0.1, 0.9, 0.3, 0.05], [1.0, 0.8, 0.9, 0.3, 0.6, 0.5], 3
    features = SparseUniform(p)
    model = kind(6, d, n_inst=6, activation="identity", generator=seeded(5))
    done = fit(model, features, importance)
    assert (done.status == FitStatus.CONVERGED).all()
    gain = features.variance * torch.tensor(importance, dtype=torch.float64)
    lost = gain.sort(descending=True).values[d:].sum().item()
    assert_close(done.loss.min().item(), lost, rtol=1e-8, atol=0)
    response = done.model.response().detach()
    kept = response.diagonal(dim1=1, dim2=2).round()
    assert (kept.sum(-1) == d).all()
    assert_close(response, torch.diag_embed(kept), rtol=0, atol=1e-4)
    assert_close(done.loss, ((1 - kept) * gain).sum(-1), rtol=1e-8, atol=0)
    if kind is UntiedAutoencoder:  # the tied one has local minima that keep a feature of less worth
        assert_close(done.loss, torch.full((6,), lost, dtype=torch.float64), rtol=1e-8, atol=0)


def test_sparse_relu_features_share_one_dimension_as_an_antipodal_pair_and_dense_ones_do_not() -> None:
    config = FitConfig(adam_steps=50, learning_rate=0.1)
    p = torch.tensor([0.01] * 16 + [1.0] * 16, dtype=torch.float64)[:, None].expand(32, 2)
    importance = torch.tensor([1.0, 0.9], dtype=torch.float64)
    model = TiedAutoencoder(2, 1, n_inst=32, generator=seeded(6))
    done = fit(model, SparseUniform(p), importance, config)
    assert (done.status == FitStatus.CONVERGED).all()
    objective = done.model.objective(SparseUniform(p), importance)
    assert objective.gradient(objective.pack(done.model.state_dict())).abs().max() <= 1e-8
    sparse, dense = int(done.loss[:16].argmin()), 16 + int(done.loss[16:].argmin())
    W = done.model.embedding.detach()
    (found,) = blocks(W[sparse])
    assert found.polytope == "antipodal pair"
    assert W[sparse].prod() < 0
    assert_close(capacity(W[sparse]), torch.full((2,), 0.5, dtype=torch.float64), rtol=0, atol=0.02)
    assert done.loss[sparse] < 0.05 * 0.9 * 0.01 / 3
    assert_close(capacity(W[dense]).max().item(), 1.0, rtol=0, atol=0.1)


def test_five_sparse_gaussian_features_in_two_dimensions_reach_a_stationary_point() -> None:
    model = TiedAutoencoder(5, 2, n_inst=4, generator=seeded(8))
    done = fit(model, SparseGaussian([0.05] * 5), [1.0] * 5, FitConfig(adam_steps=50))
    assert (done.status == FitStatus.CONVERGED).all()
    assert (done.loss < done.history[0]).all()
    sampled = expected_loss(
        done.model, SparseGaussian([0.05] * 5), [1.0] * 5, method="sampled", n_samples=50_000, generator=seeded(9)
    )
    assert ((sampled.value - done.loss).abs() < 4.5 * sampled.stderr).all()


def test_copies_keep_their_activation() -> None:
    model = TiedAutoencoder(2, 1, activation=torch.cos, generator=seeded(0))
    x = torch.rand(3, 1, 2, generator=seeded(1), dtype=torch.float64)
    assert_close(deepcopy(model)(x), model(x), rtol=0, atol=0)


@pytest.mark.bad_input
def test_bad_arguments_are_refused() -> None:
    for activation in ("ReLU", "", 3, None):
        with pytest.raises(ValueError, match='activation must be one of "identity", "relu"'):
            TiedAutoencoder(2, 1, activation=activation)
    for n, d, n_inst, name in [(0, 1, 1, "n_features"), (2, 0, 1, "d_hidden"), (2, 1, 0, "n_inst")]:
        for kind in KINDS:
            with pytest.raises(ValueError, match=f"{name} must be"):
                kind(n, d, n_inst=n_inst)
    model = TiedAutoencoder(2, 1, n_inst=3)
    for importance in ([1.0], 1.0, [1.0, -1.0], [1.0, math.nan]):
        with pytest.raises(ValueError, match="importance must be"):
            model.exact_loss(SparseUniform([0.5, 0.5]), importance)
    for p in (0.5, [0.5], [[0.5, 0.5]], [0.5] * 3):
        with pytest.raises(ValueError, match="shape of features must be"):
            model.exact_loss(SparseUniform(p), [1.0, 1.0])


@pytest.mark.bad_input
def test_losses_without_a_closed_form_are_refused_by_name() -> None:
    model, wide = TiedAutoencoder(2, 1), TiedAutoencoder(4, 1)
    for features in (SparseLaplace([0.5] * 2), SparseSign([0.5] * 2), SparseUniform([0.5] * 2, standardise=True)):
        with pytest.raises(ValueError, match=rf'SparseUniform .* for an exact loss of activation "relu" {INSTEAD}'):
            expected_loss(model, features, [1.0, 1.0])
    for activation in ("gelu", "tanh", torch.relu):
        other = TiedAutoencoder(2, 1, activation=activation)
        with pytest.raises(ValueError, match=rf'activation must be .* "relu" or "abs" for .* {INSTEAD}'):
            expected_loss(other, SparseUniform([0.5] * 2), [1.0, 1.0])
    together = CorrelatedFeatures(SparseUniform([0.5, 0.5]), [[0, 1]], correlation=0.5)
    for any_model in (TiedAutoencoder(2, 1, activation="identity"), model, QuadraticModel(2, 1)):
        with pytest.raises(ValueError, match="features must be independent"):
            expected_loss(any_model, together, [1.0, 1.0])
    features = SparseUniform([0.5] * 4)
    with pytest.raises(ValueError, match=r"features must be at most 3 of SparseUniform .* FitConfig\(loss="):
        wide.objective(features, [1.0] * 4)
    with pytest.raises(ValueError, match="n_samples must be given where the loss is sampled, in whole or in part"):
        expected_loss(wide, features, [1.0] * 4)
    with pytest.raises(ValueError, match="generator must be given where the loss is sampled, in whole or in part"):
        expected_loss(wide, features, [1.0] * 4, n_samples=10)
    with pytest.raises(ValueError, match="n_samples must be left out where nothing is sampled"):
        expected_loss(model, SparseUniform([0.5] * 2), [1.0] * 2, n_samples=10, generator=seeded(0))
