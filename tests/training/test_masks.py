"""Masked features: the fit is that of the model without them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from polysem.features import SparseGaussian, SparseSign, SparseUniform
from polysem.training import FitConfig, FitStatus, fit
from polysem.training._mask import Restricted
from polysem.training._newton import newton
from polysem.zoo import QuadraticModel, TiedAutoencoder, ToyModel

V = [1.0, 0.9, 0.8, 0.7, 0.6]
KEPT = [0, 2, 3]
MASK = torch.tensor([False, True, False, False, True])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def without(model: ToyModel, smaller: ToyModel) -> ToyModel:
    """The smaller model with the kept features' parameters."""
    state = {k: v[:, KEPT] if v.ndim > 1 else v for k, v in model.state_dict().items()}
    smaller.load_state_dict(state)
    return smaller


@pytest.mark.parametrize("polish", ["newton", "lbfgs", "none"])
def test_exact_quadratic_fit_is_that_of_the_kept_features(polish: str) -> None:
    model = QuadraticModel(5, 2, n_inst=4, generator=seeded(0))
    kurtosis = torch.tensor([20.0, 5.0, 9.0, 30.0, 12.0])
    config = FitConfig(polish=polish)
    done = fit(model, SparseSign.from_kurtosis(kurtosis, standardise=True), V, config, mask=MASK)
    small = without(model, QuadraticModel(3, 2, n_inst=4))
    alone = fit(small, SparseSign.from_kurtosis(kurtosis[KEPT], standardise=True), [V[i] for i in KEPT], config)
    assert_close(done.loss, alone.loss, rtol=1e-12, atol=0)
    assert_close(done.model.W[:, KEPT], alone.model.W, rtol=0, atol=1e-7)
    assert_close(done.model.b, alone.model.b, rtol=1e-9, atol=0)
    assert_close(done.model.W[:, MASK], torch.zeros(4, 2, 2, dtype=torch.float64), rtol=0, atol=0)
    assert_close(done.status, alone.status)
    assert (alone.status == (FitStatus.NOT_CONVERGED if polish == "none" else FitStatus.CONVERGED)).all()


def test_exact_autoencoder_fit_does_not_see_masked_inputs() -> None:
    # A positive mean pulls on the row of any input that is there, whatever its own importance.
    features = SparseGaussian([0.3] * 5)
    model = TiedAutoencoder(5, 2, n_inst=3, generator=seeded(1))
    done = fit(model, features, V, FitConfig(polish="none"), mask=MASK)
    small = without(model, TiedAutoencoder(3, 2, n_inst=3))
    alone = fit(small, SparseGaussian([0.3] * 3), [V[i] for i in KEPT], FitConfig(polish="none"))
    assert_close(done.loss, alone.loss, rtol=1e-9, atol=0)
    assert_close(done.model.W[:, KEPT], alone.model.W, rtol=0, atol=1e-7)


class Watched(TiedAutoencoder):
    """An autoencoder that shows its inputs."""

    look: Callable[[Tensor], None]

    def unchecked_loss(self, x: Tensor, importance: Tensor) -> Tensor:
        type(self).look(x.detach())
        return super().unchecked_loss(x, importance)


@pytest.mark.parametrize("stratified", [False, True])
def test_sampled_fit_puts_zeros_in_for_masked_features(stratified: bool) -> None:
    features = SparseUniform([0.3] * 5, standardise=True)
    model, seen = Watched(5, 2, n_inst=3, generator=seeded(2)), []
    config = FitConfig(loss="sampled", adam_steps=30, stratified=stratified)
    Watched.look = seen.append
    done = fit(model, features, V, config, mask=MASK, generator=seeded(3))
    assert len(seen) > 30
    for x in seen:
        assert (x[..., MASK] == 0).all()
        assert (x[..., KEPT] != 0).all()
    assert_close(done.model.W[:, MASK], torch.zeros(3, 2, 2, dtype=torch.float64), rtol=0, atol=0)
    assert (done.model.W[:, KEPT] - model.W[:, KEPT]).abs().max() > 0.01
    assert (done.history[-1] < done.history[0]).all()


def test_instances_can_have_masks_of_their_own() -> None:
    model = QuadraticModel(5, 2, n_inst=2, generator=seeded(4))
    features = SparseSign.from_kurtosis([20.0] * 5, standardise=True)
    other = ~MASK
    masks = torch.stack([MASK, other])
    together = fit(model, features, V, mask=masks)
    sampled = FitConfig(loss="sampled", adam_steps=25)
    drawn = fit(model, features, V, sampled, mask=masks, generator=seeded(5))
    for i, mask in enumerate((MASK, other)):
        alone = fit(model, features, V, mask=mask)
        assert_close(together.loss[i], alone.loss[i], rtol=1e-12, atol=0)
        alone = fit(model, features, V, sampled, mask=mask, generator=seeded(5))
        assert_close(drawn.model.W[i], alone.model.W[i], rtol=1e-9, atol=1e-12)


def test_nothing_or_everything_masked() -> None:
    model = QuadraticModel(5, 2, n_inst=2, generator=seeded(6))
    features = SparseSign.from_kurtosis([20.0] * 5, standardise=True)
    nothing = fit(model, features, V, mask=[False] * 5)
    assert_close(nothing.model.W, fit(model, features, V).model.W, rtol=0, atol=0)
    everything = fit(model, features, V, mask=[True] * 5)
    assert_close(everything.loss, torch.zeros(2, dtype=torch.float64), rtol=0, atol=0)
    assert (everything.status == FitStatus.CONVERGED).all()


def test_a_kink_is_not_left_along_masked_parameters() -> None:
    objective = TiedAutoencoder(2, 1).objective(SparseUniform([0.1, 0.1]), [1.0, 0.35])
    start = torch.tensor([[1.0, 0.0, 0.0, 0.05]], dtype=torch.float64)
    falls = newton(objective, start, max_steps=50, tolerance=1e-10)
    assert objective.loss(falls.theta) < 0.5 * objective.loss(start)
    free = torch.tensor([[1.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    end = newton(Restricted(objective, free), start, max_steps=50, tolerance=1e-10)
    assert_close(end.theta, start, rtol=0, atol=0)
    assert end.converged.all()


class Leaky(QuadraticModel):
    """A model whose loss reads its inputs past the embedding."""

    def unchecked_loss(self, x: Tensor, importance: Tensor) -> Tensor:
        return super().unchecked_loss(x, importance) + x.sum(-1)


@pytest.mark.bad_input
def test_bad_masks_are_refused() -> None:
    features = SparseSign.from_kurtosis([20.0] * 5, standardise=True)
    model = QuadraticModel(5, 2, n_inst=2, generator=seeded(0))
    with pytest.raises(TypeError, match="mask must be boolean"):
        fit(model, features, V, mask=[1.0] * 5)
    with pytest.raises(ValueError, match=r"mask must be of shape \[n_features\] or"):
        fit(model, features, V, mask=[True] * 4)
    with pytest.raises(ValueError, match='mask must be left out unless loss="sampled" .* got Leaky'):
        fit(Leaky(5, 2, n_inst=2), features, V, mask=MASK)
