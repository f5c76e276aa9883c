"""Marginal returns: time of curves and of prices.

    python benchmarks/returns.py [--features 1024] [--points 32] [--draws 1024] [--threads 2]

Prints the time of all curves of a linear and a ReLU autoencoder and of one with GELU outputs, whose loss counts as an
arbitrary callable (goals: at most 10 s, 10 s and 120 s), at about as many points of each expectation as draws are asked
for; and of as many plain samples under the same losses. Then the time of prices over that of one ordinary forward and
backward pass, parameters included (goal: at most 3), and how much memory prices of 100,000 features take.
"""

import argparse
import resource
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from polysem.features import SparseUniform
from polysem.returns import Curves, Exposed, Hidden, Samples, curve, prices
from polysem.zoo import TiedAutoencoder


def timed(name: str, goal: float, function: Callable[[], Curves]) -> None:
    start, busy = time.perf_counter(), time.process_time()
    found = function()
    elapsed, busy = time.perf_counter() - start, time.process_time() - busy
    share = float((found.status == 0).double().mean())
    print(f"{name:36} {elapsed:7.2f} s (goal <= {goal:.0f}; {busy:.1f} s of processors), {share:.2%} converged")


def best_times(*functions: Callable[[], object], repeats: int = 9) -> list[float]:
    """Best wall time of each function, the functions taking turns."""
    best = [float("inf")] * len(functions)
    for _ in range(repeats):
        for index, function in enumerate(functions):
            start = time.perf_counter()
            function()
            best[index] = min(best[index], time.perf_counter() - start)
    return best


class Network(nn.Module):
    """Features, embedded in few dimensions and read from them."""

    def __init__(self, model: TiedAutoencoder) -> None:
        super().__init__()
        W = model.W.detach()[0]
        self.encoder, self.decoder = nn.Linear(*W.shape, bias=False), nn.Linear(*W.mT.shape)
        self.load_state_dict({"encoder.weight": W.mT, "decoder.weight": W, "decoder.bias": model.b.detach()[0]})

    def forward(self, x: Tensor) -> Tensor:
        """Outputs, one for each feature."""
        return torch.relu(self.decoder(self.encoder(x)))


def squared_error(output: Tensor, x: Tensor) -> Tensor:
    return (output - x).square().sum(-1)


def time_prices(n: int, width: int, batch: int) -> None:
    generator = torch.Generator().manual_seed(0)
    model = TiedAutoencoder(n, width, generator=generator, dtype=torch.float32)
    x = SparseUniform(torch.full((n,), 0.05)).sample(batch, generator=generator, dtype=torch.float32)
    network, importance, W = Network(model), torch.ones(n), model.W.detach()[0]

    def ordinary() -> None:
        squared_error(network(x), x).mean().backward()

    hidden, exposed = Hidden("encoder", W), Exposed("decoder", W)
    ways = {
        "toy model": lambda: prices(model, x, importance),
        "network, exposed": lambda: prices(network, x, squared_error, readout=exposed, embedding=W),
        "network, hidden": lambda: prices(network, x, squared_error, readout=hidden, embedding=W),
    }
    floor, *ours = best_times(ordinary, *ways.values())
    for name, elapsed in zip(ways, ours, strict=True):
        print(f"prices, {name:20} {elapsed / floor:5.2f} passes (goal <= 3; {elapsed:.4f} s over {floor:.4f} s)")


def memory_of_prices(n: int, width: int, batch: int) -> None:
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(n, width, generator=generator)
    network = nn.Sequential(nn.EmbeddingBag.from_pretrained(W, mode="sum"), nn.Identity(), nn.Linear(width, 1))
    chosen = torch.randint(n, (batch, 20), generator=generator)
    x = torch.zeros(batch, n).scatter_(1, chosen, 1.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    prices(network, chosen, lambda y, _: y.square().sum(-1), readout=Hidden("1", W), embedding=W, features=x)
    elapsed = time.perf_counter() - start
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"prices of {n:,} features, {batch} samples: {elapsed:.2f} s, peak {more:.0f} MiB beyond the features' values"
    )


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
    memory_of_prices(100_000, 64, 512)
    time_prices(options.features, options.width, options.draws)
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
