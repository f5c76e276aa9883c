"""How far a sweep has come."""

import math
import time
from dataclasses import dataclass
from datetime import timedelta
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
        rate: cells a second: by the clock while a sweep goes, by compute time otherwise; NaN while nothing is known.

    Source: ours.
    """

    n_cells: int
    n_ok: int
    n_failed: int
    n_stacks: int
    n_done: int
    corrupted: tuple[int, ...]
    seconds: float
    rate: float

    @property
    def n_missing(self) -> int:
        """Cells still to be computed."""
        return self.n_cells - self.n_ok - self.n_failed

    @property
    def complete(self) -> bool:
        """Whether every stack is finished and whole."""
        return self.n_done == self.n_stacks

    @property
    def eta(self) -> float:
        """Seconds until all is done at this rate; NaN while that is unknown."""
        return self.n_missing / self.rate if self.n_missing else 0.0

    @property
    def line(self) -> str:
        """The counts in one line, and how long the rest may take."""
        cells = f"{self.n_ok + self.n_failed:,}/{self.n_cells:,} cells, {self.n_failed:,} failed"
        parts = [cells, f"{self.n_done:,}/{self.n_stacks:,} stacks"]
        if not math.isnan(self.rate):
            parts.append(f"{self.rate:,.3g} cells/s")
            if not self.complete:
                parts.append(f"{timedelta(seconds=math.ceil(self.eta))} to go")
        return ", ".join(parts)


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
            rate=cells / spent if spent > 0 else math.nan,
        )

    def _add(self, i: int, n_failed: int, seconds: float) -> None:
        self._failed += n_failed
        self._cells += math.prod(self._store.tiles.extent(i))
        self._done += 1
        self._seconds += 0.0 if math.isnan(seconds) else seconds
