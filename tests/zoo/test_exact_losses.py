"""Exact expected losses against adaptive quadrature, enumeration of supports and samples, also at hard places."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import integrate
from torch import Tensor
from torch.testing import assert_close

from polysem.features import SparseFeatures, SparseGaussian, SparseLaplace, SparseSign, SparseUniform
from polysem.zoo import TiedAutoencoder, UntiedAutoencoder, expected_loss

ACTIVATIONS: dict[str, Callable[[float], float]] = {"relu": lambda z: max(z, 0.0), "abs": abs}
KINDS = [TiedAutoencoder, UntiedAutoencoder]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_model(
    kind: type[TiedAutoencoder] | type[UntiedAutoencoder],
    n: int,
    d: int,
    activation: str,
    *,
    n_inst: int = 1,
    seed: int = 0,
) -> TiedAutoencoder | UntiedAutoencoder:
    """Rows of norm about 1, so that kinks lie inside the range of the inputs, and biases about 0.3."""
    g = seeded(seed)
    model = kind(n, d, n_inst=n_inst, activation=activation, generator=g)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
        model.b.add_(0.3 * torch.randn(n_inst, n, generator=g, dtype=torch.float64))
    return model


def set_parameters(model: TiedAutoencoder | UntiedAutoencoder, W: object, b: object) -> None:
    with torch.no_grad():
        model.W.copy_(torch.as_tensor(W, dtype=torch.float64).reshape(model.W.shape))
        model.b.copy_(torch.as_tensor(b, dtype=torch.float64).reshape(model.b.shape))


def kinked_quad(f: Callable[[float], float], low: float, kinks: list[float]) -> float:
    inside = [k for k in kinks if low < k < 1]
    return integrate.quad(f, low, 1, points=inside or None, epsabs=1e-12, epsrel=1e-12, limit=200)[0]


def quadrature(
    model: TiedAutoencoder | UntiedAutoencoder, p: list[float], importance: list[float], low: float
) -> float:
    """The expected loss of two uniform features, support by support, by scipy's adaptive quadrature."""
    G, b = model.response()[0].tolist(), model.b[0].tolist()
    act = ACTIVATIONS[str(model.activation)]
    span, total = 1 - low, 0.0
    for j in (0, 1):

        def error(x: float, y: float, j: int = j) -> float:
            return (act(G[j][0] * x + G[j][1] * y + b[j]) - (x, y)[j]) ** 2

        def kink(slope: float, offset: float) -> list[float]:
            return [-offset / slope] if slope else []

        def inner(x: float, j: int = j) -> float:
            return kinked_quad(lambda y: error(x, y, j), low, kink(G[j][1], G[j][0] * x + b[j]))

        crossings = kink(G[j][0], G[j][1] * low + b[j]) + kink(G[j][0], G[j][1] + b[j])
        parts = [
            (1 - p[0]) * (1 - p[1]) * error(0, 0),
            p[0] * (1 - p[1]) / span * kinked_quad(lambda x: error(x, 0), low, kink(G[j][0], b[j])),
            (1 - p[0]) * p[1] / span * kinked_quad(lambda y: error(0, y), low, kink(G[j][1], b[j])),
            p[0] * p[1] / span**2 * kinked_quad(inner, low, sorted(crossings)),
        ]
        total += importance[j] * sum(parts)
    return total


@pytest.mark.parametrize("seed", range(30))
def test_two_uniform_features_agree_with_adaptive_quadrature(seed: int) -> None:
    g = seeded(1000 + seed)
    kind, activation, signed = KINDS[seed % 2], ("relu", "abs")[seed % 5 == 4], seed % 3 == 2
    p = torch.rand(2, generator=g, dtype=torch.float64).pow(2).tolist()
    importance = torch.rand(2, generator=g, dtype=torch.float64).tolist()
    model = random_model(kind, 2, 1 + seed % 2, activation, seed=seed)
    exact = expected_loss(model, SparseUniform(p, signed=signed), importance)
    assert_close(exact.value.item(), quadrature(model, p, importance, -1.0 if signed else 0.0), rtol=1e-9, atol=1e-12)
    assert exact.stderr.item() == 0.0


