"""Results that are kept for pages that ask again."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key")
Result = TypeVar("Result")


class Kept(Generic[Key, Result]):
    """The results that were asked for last, for threads side by side.

    Args:
        most: how many; then the one that was asked for longest ago makes room.
        weigh: how much memory a result takes, in any unit, where that differs.
        heaviest: how much all may take.
    """

    def __init__(self, most: int, weigh: Callable[[Result], int] = lambda _: 0, heaviest: int = 0) -> None:
        self._most, self._weigh, self._heaviest = most, weigh, heaviest
        self._results: OrderedDict[Key, Result] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Key) -> Result | None:
        """The result, if it is still there."""
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
            return self._results.get(key)

    def put(self, key: Key, result: Result) -> None:
        """Keep a result."""
        with self._lock:
            self._results[key] = result
            self._results.move_to_end(key)
            while len(self._results) > self._most or sum(map(self._weigh, self._results.values())) > self._heaviest:
                self._results.popitem(last=False)
