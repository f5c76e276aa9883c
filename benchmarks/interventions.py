"""Flattening curves one by one on a quadratic model with many features, and many curves at once.

    python benchmarks/interventions.py [--features 1024] [--width 64] [--steps 60] [--at-once 32 128 1024] [--seed 0]

One model with kurtosis 20 and importances from 1 to 1/10, trained by `--train` steps of Adam; then
`flatten_one_by_one` with so many steps a round. Prints side by side rounds, processor seconds, features still impure,
polysemanticity, and the loss over that of the best monosemantic set; with `flatten` all at once, on a ramp, and (in
models of at most 4,096 parameters) masking all but the best at once. `--at-once 1` takes a round for every feature.
"""

import argparse
import time
from collections.abc import Callable

import torch

from polysem.features import SparseSign
from polysem.interventions import Flattened, Masked, OneByOne, flatten, flatten_one_by_one, mask
from polysem.theory import allocate
from polysem.training import FitConfig
from polysem.zoo import QuadraticModel

KURTOSIS = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--at-once", type=int, nargs="+", default=[32, 128, 1024])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    n, d = options.features, options.width
    features = SparseSign.from_kurtosis([KURTOSIS] * n, standardise=True)
    v = torch.logspace(0, -1, n, dtype=torch.float64)
    best = float((KURTOSIS - 1) * v[d:].square().sum())
    start = QuadraticModel(n, d, generator=torch.Generator().manual_seed(options.seed), device=options.device)
    trained = flatten(start, features, v, FitConfig(adam_steps=options.train), kappa=0.0)
    print(f"{n} features in {d} dimensions: {int(trained.n_impure)} impure")
    print(f"loss / best monosemantic: trained {float(trained.fit.loss) / best:.4f}, ", end="")
    print(f"optimum {float(allocate(v, KURTOSIS, d).loss) / best:.4f}")
    print(f"{'':28} rounds   steps  CPU s    s  impure  polysem.  loss / best  status")

    def report(name: str, treat: Callable[[], Flattened | Masked | OneByOne]) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        done = treat()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        rounds = int(done.history.n_rounds) if isinstance(done, OneByOne) else 1
        status = "" if not isinstance(done, OneByOne) else ("monosemantic", "exhausted")[int(done.status)]
        print(
            f"{name:28} {rounds:6} {int(done.fit.n_steps):7} {cpu:6.0f} {wall:4.0f} {int(done.n_impure):7} "
            f"{float(done.polysemanticity):9.4f} {float(done.fit.loss) / best:12.4f}  {status}",
            flush=True,
        )

    model, short = trained.fit.model, FitConfig(adam_steps=options.steps)
    for k in options.at_once:
        report(f"{k} in a round", lambda k=k: flatten_one_by_one(model, features, v, short, at_once=k))
    long = FitConfig(adam_steps=20 * options.steps)
    report("all at once, a tenth of κ", lambda: flatten(model, features, v, long, share=0.1))
    few = FitConfig(adam_steps=5 * options.steps, polish="none")
    if n * d <= 4096:  # without penalties a fit ends with a matrix of second derivatives
        report("mask all but the best", lambda: mask(model, features, v, few, by="gain", keep=d))


if __name__ == "__main__":
    main()