HARD = {
    "weights 0": ([[0.0], [0.0]], [0.3, -0.2]),
    "one weight 0": ([[1.0], [0.0]], [0.0, 0.25]),
    "all 0": ([[0.0], [0.0]], [0.0, 0.0]),
    "identity": ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]),
    "antipodal": ([[1.0], [-1.0]], [0.0, 0.0]),
    "kink on the border": ([[1.0], [-1.0]], [-1.0, 1.0]),
    "kink on the diagonal's ends": ([[1.0], [1.0]], [-2.0, -1.0]),
    "dead": ([[1.0], [0.5]], [-3.0, -4.0]),
    "tiny weight": ([[1.0], [1e-9]], [-0.4, 1e-10]),
    "tiny weights": ([[1e-8], [-1e-8]], [1e-17, -1e-17]),
    "huge": ([[1e4], [-1e3]], [-3e7, 2.0]),
    "kink through a corner": ([[0.8], [-0.6]], [-0.16, 0.48]),
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize(("activation", "signed"), [("relu", False), ("relu", True), ("abs", False)])
@pytest.mark.parametrize("p", [[1.0, 1.0], [1.0, 0.3], [1e-6, 1e-6], [0.2, 0.1]])
def test_hard_places(name: str, activation: str, signed: bool, p: list[float]) -> None:
    W, b = HARD[name]
    model = TiedAutoencoder(2, len(W[0]), activation=activation)
    set_parameters(model, W, b)
    exact = expected_loss(model, SparseUniform(p, signed=signed), [1.0, 0.7]).value.item()
    truth = quadrature(model, p, [1.0, 0.7], -1.0 if signed else 0.0)
    assert_close(exact, truth, rtol=1e-9, atol=1e-16)
    objective = model.objective(SparseUniform(p, signed=signed), [1.0, 0.7])
    theta = objective.pack(model.state_dict())
    assert objective.gradient(theta).isfinite().all()
    assert objective.hessian(theta).isfinite().all()


@pytest.mark.parametrize("p", [1.0, 0.3, 1e-6, 1e-12])
def test_hand_built_configurations(p: float) -> None:
    """`E min(x, y)² = 1/6` where an antipodal pair collides; an ignored feature costs its variance."""
    features = SparseUniform([p, p])
    model = TiedAutoencoder(2, 1, n_inst=2)
    set_parameters(model, [[[1.0], [-1.0]], [[1.0], [0.0]]], [[0.0, 0.0], [0.0, p / 2]])
    pair, alone = expected_loss(model, features, [1.0, 0.5]).value.tolist()
    assert_close(pair, 1.5 * p**2 / 6, rtol=1e-12, atol=1e-16 * p)
    assert_close(alone, 0.5 * (p / 3 - p**2 / 4), rtol=1e-12, atol=0)


def gaussian_by_supports(
    model: TiedAutoencoder | UntiedAutoencoder, p: list[float], importance: list[float], scale: list[float]
) -> float:
    """Given the support, `(z_j, x_j)` is normal: one-dimensional quadrature over `z` of `E[(act(z) - x_j)² | z]`."""
    G, b, n = model.response()[0].tolist(), model.b[0].tolist(), model.n_features
    act, total = ACTIVATIONS[str(model.activation)], 0.0
    for support, j in itertools.product(itertools.product((0, 1), repeat=n), range(n)):
        chance = math.prod(q if s else 1 - q for s, q in zip(support, p, strict=True))
        spread = math.sqrt(sum((G[j][i] * scale[i]) ** 2 for i in range(n) if support[i]))
        own = scale[j] ** 2 * support[j]
        lean = G[j][j] * own / spread if spread else 0.0

        def given(w: float, j: int = j, spread: float = spread, own: float = own, lean: float = lean) -> float:
            mean_x = lean * w
            error = (act(b[j] + spread * w) - mean_x) ** 2 + own - lean**2
            return error * math.exp(-w * w / 2) / math.sqrt(2 * math.pi)

        kink = -b[j] / spread if spread else 0.0
        points = [kink] if abs(kink) < 12 else None
        mean = integrate.quad(given, -12, 12, points=points, epsabs=1e-12, epsrel=1e-12, limit=200)[0]
        total += importance[j] * chance * mean
    return total


