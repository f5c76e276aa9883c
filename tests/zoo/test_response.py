"""Sampled responses against enumeration, and their stated errors against their true ones."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import neuron_loops as loops
from polysem.features import ExclusiveFeatures, SparseFeatures, SparseGaussian, SparseSign
from polysem.zoo import HiddenLayerModel, ResidualMLP, _response, sampled_response

P = [0.4, 0.1, 0.3]
EXCLUSIVE_LAW = dict.fromkeys(loops.independent(P), 0.0) | {
    (False, False, False): 0.2,
    **{tuple(i == j for j in range(3)): q for i, q in enumerate(P)},
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_layer(activation: str, target: str, n_inst: int = 1) -> HiddenLayerModel:
    model = HiddenLayerModel(3, 4, n_inst=n_inst, activation=activation, target=target)
    loops.randomise(model, 0)
    return model


def enumerated(model: HiddenLayerModel | ResidualMLP, law: dict[tuple[bool, ...], float], target: str) -> Tensor:
    """`Cov(x̂_i, t(x_j)) / Var t(x_j)`, outcome by outcome."""
    t = loops.TARGETS[target]
    outcomes = [
        (chance, x, model(torch.tensor(x, dtype=torch.float64)[None, None])[0, 0].tolist())
        for chance, x in loops.signs(law)
    ]
    R = torch.zeros(3, 3, dtype=torch.float64)
    for j in range(3):
        mean = sum(chance * t(x[j]) for chance, x, _ in outcomes)
        variance = sum(chance * (t(x[j]) - mean) ** 2 for chance, x, _ in outcomes)
        for i in range(3):
            own = sum(chance * y[i] for chance, _, y in outcomes)
            covariance = sum(chance * (y[i] - own) * (t(x[j]) - mean) for chance, x, y in outcomes)
            R[i, j] = covariance / variance
    return R


@pytest.mark.parametrize("target", ["identity", "abs", "square"])
@pytest.mark.parametrize("activation", ["relu", "square", "bilinear"])
@pytest.mark.parametrize("exclusive", [False, True])
def test_response_agrees_with_enumeration(activation: str, target: str, exclusive: bool) -> None:
    features: SparseFeatures = SparseSign(P)
    law = loops.independent(P)
    if exclusive:
        features, law = ExclusiveFeatures(SparseSign(P), [[0, 1, 2]]), EXCLUSIVE_LAW
    model = random_layer(activation, target)
    truth = enumerated(model, law, target)
    R = sampled_response(model, features, n_samples=60_000, generator=seeded(1))
    assert ((R.value[0] - truth).abs() <= 4.5 * R.stderr[0] + 1e-9).all()
    assert (R.stderr < 0.1 * truth.abs().max()).all()
    assert R.stderr.max() > 0


def test_response_of_a_residual_network() -> None:
    model = ResidualMLP(3, 2, n_layers=2, d_mlp=4, target="square")
    loops.randomise(model, 1)
    R = sampled_response(model, SparseSign(P), n_samples=60_000, generator=seeded(2))
    truth = enumerated(model, loops.independent(P), "square")
    assert ((R.value[0] - truth).abs() <= 4.5 * R.stderr[0] + 1e-9).all()


def test_response_of_a_linear_model_is_its_own() -> None:
    model = random_layer("identity", "identity", n_inst=2)
    features = SparseGaussian([[0.3, 0.1, 0.2], [1.0, 0.5, 0.05]], standardise=True)
    R = sampled_response(model, features, n_samples=100_000, generator=seeded(3))
    assert ((R.value - model.response()).abs() < 4.5 * R.stderr + 1e-9).all()


def test_stated_error_is_the_true_spread() -> None:
    model, features = random_layer("relu", "abs"), SparseGaussian([0.3, 0.1, 0.2])
    runs = [sampled_response(model, features, n_samples=400, generator=seeded(100 + k)) for k in range(300)]
    values = torch.stack([run.value for run in runs])
    stated = torch.stack([run.stderr for run in runs]).mean(0)
    # The spread of 300 values is itself known to some percent, and the stated error to first order in 1/√400.
    assert_close(values.std(0), stated, rtol=0.3, atol=0)
    assert_close((values.std(0) / stated).mean().item(), 1.0, rtol=0.1, atol=0)


def test_sampling_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """All samples in one or in parts: as many, and of one law; the passes over them see the same ones."""
    model, features = random_layer("relu", "abs", n_inst=2), SparseGaussian(P)
    whole = sampled_response(model, features, n_samples=6001, generator=seeded(4))
    x, w = features.sample_active(6001, generator=seeded(4))
    y, t = model(x[:, None]).detach(), x.abs()
    y_rest = model(torch.zeros(1, 1, 3, dtype=torch.float64)).detach()
    own = w * y.mean(0) + (1 - w) * y_rest[0]
    product = w * torch.einsum("sni,sj->nij", y, t) / 6001
    covariance = product - own[..., None] * (w * t.mean(0))
    variance = w * t.square().mean(0) - (w * t.mean(0)).square()
    assert_close(whole.value, covariance / variance)
    monkeypatch.setattr(_response, "CHUNK_ELEMENTS", 6 * 700)
    parts = sampled_response(model, features, n_samples=6001, generator=seeded(4))
    assert ((parts.value - whole.value).abs() < 6 * whole.stderr).all()
    assert_close(parts.stderr, whole.stderr, rtol=0.2, atol=0)


def test_single_precision_model() -> None:
    model = HiddenLayerModel(3, 4, target="abs", generator=seeded(5), dtype=torch.float32)
    R = sampled_response(model, SparseGaussian(P), n_samples=100, generator=seeded(6))
    assert R.value.dtype == R.stderr.dtype == torch.float64
    assert R.value.isfinite().all()


@pytest.mark.bad_input
def test_bad_arguments_are_refused() -> None:
    model = random_layer("relu", "abs")
    with pytest.raises(ValueError, match="n_samples must be"):
        sampled_response(model, SparseSign(P), n_samples=1, generator=seeded(0))
    with pytest.raises(ValueError, match="shape of features must be"):
        sampled_response(model, SparseSign([0.5]), n_samples=10, generator=seeded(0))
    with pytest.raises(ValueError, match="constant target of feature 1 in 50 samples"):
        sampled_response(model, SparseSign([0.5, 1.0, 0.5]), n_samples=50, generator=seeded(0))
    with pytest.raises(ValueError, match="constant target of feature 2 in 50 samples"):
        sampled_response(model, SparseSign([0.5, 0.5, 1e-12]), n_samples=50, generator=seeded(0))
    with pytest.raises(TypeError, match="generator must be a torch.Generator"):
        sampled_response(model, SparseSign(P), n_samples=50, generator=None)
