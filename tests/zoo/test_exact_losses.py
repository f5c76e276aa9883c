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
from polysem.zoo import TiedAutoencoder, UntiedAutoencoder, _pieces, expected_loss

ACTIVATIONS: dict[str, Callable[[float], float]] = {"relu": lambda z: max(z, 0.0), "abs": abs}
KINDS = [TiedAutoencoder, UntiedAutoencoder]
GAUSS = [((1 + x) / 2, w / 2) for x, w in zip(*np.polynomial.legendre.leggauss(3), strict=True)]
"""Nodes in [0, 1] and weights, exact for polynomials up to degree 5."""


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


def mean(low: float, slopes: list[float], offset: float, error: Callable[..., float]) -> float:
    """Mean of an error, quadratic on either side of a kink, over one uniform variable for each slope of the kink.

    Adaptive quadrature, split where the kink passes a corner of the variables further in; three Gauss nodes on either
    side of the kink for the last one.
    """
    slope, *inner = slopes
    corners = [offset + sum(corner) for corner in itertools.product(*((low * s, s) for s in inner))]
    kinks = sorted({min(max(-corner / slope, low), 1.0) for corner in corners}) if slope else []
    if inner:

        def given(x: float) -> float:
            return mean(low, inner, offset + slope * x, lambda *rest: error(x, *rest))

        total = integrate.quad(given, low, 1, points=kinks or None, epsabs=1e-12, epsrel=1e-12, limit=200)[0]
    else:
        total = 0.0
        for start, stop in itertools.pairwise([low, *kinks, 1.0]):
            total += sum(w * (stop - start) * error(start + x * (stop - start)) for x, w in GAUSS)
    return total / (1 - low)


def support_means(model: TiedAutoencoder | UntiedAutoencoder, low: float) -> dict[tuple[int, ...], list[float]]:
    """Expected squared error of each output given the set of active uniform features."""
    G, b, n = model.response()[0].tolist(), model.b[0].tolist(), model.n_features
    act, result = ACTIVATIONS[str(model.activation)], {}
    for support in itertools.product((0, 1), repeat=n):
        members = [i for i in range(n) if support[i]]
        result[support] = []
        for j in range(n):

            def error(*values: float, j: int = j, members: list[int] = members) -> float:
                z = b[j] + sum(G[j][i] * x for i, x in zip(members, values, strict=True))
                return (act(z) - (values[members.index(j)] if j in members else 0.0)) ** 2

            slopes = [G[j][i] for i in members]
            result[support].append(mean(low, slopes, b[j], error) if members else error())
    return result


def quadrature(means: dict[tuple[int, ...], list[float]], p: list[float], importance: list[float]) -> float:
    """The expected loss of uniform features from its means support by support."""
    chance = {s: math.prod(q if on else 1 - q for q, on in zip(p, s, strict=True)) for s in means}
    return sum(chance[s] * sum(weight * m for weight, m in zip(importance, of, strict=True)) for s, of in means.items())


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("seed", range(20))
def test_uniform_features_agree_with_adaptive_quadrature(n: int, seed: int) -> None:
    g = seeded(1000 + seed)
    kind, activation, signed = KINDS[seed % 2], ("relu", "abs")[seed % 5 == 4], seed % 3 == 2
    p = torch.rand(n, generator=g, dtype=torch.float64).pow(2).tolist()
    importance = torch.rand(n, generator=g, dtype=torch.float64).tolist()
    model = random_model(kind, n, 1 + seed % n, activation, seed=seed)
    exact = expected_loss(model, SparseUniform(p, signed=signed), importance)
    truth = quadrature(support_means(model, -1.0 if signed else 0.0), p, importance)
    assert_close(exact.value.item(), truth, rtol=1e-9, atol=1e-12)
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
    "three weights 0": ([[0.0], [0.0], [0.0]], [0.3, -0.2, 0.0]),
    "two of three weights 0": ([[1.0], [0.0], [0.0]], [0.0, 0.25, -0.1]),
    "three by themselves": ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [0.0, 0.0, 0.0]),
    "pair and own dimension": ([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], [0.0, 0.0, 0.0]),
    "triangle": ([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]], [0.0, 0.1, -0.25]),
    "kink on a face and through edges": ([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]], [-1.0, -1.0, 0.0]),
    "kink through corners of the cube": ([[1.0], [1.0], [1.0]], [-3.0, -2.0, -1.0]),
    "kink through a corner and across": ([[0.8], [-0.6], [0.4]], [-0.16, 0.12, 0.08]),
    "dead three": ([[1.0], [0.5], [0.2]], [-3.0, -4.0, -2.0]),
    "tiny weight of three": ([[1.0], [1e-9], [0.5]], [-0.4, 1e-10, -0.9]),
    "two tiny weights": ([[1e-9], [1e-9], [1.0]], [-4e-10, 1e-10, -0.3]),
    "three tiny weights": ([[1e-8], [-1e-8], [2e-8]], [1e-17, -1e-17, -2e-16]),
    "huge three": ([[1e4], [-1e3], [1e2]], [-3e7, 2.0, 1e5]),
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize(("activation", "signed"), [("relu", False), ("relu", True), ("abs", False)])
def test_hard_places(name: str, activation: str, signed: bool) -> None:
    W, b = HARD[name]
    model = TiedAutoencoder(len(W), len(W[0]), activation=activation)
    set_parameters(model, W, b)
    means, importance = support_means(model, -1.0 if signed else 0.0), [1.0, 0.7, 0.4][: len(W)]
    for p in ([1.0, 1.0, 1.0], [1.0, 0.3, 0.4], [1e-6, 1e-6, 1e-6], [0.2, 0.1, 0.3]):
        features = SparseUniform(p[: len(W)], signed=signed)
        exact = expected_loss(model, features, importance).value.item()
        assert_close(exact, quadrature(means, p[: len(W)], importance), rtol=1e-9, atol=1e-16)
        objective = model.objective(features, importance)
        theta = objective.pack(model.state_dict())
        assert objective.gradient(theta).isfinite().all()
        assert objective.hessian(theta).isfinite().all()