@pytest.mark.parametrize("seed", range(8))
def test_gaussian_features_agree_with_quadrature_over_supports(seed: int) -> None:
    g = seeded(2000 + seed)
    n, activation, standardise = 2 + seed % 3, ("relu", "abs")[seed % 4 == 3], seed % 2 == 1
    p = torch.rand(n, generator=g, dtype=torch.float64).clamp(min=1e-6).tolist()
    if seed == 5:
        p[0] = 1.0
    importance = torch.rand(n, generator=g, dtype=torch.float64).tolist()
    model = random_model(KINDS[seed % 2], n, 1 + seed % 2, activation, seed=seed)
    exact = expected_loss(model, SparseGaussian(p, standardise=standardise), importance).value.item()
    scale = [q**-0.5 if standardise else 1.0 for q in p]
    assert_close(exact, gaussian_by_supports(model, p, importance, scale), rtol=1e-9, atol=1e-12)


def laws(n: int) -> list[SparseFeatures]:
    p = [0.02 + 0.9 * (i + 1) / n / (1 + i) for i in range(n)]
    return [
        SparseUniform(p),
        SparseUniform(p, signed=True, standardise=True),
        SparseUniform(p, standardise=True),
        SparseGaussian(p),
        SparseGaussian(p, standardise=True),
        SparseLaplace(p),
        SparseSign(p, standardise=True),
    ]


def has_exact_part(activation: str, features: SparseFeatures) -> bool:
    if activation in ("identity", "square"):
        return True
    uniform = isinstance(features, SparseUniform) and (features.signed or not features.standardise)
    return uniform or isinstance(features, SparseGaussian)


CASES = [
    (activation, n, law)
    for activation in ("identity", "relu", "abs", "square")
    for n in (2, 12, 20)
    for law in range(7)
    if has_exact_part(activation, laws(n)[law])
]


