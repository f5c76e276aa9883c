"""What a CapacityMonitor adds to the training of a transformer of ten million parameters on the CPU.

    python benchmarks/monitor.py [--steps 200] [--every 100] [--batch 8] [--length 128] [--threads 1]

Two copies of the model take the same steps in turn, one of them watched at the default interval. Prints the time of one
measurement beside `every` median steps (goal: under 2 %), the mean step of the watched copy beside that of the other,
which scatters far more on a busy machine, and whether both end with the same weights, to the bit.
"""

import argparse
import copy
import os
import time

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from polysem.networks import CapacityMonitor

VOCABULARY, WIDTH, LAYERS = 8192, 320, 6
GOAL = 0.02


class Transformer(nn.Module):
    """A causal language model whose embedding is also its readout."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 8, 4 * WIDTH, 0.1, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.embed.weight
        nn.init.normal_(self.embed.weight, std=0.02)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next token at every place."""
        return self.head(self.body(self.embed(tokens), mask=self.mask, is_causal=True))


def step(model: Transformer, optimizer: torch.optim.Optimizer, tokens: Tensor) -> None:
    optimizer.zero_grad()
    cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
    optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    plain = Transformer(options.length)
    watched = copy.deepcopy(plain)
    plain_optimizer, watched_optimizer = (torch.optim.AdamW(m.parameters(), lr=3e-4) for m in (plain, watched))
    monitor = CapacityMonitor(watched, every=options.every)
    n_parameters = sum(p.numel() for p in plain.parameters())
    print(
        f"{n_parameters / 1e6:.1f} million parameters, {options.batch} × {options.length} tokens a step, "
        f"{len(monitor.history.matrix)} matrices watched every {options.every} steps, {options.threads} threads, "
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
    )

    times: dict[str, list[float]] = {"plain": [], "watched": [], "measurement": []}

    def timed(arm: str, index: int, tokens: Tensor) -> None:
        torch.manual_seed(index)  # both arms drop the same neurons
        start = time.perf_counter()
        if arm == "plain":
            step(plain, plain_optimizer, tokens)
        else:
            step(watched, watched_optimizer, tokens)
            monitor.step()
        times[arm].append(time.perf_counter() - start)

    monitor.start()
    for index in range(options.steps):
        tokens = torch.randint(VOCABULARY, (options.batch, options.length + 1)).sort().values
        for arm in ("plain", "watched") if index % 2 else ("watched", "plain"):
            timed(arm, index, tokens)
        if index % 10 == 0:
            start = time.perf_counter()
            CapacityMonitor(watched, every=options.every).measure()
            times["measurement"].append(time.perf_counter() - start)
    monitor.stop()

    median = {name: float(torch.tensor(values).median()) for name, values in times.items()}
    share = median["measurement"] / (options.every * median["plain"])
    one, two = (torch.tensor(times[name], dtype=torch.float64) for name in ("plain", "watched"))
    error = float((two - one).std() / len(one) ** 0.5 / one.mean())
    print(
        f"median step {median['plain']:.3f} s, watched {median['watched']:.3f} s; "
        f"a measurement {median['measurement']:.3f} s"
    )
    print(f"a measurement every {options.every} steps adds {share:.2%} (goal: under {GOAL:.0%})")
    print(f"mean watched step over mean step: {float(two.mean() / one.mean()):.4f} ± {error:.4f}")
    equal = all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))
    print(f"weights equal to the bit: {equal}; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
