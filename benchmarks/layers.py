"""Large networks layer by layer: time of training and of measuring, and what is found, on any device.

    python benchmarks/layers.py [--large] [--device cpu] [--steps 2000] [--threads 2]

Prints the time of `returns.layers` at all states over that of one ordinary forward and backward pass over the same
samples. Then trains and measures both networks of `studies.layers` (1,024 features in 128 dimensions; `--large` 16,384
in 1,024, for a GPU) and prints time, peak memory and a line for each state.
"""

import argparse
import resource
import time
from dataclasses import replace

import torch
from torch import Tensor

from polysem.features import SparseUniform, zipf
from polysem.returns import layers as measure
from polysem.studies import LayersConfig, layers
from polysem.zoo import ResidualMLP


def run(config: LayersConfig) -> None:
    start, busy = time.perf_counter(), time.process_time()
    found = layers(config)
    wait(config.device)
    elapsed, busy = time.perf_counter() - start, time.process_time() - busy
    print(f"{config}\n{elapsed:.0f} s ({busy:.0f} s of processors), {memory(config.device):.1f} GiB at most")
    for network in found.networks:
        print(
            f"{network.task}: loss {network.relative_loss:.3f} of ignoring all, monosemantic {network.monosemantic:.3f}"
        )
        for name, state in (*((s.name, s) for s in network.states), ("outputs, untrained", network.start)):
            print(
                f"  {name:18} {state.signal:3} capacity {float(state.capacity.sum()):7.1f}; {state.test.says}; mean "
                f"benefit {float(state.test.prices.mean):.2e}, to the whole loss {state.whole_share:.0%} of that"
            )


def time_measurement(config: LayersConfig) -> None:
    generator = torch.Generator(config.device).manual_seed(0)
    model = ResidualMLP(
        config.n_features,
        config.d_hidden,
        n_layers=config.n_layers,
        d_mlp=config.d_mlp,
        output="relu",
        generator=generator,
        dtype=torch.float32,
    )
    p = torch.full((config.n_features,), config.feature_probability, device=config.device)
    x = SparseUniform(p).sample(4096, generator=generator, dtype=torch.float32)
    network, scale = model.network(), zipf(config.n_features).to(x)

    def own(output: Tensor, x: Tensor) -> Tensor:
        return scale * (output - x).square()

    def ordinary() -> None:
        own(network(x), x).sum(-1).mean().backward()

    names = ["embed", *(f"block_{k}" for k in range(1, config.n_layers + 1))]
    best = [float("inf")] * 2
    for _ in range(5):
        for index, function in enumerate((ordinary, lambda: measure(network, x, own, names, per_feature=True))):
            start = time.perf_counter()
            function()
            wait(config.device)
            best[index] = min(best[index], time.perf_counter() - start)
    print(
        f"returns.layers at {len(names)} states: {best[1] / best[0]:.1f} passes ({best[1]:.3f} s over {best[0]:.3f} s)"
    )


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def memory(device: str) -> float:
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=LayersConfig.adam_steps)
    parser.add_argument("--samples", type=int, help="on which states are measured")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = LayersConfig().large(options.device) if options.large else LayersConfig(device=options.device)
    config = replace(config, adam_steps=options.steps, samples=options.samples or config.samples)
    time_measurement(config)
    run(config)


if __name__ == "__main__":
    main()