@pytest.mark.parametrize(("activation", "n", "law"), CASES)
def test_plain_samples_agree(activation: str, n: int, law: int) -> None:
    """Unconditioned samples through NumPy; where a tail is drawn, its error counts too."""
    features = laws(n)[law]
    model = random_model(KINDS[n == 12], n, max(1, n // 3), activation, n_inst=1, seed=n + law)
    importance = [0.95**i for i in range(n)]
    partial = model.partial_loss(features, importance) is not None
    draws = {"n_samples": 20_000, "generator": seeded(1)} if partial else {}
    exact = expected_loss(model, features, importance, **draws)
    assert partial == (n > (10 if isinstance(features, SparseGaussian) else 2) and activation in ("relu", "abs"))
    assert (exact.stderr.item() > 0) == partial
    x = features.sample(50_000, generator=seeded(2)).numpy()
    W, V, b = (part.detach()[0].numpy() for part in (model.embedding, model.readout, model.b))
    act = {"identity": np.positive, "relu": lambda z: np.maximum(z, 0), "abs": np.abs, "square": np.square}[activation]
    losses = ((act(x @ W @ V.T + b) - x) ** 2) @ np.array(importance)
    error = math.hypot(losses.std() / math.sqrt(len(losses)), exact.stderr.item())
    assert abs(losses.mean() - exact.value.item()) < 4.5 * error


@pytest.mark.parametrize("activation", ["identity", "relu", "gelu", "softplus", "abs", "square", "tanh", torch.sin])
def test_sampled_losses_agree_with_plain_samples(activation: str | Callable[[Tensor], Tensor]) -> None:
    g = seeded(7)
    model = UntiedAutoencoder(4, 2, activation=activation, generator=g)
    features = SparseUniform([0.3, 0.05, 0.1, 0.9])
    sampled = expected_loss(model, features, [1.0, 0.5, 0.2, 0.1], method="sampled", n_samples=100_000, generator=g)
    x = features.sample(100_000, generator=g)
    losses = model.per_sample_loss(x[:, None], [1.0, 0.5, 0.2, 0.1]).detach()[:, 0]
    error = math.hypot(losses.std().item() / math.sqrt(len(x)), sampled.stderr.item())
    assert abs(losses.mean().item() - sampled.value.item()) < 4.5 * error


@pytest.mark.parametrize("features", [SparseUniform([0.3, 0.5, 0.2, 0.6]), SparseGaussian([0.3] * 11)])
def test_stated_error_of_the_drawn_part_is_its_true_spread(features: SparseFeatures) -> None:
    n = features.n_features
    model = random_model(TiedAutoencoder, n, 2, "relu", seed=3)
    runs = [expected_loss(model, features, [1.0] * n, n_samples=500, generator=seeded(s)) for s in range(60)]
    values = torch.stack([run.value[0] for run in runs])
    stated = torch.stack([run.stderr[0] for run in runs]).mean().item()
    assert_close(values.std().item(), stated, rtol=0.35, atol=0)
    truth = expected_loss(model, features, [1.0] * n, method="sampled", n_samples=400_000, generator=seeded(99))
    assert abs(values.mean() - truth.value[0]) < 4.5 * math.hypot(truth.stderr.item(), stated / math.sqrt(60))


def test_drawing_only_the_tail_is_far_more_accurate() -> None:
    features = SparseUniform([0.05] * 20)
    model = random_model(TiedAutoencoder, 20, 5, "relu")
    importance = [0.9**i for i in range(20)]
    part = expected_loss(model, features, importance, n_samples=20_000, generator=seeded(0))
    whole = expected_loss(model, features, importance, method="sampled", n_samples=20_000, generator=seeded(0))
    assert part.stderr.item() < 0.5 * whole.stderr.item()


@settings(deadline=None, max_examples=25)
@given(
    kind=st.sampled_from(KINDS),
    activation=st.sampled_from(["identity", "relu", "abs", "square"]),
    law=st.integers(0, 6),
    d=st.integers(1, 3),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_derivatives_equal_finite_differences(
    kind: type[TiedAutoencoder], activation: str, law: int, d: int, seed: int, data: st.DataObject
) -> None:
    n = 2 if law in (0, 1, 2) and activation in ("relu", "abs") else data.draw(st.integers(2, 4))
    features = laws(n)[law]
    assume(has_exact_part(activation, features))
    model = random_model(kind, n, d, activation, n_inst=2, seed=seed)
    objective = model.objective(features, torch.rand(2, n, generator=seeded(seed), dtype=torch.float64))
    theta = objective.pack(model.state_dict())
    steps = torch.eye(theta.shape[1], dtype=torch.float64)
    slopes, curves = [], []
    for step in steps:
        # Fourth order: exact for the polynomial activations, and 1e-10 accurate for the others.
        def difference(f: Callable[[Tensor], Tensor], step: Tensor = step) -> Tensor:
            h = 1e-4 if activation in ("identity", "square") else 1e-6
            wide, narrow = (f(theta + k * h * step) - f(theta - k * h * step) for k in (2, 1))
            return (8 * narrow - wide) / (12 * h)

        slopes.append(difference(objective.loss))
        curves.append(difference(objective.gradient))
    gradient, hessian = objective.gradient(theta), objective.hessian(theta)
    scale = hessian.abs().max().item() + 1
    assert_close(gradient, torch.stack(slopes, -1), rtol=0, atol=1e-6 * scale)
    assert_close(hessian, torch.stack(curves, -1), rtol=0, atol=1e-4 * scale)
    assert_close(hessian, hessian.mT, rtol=0, atol=1e-12 * scale)
