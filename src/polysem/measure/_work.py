"""What share of a measurement is done, for whoever watches it."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing

from torch import Tensor


class Work:
    """Counts work in rows that are multiplied by a matrix of all directions, and tells a watcher the share done.

    Args:
        watch: called with the share after every piece of work; the share never falls. What it raises goes through.
    """

    def __init__(self, watch: Callable[[float], None] | None = None) -> None:
        self._watch, self._share, self._left = watch, 0.0, 0

    def expect(self, rows: int) -> None:
        """Add work that is to be done: before anything is done, or as soon as it turns out to be needed."""
        self._left += rows

    def did(self, rows: int) -> None:
        """Count a piece of work that was expected: it is that part of what was left."""
        if self._watch is None or not rows:
            return
        self._share += (1 - self._share) * rows / self._left
        self._left -= rows
        self._watch(self._share)

    def end(self) -> None:
        """Count all that is left, whatever it is."""
        if self._watch is not None and self._share < 1:
            self._share = 1.0
            self._watch(1.0)

    def over(self, blocks: Generator[Tensor, None, None]) -> Iterator[Tensor]:
        """The same blocks, each counted once it has been used; closed with whatever raises here."""
        with closing(blocks):
            for block in blocks:
                yield block
                self.did(len(block))