@settings(deadline=None, max_examples=60)
@given(
    slopes=st.lists(st.one_of(st.floats(-2, 2), st.sampled_from([0.0, 1e-300, -1e-12, 1e6])), min_size=1, max_size=3),
    b=st.floats(-2, 2),
    low=st.sampled_from([0.0, -1.0]),
)
def test_both_sides_of_a_kink_make_up_the_whole(slopes: list[float], b: float, low: float) -> None:
    """`E[u_i u_k]` from `E x = (1 + low) / 2`, `E x² = (1 + low + low²) / 3`; the edge counts for neither side."""
    assume(b != 0)
    g, offset = [torch.tensor(slope, dtype=torch.float64) for slope in slopes], torch.tensor(b, dtype=torch.float64)
    both = _pieces.side(g, offset, low) + _pieces.side([-slope for slope in g], -offset, low)
    mean, square, d = (1 + low) / 2, (1 + low + low**2) / 3, len(slopes)
    for (i, k), found in zip(_pieces.pairs(d), both.tolist(), strict=True):
        expected = 1.0 if i == d else mean if k == d else square if i == k else mean**2
        assert found == pytest.approx(expected, rel=0, abs=1e-14)


def test_features_that_never_meet_cost_what_they_cost_apart() -> None:
    """A pair on one axis and a third feature on the other; what is dropped costs its variance."""
    p, importance = [0.3, 0.2, 0.6], [1.0, 0.8, 0.5]
    pair, three = TiedAutoencoder(2, 1), TiedAutoencoder(3, 2, n_inst=2)
    set_parameters(pair, [[0.9], [-1.1]], [0.02, 0.05])
    apart = [[0.9, 0.0], [-1.1, 0.0]]
    set_parameters(three, [[*apart, [0.0, 1.0]], [*apart, [0.0, 0.0]]], [[0.02, 0.05, 0.0], [0.02, 0.05, 0.3]])
    alone = expected_loss(pair, SparseUniform(p[:2]), importance[:2]).value.item()
    own, dropped = expected_loss(three, SparseUniform(p), importance).value.tolist()
    assert_close(own, alone, rtol=1e-13, atol=0)
    assert_close(dropped, alone + 0.5 * (0.6 / 3 - 0.6**2 / 4), rtol=1e-13, atol=0)


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
    for n in (2, 3, 12, 20)
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
    assert partial == (n > (10 if isinstance(features, SparseGaussian) else 3) and activation in ("relu", "abs"))
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
    n = data.draw(st.integers(2, 3 if law in (0, 1, 2) and activation in ("relu", "abs") else 4))
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
