"""Trained capacities against the closed-form optimum on random instances.

    python benchmarks/training.py [--count 300] [--restarts 32] [--seed 0]

The instances of benchmarks/allocation.py with at most 20 features. Prints, for each kind of kurtosis, in how many
instances the best of the restarts reaches the optimal loss within 1e-6 (goals: all of them where every F is above 3, at
least 95 % elsewhere, where strict local minima exist), and which share of the single restarts does.
"""

import argparse
import time

import torch
from allocation import random_instances

from polysem.features import SparseSign
from polysem.theory import allocate
from polysem.training import FitStatus, fit
from polysem.zoo import QuadraticModel

MOST_FEATURES = 20
TOLERANCE = 1e-6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=330, help="random instances before the large ones are dropped")
    parser.add_argument("--restarts", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    kinds: dict[str, list[tuple[float, float, float]]] = {"all F above 3": [], "all F below 3": [], "mixed": []}
    start = time.perf_counter()
    for index, (v, kurtosis, total) in enumerate(random_instances(options.count, options.seed)):
        if len(v) > MOST_FEATURES:
            continue
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + index)
        model = QuadraticModel(len(v), total, n_inst=options.restarts, generator=generator)
        done = fit(model, SparseSign.from_kurtosis(kurtosis, standardise=True), v)
        excess = done.loss / allocate(v, kurtosis, total).loss - 1
        kind = "all F above 3" if (kurtosis >= 3).all() else "all F below 3" if (kurtosis < 3).all() else "mixed"
        reached = float((excess <= TOLERANCE).double().mean())
        converged = float((done.status == int(FitStatus.CONVERGED)).double().mean())
        kinds[kind].append((float(excess.min()), reached, converged))

    count = sum(map(len, kinds.values()))
    print(f"{count} instances with at most {MOST_FEATURES} features, {options.restarts} restarts each")
    for kind, results in kinds.items():
        best, reached, converged = torch.tensor(results, dtype=torch.float64).T
        found = (best <= TOLERANCE).double().mean()
        print(
            f"{kind:14} {len(best):4} instances: best restart at the optimum in {found:.1%}, "
            f"worst excess {best.max():+.1e}, least {best.min():+.1e}; "
            f"single restarts at the optimum {reached.mean():.1%}, converged {converged.mean():.1%}"
        )
    elapsed = time.perf_counter() - start
    print(f"{elapsed:.0f} s, {elapsed / count:.2f} s an instance")


if __name__ == "__main__":
    main()
