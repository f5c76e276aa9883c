"""The closed-form allocation against independent solvers on random instances.

    python benchmarks/allocation.py [--count 200] [--seed 0]

Convex instances (every kurtosis at least 3) go to cvxpy's conic solver. The others go to dynamic programming over
a capacity grid, followed by SLSQP from the best grid point. A negative gap means that the closed form is better.
"""

import argparse
import time

import cvxpy
import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from polysem.theory import allocate, loss, marginal_benefit

Instance = tuple[Tensor, Tensor, int]


def random_instances(count: int, seed: int) -> list[Instance]:
    """`(v, kurtosis, total)` with N up to 30, whole totals up to 10 and kurtosis from 1.2 to 100.

    The kinds take turns: every kurtosis above 3, every one below 3, both.
    """
    rng = np.random.default_rng(seed)
    ends = [(3.0, 100.0), (1.2, 3.0), (1.2, 100.0)]
    instances = []
    for index in range(count):
        n_features = int(rng.integers(2, 31))
        low, high = np.log(ends[index % 3])
        kurtosis = np.exp(rng.uniform(low, high, n_features))
        v = rng.uniform(0.1, 1.0, n_features)
        total = int(rng.integers(1, min(10, n_features - 1) + 1))
        instances.append((torch.from_numpy(v), torch.from_numpy(kurtosis), total))
    return instances


def conic(v: Tensor, kurtosis: Tensor, total: float) -> tuple[Tensor, float]:
    """Capacities and price from cvxpy, for kurtosis of at least 3.

    With s = 1 − C the loss is 2 v² (s + (F − 3) s² / (F − 1 − (F − 3) s)), a second-order cone that stays well
    scaled at F = 3.
    """
    s = cvxpy.Variable(len(v))
    budget = cvxpy.sum(s) >= len(v) - total
    terms = [
        2 * vi**2 * (s[i] + (F - 3) * cvxpy.quad_over_lin(s[i], F - 1 - (F - 3) * s[i]))
        for i, (vi, F) in enumerate(zip(v.tolist(), kurtosis.tolist(), strict=True))
    ]
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(terms)), [s >= 0, s <= 1, budget])
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    capacity = np.clip(1 - s.value, 0, 1)
    return torch.from_numpy(capacity * min(1.0, total / capacity.sum())), float(budget.dual_value)


def grid_then_slsqp(v: Tensor, kurtosis: Tensor, total: float, points: int = 201) -> Tensor:
    """Capacities from dynamic programming over a grid, refined by a local solver; any kurtosis."""
    table = loss(v[:, None], kurtosis[:, None], torch.linspace(0, 1, points, dtype=torch.float64)).numpy()
    n_states = int(total * (points - 1) + 1e-9) + 1
    best, choices = np.zeros(n_states), []
    for costs in table:
        previous, best = best, np.full(n_states, np.inf)
        choice = np.zeros(n_states, dtype=int)
        for steps, cost in enumerate(costs[:n_states]):
            candidate = previous[: n_states - steps] + cost
            better = candidate < best[steps:]
            best[steps:][better] = candidate[better]
            choice[steps:][better] = steps
        choices.append(choice)
    state, start = n_states - 1, []
    for choice in reversed(choices):
        start.append(choice[state] / (points - 1))
        state -= choice[state]

    grid_point = np.array(start[::-1])
    found = minimize(
        lambda C: loss(v, kurtosis, C.clip(0, 1)).sum().item(),
        grid_point,
        jac=lambda C: -marginal_benefit(v, kurtosis, C.clip(0, 1)).numpy(),
        bounds=[(0, 1)] * len(v),
        constraints={"type": "ineq", "fun": lambda C: total - C.sum(), "jac": lambda C: -np.ones_like(C)},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    refined = found.x.clip(0, 1)
    refined *= min(1.0, total / refined.sum())
    options = [torch.from_numpy(C) for C in (grid_point, refined)]
    return min(options, key=lambda C: loss(v, kurtosis, C).sum().item())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="number of random instances")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    gaps: dict[str, list[float]] = {"all F above 3": [], "all F below 3": [], "mixed": []}
    seconds = {"closed form": 0.0, "solvers": 0.0}
    for v, kurtosis, total in random_instances(arguments.count, arguments.seed):
        clock = time.perf_counter()
        closed = allocate(v, kurtosis, total).loss.item()
        seconds["closed form"] += time.perf_counter() - clock
        clock = time.perf_counter()
        convex = bool((kurtosis >= 3).all())
        C = conic(v, kurtosis, total)[0] if convex else grid_then_slsqp(v, kurtosis, total)
        seconds["solvers"] += time.perf_counter() - clock
        kind = "all F above 3" if convex else "all F below 3" if bool((kurtosis < 3).all()) else "mixed"
        gaps[kind].append(closed / loss(v, kurtosis, C).sum().item() - 1)

    print("loss of the closed form against the solver, relative")
    for kind, values in gaps.items():
        if values:
            agree = sum(abs(value) <= 1e-9 for value in values)
            print(
                f"{kind:14}  {len(values):4} instances  worst {max(values):+.1e}  best {min(values):+.1e}  "
                f"within 1e-9: {agree}"
            )
    print("  ".join(f"{name} {value:.1f} s" for name, value in seconds.items()))


if __name__ == "__main__":
    main()
