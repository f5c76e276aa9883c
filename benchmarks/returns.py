"""Marginal returns: time of curves.

    python benchmarks/returns.py [--features 1024] [--points 32] [--draws 1024] [--threads 2]

Prints the time of all curves of a linear and a ReLU autoencoder and of one with GELU outputs, whose loss counts as an
arbitrary callable (goals: at most 10 s, 10 s and 120 s), at about as many points of each expectation as draws are asked
for; and of as many plain samples under the same losses.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch.nn import functional

from polysem.features import SparseUniform
from polysem.returns import Curves, Samples, curve
from polysem.zoo import TiedAutoencoder


def timed(name: str, goal: float, function: Callable[[], Curves]) -> None:
    start, busy = time.perf_counter(), time.process_time()
    found = function()
    elapsed, busy = time.perf_counter() - start, time.process_time() - busy
    share = float((found.status == 0).double().mean())
    print(f"{name:36} {elapsed:7.2f} s (goal <= {goal:.0f}; {busy:.1f} s of processors), {share:.2%} converged")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--points", type=int, default=32)
    parser.add_argument("--draws", type=int, default=1024)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    features = SparseUniform(torch.full((options.features,), 0.05))
    C = torch.linspace(0, 1, options.points)
    generator = torch.Generator().manual_seed(0)
    print(f"{options.features} features x {options.points} points, {options.draws} draws, {options.threads} threads")
    goals = {"identity": 10.0, "relu": 10.0, "gelu": 120.0}
    for activation, goal in goals.items():
        model = TiedAutoencoder(options.features, options.width, activation=activation, generator=generator)
        importance = torch.ones(options.features)
        timed(
            f"curves of an autoencoder, {activation}",
            goal,
            lambda model=model, importance=importance: curve(model, features, importance, C=C, n_samples=options.draws),
        )
    x = features.sample(options.draws, generator=generator)
    R = model.response().detach()[0]
    losses = {"linear": 10.0, "relu": 10.0, "callable": 120.0}
    for loss, goal in losses.items():
        given = (lambda z, y: (functional.gelu(z) - y).square()) if loss == "callable" else loss
        samples = Samples(x=x, response=R, loss=given)
        timed(f"curves of samples, {loss}", goal, lambda samples=samples: curve(samples, C=C))


if __name__ == "__main__":
    main()
