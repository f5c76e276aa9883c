"""Dynamic programming over whole numbers of capacity steps."""

import numpy as np

WINDOW = 2**18
"""Elements of the largest intermediate array."""


def cheapest_choices(costs: np.ndarray, budgets: np.ndarray) -> np.ndarray:
    """Choose a number of steps for every item so that the total cost is least within the budget.

        minimise Σ_i costs[i, c_i]   subject to   Σ_i c_i ≤ budget,   c_i in {0, ..., n_choices − 1}

    Exact. One pass over the items serves all budgets: `best_i[b] = min_c best_{i−1}[b − c] + costs[i, c]`, so the
    time is `n_items · max(budgets) · n_choices`, the memory one choice per item and budget.

    Args:
        costs: cost `[n_items, n_choices]` of each number of steps; infinite where not allowed.
        budgets: largest total numbers of steps `[n_budgets]`, each large enough to allow some choice.

    Returns:
        Numbers of steps `[n_budgets, n_items]`; the fewest where costs are equal.
    """
    n_items, n_choices = costs.shape
    budgets = np.minimum(budgets, n_items * (n_choices - 1))
    n_states = int(budgets.max()) + 1
    best = np.zeros(n_states)
    choices = np.empty((n_items, n_states), dtype=np.int32)
    size = max(1, WINDOW // n_choices)
    for item, cost in enumerate(costs):
        padded = np.concatenate([np.full(n_choices - 1, np.inf), best])
        # Row b, read backwards, holds best[b], best[b − 1], ...
        windows = np.lib.stride_tricks.sliding_window_view(padded, n_choices)[:, ::-1]
        for start in range(0, n_states, size):
            part = slice(start, start + size)
            sums = windows[part] + cost
            choices[item, part] = sums.argmin(1)
            best[part] = sums.min(1)
    remaining = budgets.astype(np.int64)
    result = np.empty((len(budgets), n_items), dtype=np.int64)
    for item in reversed(range(n_items)):
        result[:, item] = choices[item, remaining]
        remaining = remaining - result[:, item]
    return result
