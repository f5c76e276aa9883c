"""Results that are kept for pages that ask again."""

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key")
Result = TypeVar("Result")


class Kept(Generic[Key, Result]):
    """The results that were asked for last, for threads side by side.

    Args:
        most: how many; then the one that was asked for longest ago makes room.
    """

    def __init__(self, most: int) -> None:
        self._most = most
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
            while len(self._results) > self._most:
                self._results.popitem(last=False)
