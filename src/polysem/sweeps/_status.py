"""How far a sweep has come."""

import math
import time
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from polysem.sweeps._attempt import Outcome
from polysem.sweeps._layout import FAILED
from polysem.sweeps._store import Checked, Store


@dataclass(frozen=True)
class SweepStatus:
    """How far a sweep has come.

    Attributes:
        n_cells: cells of the grid.
        n_ok: cells computed.
        n_failed: cells that failed, with a message each.
        n_stacks: stacks they are computed in.
        n_done: stacks that are finished.
        corrupted: stacks with a chunk that is not what was written: to be computed again.
        seconds: compute time spent on the finished stacks, over all workers.
        eta: seconds until all is done, as things go; before any of it went, from the stacks that the store has, one
            after the other; NaN while nothing is known.

    Source: ours.
    """

    n_cells: int
    n_ok: int
    n_failed: int
    n_stacks: int
    n_done: int
    corrupted: tuple[int, ...]
    seconds: float
    eta: float

    @property
    def n_missing(self) -> int:
        """Cells still to be computed."""
        return self.n_cells - self.n_ok - self.n_failed

    @property
    def complete(self) -> bool:
        """Whether every stack is finished and whole."""
        return self.n_done == self.n_stacks

    @property
    def rate(self) -> float:
        """Cells a second of compute time; NaN while nothing is known."""
        return (self.n_ok + self.n_failed) / self.seconds if self.seconds > 0 else math.nan


def status(store: str | PathLike[str]) -> SweepStatus:
    """Say how far the sweep in a store has come, also while it is being computed; every chunk is checked.

    Args:
        store: directory of the store.

    Returns:
        Counts of cells and stacks.

    Raises:
        ValueError: not a store, or one written by a later version.

    Source: ours.
    """
    opened = Store.open(Path(store))
    return Tally(opened, opened.check()).status()


class Tally:
    """Counts stacks as they are finished.

    Args:
        store: what they are stacks of.
        checked: those that were finished before.
    """

    def __init__(self, store: Store, checked: Checked) -> None:
        self._store = store
        self._corrupted = checked.corrupted
        self._failed = 0
        self._cells = 0
        self._done = 0
        self._seconds = 0.0
        for i in checked.done:
            self._add(i, checked.failed.get(i, 0), checked.seconds[i])
        self._started, self._cells_before = time.monotonic(), self._cells

    def add(self, i: int, outcome: Outcome) -> None:
        """Count a stack that was computed now."""
        self._add(i, int(np.sum(outcome.status == FAILED)), outcome.seconds)
        self._corrupted = tuple(k for k in self._corrupted if k != i)

    def status(self) -> SweepStatus:
        """As of now."""
        n_cells, now = self._store.grid.n_cells, self._cells - self._cells_before
        spent, cells = (time.monotonic() - self._started, now) if now else (self._seconds, self._cells)
        return SweepStatus(
            n_cells=n_cells,
            n_ok=self._cells - self._failed,
            n_failed=self._failed,
            n_stacks=len(self._store.tiles),
            n_done=self._done,
            corrupted=self._corrupted,
            seconds=self._seconds,
            eta=spent / cells * (n_cells - self._cells) if cells else math.nan,
        )

    def _add(self, i: int, n_failed: int, seconds: float) -> None:
        self._failed += n_failed
        self._cells += math.prod(self._store.tiles.extent(i))
        self._done += 1
        self._seconds += 0.0 if math.isnan(seconds) else seconds
