"""The optimal division of a total capacity among arbitrary loss curves, given on a grid."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator

from polysem import _checks
from polysem.theory._allocation import Allocation, Status
from polysem.theory._knapsack import cheapest_choices

FINER = 10
ROUNDS = 5
"""The polish makes the step `FINER` times smaller, `ROUNDS` times."""

FLOAT32 = 2.0**-23
"""A grid may be rounded to float32."""

JUMP = 10.0
"""A first step of the grid that changes the loss this many times as much as the second counts as a jump at 0."""


def allocate_curves(C_grid: object, losses: object, total: object) -> Allocation:
    """Divide a total capacity among features whose losses are known only as curves over capacity.

        minimise Σ_i losses_i(C_i)   subject to   Σ C_i ≤ total,   0 ≤ C_i ≤ 1

    The curves may have any shape. Dynamic programming finds the global optimum on the grid. It is then repeated
    in a window around the best point, five times with a step ten times finer, on monotone cubic interpolants
    (PCHIP: they do not overshoot). What rounding to the last step leaves of the total is shared equally by the
    features strictly inside. A curve that jumps at C = 0, or falls too steeply there for the grid to tell, has
    its first point to itself: nothing is assumed between it and the next, so such a feature takes 0 or at least
    one grid step.

    The price is the mean slope `−dL_i/dC` of the features strictly inside, which agree at an optimum; if none
    is, the largest slope to the right among features below 1 (through a jump: the slope of the chord), or 0.

    Time: `n_features · K · min(total, n_features) (K − 1)` for the grid, once for all totals, and some
    `400 n_features²` a round for each total. Memory: `4 n_features · min(total, n_features) (K − 1)` bytes.

    Args:
        C_grid: uniform grid `[K]` of capacities from 0 to 1.
        losses: finite loss `[n_features, K]` of each feature at each capacity.
        total: non-negative total capacity in dimensions, one number or `[*batch]`, on the grid or off it.

    Returns:
        The allocation, without squared norms; status `INTERPOLATED`, or `SATURATED` where the price is 0.

    Raises:
        ValueError: a grid that is not uniform from 0 to 1, losses that are not finite or do not fit the grid, a
            total that is negative or not finite.
        TypeError: something that is not a number, an array or a tensor.

    Example:
        >>> import torch
        >>> from polysem.theory import allocate_curves, loss
        >>> C = torch.linspace(0, 1, 51)
        >>> best = allocate_curves(C, loss([[1.0], [0.8]], 5.0, C), total=1)
        >>> best.capacity, best.loss
        (tensor([0.6667, 0.3333], dtype=torch.float64), tensor(2.0800, dtype=torch.float64))

    Source: ours.
    """
    curves, device = _Curves.of(C_grid, losses)
    budget = _checks.as_float64("total", total)
    allowed = "non-negative and finite"
    _checks.require(bool((budget.isfinite() & (budget >= 0)).all()), "total", total, allowed)

    totals = budget.detach().cpu().numpy().reshape(-1)
    capacity = np.zeros((len(totals), len(curves.on_grid)))
    price, loss = np.zeros_like(totals), np.zeros_like(totals)
    if len(totals):
        starts = cheapest_choices(curves.on_grid, curves.budget(totals, curves.cells))
        for cell, start in enumerate(starts):
            capacity[cell], price[cell], loss[cell] = curves.polish(start, totals[cell])
    status = np.where(price > 0, int(Status.INTERPOLATED), int(Status.SATURATED))
    shape = budget.shape
    return Allocation(
        capacity=torch.from_numpy(capacity).to(device).reshape(*shape, len(curves.on_grid)),
        price=torch.from_numpy(price).to(device).reshape(shape),
        loss=torch.from_numpy(loss).to(device).reshape(shape),
        status=torch.from_numpy(status).to(device).reshape(shape),
        squared_norm=None,
    )


@dataclass(frozen=True)
class _Curves:
    """Loss curves on a uniform grid and between its points.

    Attributes:
        on_grid: losses `[n_features, K]`.
        coefficients: of the cubics in the distance from a cell's left end, `[4, K − 1, n_features]`.
        jumps: whether the first point stands alone `[n_features]`.
    """

    on_grid: np.ndarray
    coefficients: np.ndarray
    jumps: np.ndarray

    @classmethod
    def of(cls, C_grid: object, losses: object) -> "tuple[_Curves, torch.device]":
        grid, table = _checks.as_float64("C_grid", C_grid), _checks.as_float64("losses", losses)
        uniform = grid.ndim == 1 and len(grid) >= 2
        if uniform:
            wanted = torch.linspace(0, 1, len(grid), dtype=torch.float64, device=grid.device)
            uniform = bool(((grid - wanted).abs() <= FLOAT32).all())
        _checks.require(uniform, "C_grid", C_grid, "uniform from 0 to 1 with at least two points")
        fits = table.ndim == 2 and len(table) > 0 and table.shape[1] == len(grid)
        _checks.require(fits, "shape of losses", list(table.shape), f"[n_features, {len(grid)}], as C_grid asks")
        _checks.require(bool(table.isfinite().all()), "losses", losses, "finite")

        y = table.detach().cpu().numpy()
        x = np.linspace(0.0, 1.0, y.shape[1])
        jumps = np.zeros(len(y), dtype=bool)
        coefficients = PchipInterpolator(x, y, axis=1).c.copy()
        if len(x) > 2:
            jumps = np.abs(y[:, 0] - y[:, 1]) > JUMP * np.abs(y[:, 1] - y[:, 2])
            coefficients[:, 1:, jumps] = PchipInterpolator(x[1:], y[jumps, 1:], axis=1).c
        return cls(y, coefficients, jumps), table.device

    @property
    def cells(self) -> int:
        """Number of steps between neighbouring grid points."""
        return int(self.on_grid.shape[1]) - 1

    def budget(self, total: np.ndarray, steps: int) -> np.ndarray:
        """How many steps of size 1 / steps fit into each total."""
        most = len(self.on_grid) * steps
        return np.floor(np.minimum(total * steps * (1 + 1e-12), most)).astype(np.int64)

    def loss(self, C: np.ndarray) -> np.ndarray:
        """Losses `[n_features, ...]`; infinite between a lone first point and the second."""
        cubic, distance, cell = self._cubics(C)
        value = ((cubic[0] * distance + cubic[1]) * distance + cubic[2]) * distance + cubic[3]
        jumps = self._per_feature(self.jumps, C)
        value = np.where(jumps & (cell == 0), np.inf, value)
        return np.asarray(np.where(C == 0, self._per_feature(self.on_grid[:, 0], C), value))

    def slope(self, C: np.ndarray) -> np.ndarray:
        """`−dL/dC` `[n_features]` to the right; along the chord from a lone first point."""
        cubic, distance, cell = self._cubics(C)
        value = -((3 * cubic[0] * distance + 2 * cubic[1]) * distance + cubic[2])
        chord = (self.on_grid[:, 0] - self.on_grid[:, 1]) * self.cells
        return np.asarray(np.where(self.jumps & (cell == 0), chord, value))

    def polish(self, start: np.ndarray, total: np.float64) -> tuple[np.ndarray, float, float]:
        """Capacities, price and loss from the best numbers of grid steps."""
        steps, place, loss = self.cells, start, np.inf
        rounding = 1e-12 * np.ptp(self.on_grid)
        for _ in range(ROUNDS):
            steps, place = steps * FINER, place * FINER
            while True:
                low = np.maximum(place - FINER, 0)
                window = low[:, None] + np.arange(2 * FINER + 1)
                costs = np.where(window <= steps, self.loss(np.minimum(window, steps) / steps), np.inf)
                left = self.budget(total.reshape(1), steps) - low.sum()
                previous, place = place, low + cheapest_choices(costs, left)[0]
                before, loss = loss, costs[np.arange(len(low)), place - low].sum()
                at_edge = (np.abs(place - previous) == FINER).any()
                if not at_edge or before - loss <= rounding:
                    break
        C = place / steps
        unspent = min(total, len(C)) - C.sum()
        lowest = np.where(self.jumps, steps // self.cells, 0)
        inside = (place > lowest) & (place < steps)
        slope = np.where(place < steps, self.slope(C), 0.0)
        if unspent > 2 / steps:  # nothing but a jump could still use it
            price = slope[self.jumps & (place == 0)].max(initial=0.0)
        elif inside.any():
            C = np.where(inside, C + unspent / inside.sum(), C)
            price = max(0.0, slope[inside].mean())
        else:
            price = slope.max(initial=0.0)
        return C, float(price), float(self.loss(C).sum())

    def _cubics(self, C: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coefficients of the cell to the right of each capacity, the distance into it, and its number."""
        cell = np.minimum((C * self.cells * (1 + 1e-12)).astype(np.int64), self.cells - 1)
        feature = self._per_feature(np.arange(len(C)), C)
        return self.coefficients[:, cell, feature], C - cell / self.cells, cell

    @staticmethod
    def _per_feature(values: np.ndarray, like: np.ndarray) -> np.ndarray:
        return values.reshape(-1, *[1] * (like.ndim - 1))
