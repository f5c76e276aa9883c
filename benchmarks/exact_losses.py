"""Exact expected losses of autoencoders against independent truths.

    python benchmarks/exact_losses.py [--sets 100] [--samples 10000000] [--seed 0]

Prints the worst relative difference to scipy's adaptive quadrature, over random sets of parameters for two uniform
features (goal 1e-9); the worst difference of gradients to finite differences of the loss (goal 1e-6); and, for each
activation, law and number of features, by how many standard errors plain samples differ (goal 4).
"""

import argparse
import math
import time
from collections.abc import Callable

import torch
from scipy import integrate
from torch import Tensor

from polysem.features import SparseFeatures, SparseGaussian, SparseLaplace, SparseSign, SparseUniform
from polysem.zoo import TiedAutoencoder, UntiedAutoencoder, expected_loss

Model = TiedAutoencoder | UntiedAutoencoder
KINDS = (TiedAutoencoder, UntiedAutoencoder)
TAIL_SAMPLES = 1_000_000
CHUNK = 250_000
STEP = 1e-5
ACCURACY = {"epsabs": 1e-12, "epsrel": 1e-11}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_model(kind: type[Model], n: int, d: int, activation: str, seed: int) -> Model:
    g = seeded(seed)
    model = kind(n, d, activation=activation, generator=g)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
        model.b.add_(0.3 * torch.randn(1, n, generator=g, dtype=torch.float64))
    return model


def by_quadrature(model: Model, p: list[float], importance: list[float], low: float) -> float:
    """Support by support, output by output, by scipy's adaptive quadrature on both sides of the kink."""
    act: Callable[[float], float] = abs if model.activation == "abs" else lambda z: max(z, 0.0)
    span, total = 1 - low, 0.0
    for j, (weight, (a, c), b) in enumerate(
        zip(importance, model.response()[0].tolist(), model.b[0].tolist(), strict=True)
    ):

        def error(y: float, x: float, j: int = j, a: float = a, c: float = c, b: float = b) -> float:
            return (act(a * x + c * y + b) - (x, y)[j]) ** 2

        def kink(x: float, a: float = a, c: float = c, b: float = b) -> float:
            return min(max(-(a * x + b) / c, low), 1.0)

        only_x = integrate.quad(
            lambda x: error(0, x), low, 1, points=[-b / a] if low < -b / a < 1 else None, **ACCURACY
        )
        only_y = integrate.quad(
            lambda y: error(y, 0), low, 1, points=[-b / c] if low < -b / c < 1 else None, **ACCURACY
        )
        below = integrate.dblquad(error, low, 1, low, kink, **ACCURACY)
        above = integrate.dblquad(error, low, 1, kink, 1, **ACCURACY)
        total += weight * (
            (1 - p[0]) * (1 - p[1]) * error(0, 0)
            + p[0] * (1 - p[1]) * only_x[0] / span
            + (1 - p[0]) * p[1] * only_y[0] / span
            + p[0] * p[1] * (below[0] + above[0]) / span**2
        )
    return total


def slope_error(model: Model, features: SparseFeatures, importance: list[float]) -> float:
    """Worst difference of the gradient to central differences of fourth order."""
    objective = model.objective(features, importance)
    theta = objective.pack(model.state_dict())
    found = torch.zeros_like(theta)
    for i, step in enumerate(STEP * torch.eye(theta.shape[1], dtype=torch.float64)):
        wide, narrow = (objective.loss(theta + k * step) - objective.loss(theta - k * step) for k in (2, 1))
        found[:, i] = (8 * narrow - wide) / (12 * STEP)
    return float((objective.gradient(theta) - found).abs().max())


def laws(n: int) -> dict[str, SparseFeatures]:
    p = [0.02 + 0.9 * (i + 1) / n / (1 + i) for i in range(n)]
    return {
        "uniform": SparseUniform(p),
        "signed uniform": SparseUniform(p, signed=True),
        "standardised uniform": SparseUniform(p, standardise=True),
        "Gaussian": SparseGaussian(p),
        "standardised Gaussian": SparseGaussian(p, standardise=True),
        "Laplace": SparseLaplace(p),
        "sign": SparseSign(p, standardise=True),
    }


def plain_samples(model: Model, features: SparseFeatures, importance: list[float], n: int) -> tuple[float, float]:
    generator, weight = seeded(11), torch.tensor(importance, dtype=torch.float64)
    W, V, b = (part.detach()[0] for part in (model.embedding, model.readout, model.b))
    act: Callable[[Tensor], Tensor] = {
        "identity": torch.positive,
        "relu": torch.relu,
        "abs": torch.abs,
        "square": torch.square,
    }[str(model.activation)]
    total = squares = 0.0
    for start in range(0, n, CHUNK):
        x = features.sample(min(CHUNK, n - start), generator=generator)
        losses = (act(x @ W @ V.T + b) - x).square() @ weight
        total, squares = total + float(losses.sum()), squares + float(losses.square().sum())
    return total / n, math.sqrt((squares / n - (total / n) ** 2) / n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=100, help="random sets of parameters for quadrature")
    parser.add_argument("--samples", type=int, default=10_000_000, help="plain samples of each case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    begin, differences, slopes = time.perf_counter(), [], []
    for index in range(options.sets):
        seed = options.seed * 1_000_003 + index
        g = seeded(seed)
        p = torch.rand(2, generator=g, dtype=torch.float64).square().tolist()
        importance = torch.rand(2, generator=g, dtype=torch.float64).tolist()
        activation, signed = ("relu", "relu", "abs")[index % 3], index % 4 == 3
        model = random_model(KINDS[index % 2], 2, 1 + index % 5 % 2, activation, seed)
        features = SparseUniform(p, signed=signed)
        truth = by_quadrature(model, p, importance, -1.0 if signed else 0.0)
        differences.append(abs(float(expected_loss(model, features, importance).value) / truth - 1))
        slopes.append(slope_error(model, features, importance))
    print(
        f"two uniform features, {options.sets} sets of parameters: worst relative difference to quadrature "
        f"{max(differences):.1e}, of gradients to finite differences {max(slopes):.1e}; "
        f"{time.perf_counter() - begin:.0f} s"
    )

    begin, worst = time.perf_counter(), 0.0
    for n in (2, 3, 5, 20):
        importance = [0.95**i for i in range(n)]
        for name, features in laws(n).items():
            for index, activation in enumerate(("identity", "relu", "abs", "square")):
                model = random_model(KINDS[index % 2], n, max(1, n // 3), activation, options.seed + n)
                try:
                    drawn = model.partial_loss(features, importance) is not None
                except ValueError:
                    continue  # no closed form for this activation and law
                draws = {"n_samples": TAIL_SAMPLES, "generator": seeded(7)} if drawn else {}
                exact = expected_loss(model, features, importance, **draws)
                mean, error = plain_samples(model, features, importance, options.samples)
                off = abs(mean - float(exact.value)) / math.hypot(error, float(exact.stderr))
                worst = max(worst, off)
                if not drawn:
                    note = f"gradient off by {slope_error(model, features, importance):.0e}"
                else:
                    note = f"standard error {float(exact.stderr / exact.value):.1e} of it, plain {error / mean:.1e}"
                print(f"{n:3} {name:22} {activation:9} {float(exact.value):.6f}: {off:.1f} standard errors; {note}")
    print(f"worst: {worst:.1f} standard errors of {options.samples} samples; {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
