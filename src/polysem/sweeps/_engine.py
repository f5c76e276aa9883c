"""Engines: what applies a function to items, here in this process; `_dask` has those with workers."""

from collections.abc import Callable, Generator, Iterable
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Engine(Protocol):
    """Applies a function to items, in any order and anywhere.

    The function and the items can be pickled; a function may be applied to an item more than once.
    """

    def run(
        self, function: Callable[[Any], Any], items: Iterable[tuple[int, Any]]
    ) -> Generator[tuple[int, Any | Exception]]:
        """For each `(index, item)` yield `(index, function(item))` as it is finished, or what kept it from being so.

        Closing the generator early gives up whatever is still under way.
        """
        ...


class InProcess:
    """One item after the other in this process.

    Example:
        >>> list(InProcess().run(abs, [(0, -3), (1, 4)]))
        [(0, 3), (1, 4)]

    Source: ours.
    """

    def run(
        self, function: Callable[[Any], Any], items: Iterable[tuple[int, Any]]
    ) -> Generator[tuple[int, Any | Exception]]:
        """Apply the function to one item at a time; its exceptions are yielded."""
        for index, item in items:
            try:
                result = function(item)
            except Exception as error:
                result = error
            yield index, result
