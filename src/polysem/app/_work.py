"""Long work for pages: a few at once, few more waiting, each ended as soon as its page has gone."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import monotonic
from typing import TypeVar

from anyio import CancelScope
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from polysem._json import json_text

T = TypeVar("T")

Emit = Callable[[dict[str, object]], None]
"""Sends an answer to the page; raises `GoneError` once nobody reads any more."""

BUSY = "The explorer is busy; try again when other work has ended."
PATIENCE = 60.0
"""Seconds that a page may let its work wait before it is ended."""

SAY_EVERY = 0.1
"""Seconds from one word about how far work is to the next."""


class GoneError(Exception):
    """Nobody waits for the work any more."""


class Progress:
    """Tells a page what share of its work is done, not too often; raises once nobody reads any more."""

    def __init__(self, emit: Emit) -> None:
        self._emit, self._last = emit, monotonic()

    def __call__(self, share: float) -> None:
        """Say it, unless that was done just before."""
        if monotonic() - self._last >= SAY_EVERY:
            self._last = monotonic()
            self._emit({"progress": share})


@dataclass
class Works:
    """Work in threads, each of which gives lines of JSON to the page that asked for it.

    A page that does not read holds its work up (it is paused), for `PATIENCE` seconds at most; one that goes away
    ends it at its next answer or check.

    Attributes:
        at_once: how many run side by side.
        waiting: how many more may wait; beyond that requests are refused.
    """

    at_once: int = 2
    waiting: int = 6
    _taken: int = 0
    _slots: asyncio.Semaphore | None = field(default=None, repr=False)

    def stream(self, work: Callable[[Emit], None]) -> StreamingResponse:
        """Start work, or queue it, and answer with the lines that it gives.

        Args:
            work: called in a thread of its own with what sends an answer. Its own errors of type ValueError end in a
                line `{"error": ...}`.

        Raises:
            HTTPException: 503 where too much is waiting.
        """
        if self._full:
            raise HTTPException(503, BUSY)
        return StreamingResponse(self._lines(work), media_type="application/x-ndjson")

    async def once(self, work: Callable[[], T]) -> T:
        """Do short work, whose answer is given whole, in its turn.

        Raises:
            HTTPException: 503 where too much is waiting.
        """
        if self._full:
            raise HTTPException(503, BUSY)
        self._taken += 1
        self._slots = self._slots or asyncio.Semaphore(self.at_once)
        try:
            async with self._slots:
                thread = asyncio.create_task(asyncio.to_thread(work))
                try:
                    return await asyncio.shield(thread)
                finally:
                    await asyncio.wait([thread])  # the slot is free only when the work has really ended
        finally:
            self._taken -= 1

    @property
    def _full(self) -> bool:
        return self._taken >= self.at_once + self.waiting

    async def _lines(self, work: Callable[[Emit], None]) -> AsyncIterator[str]:
        if self._full:  # others came between the request and its answer
            yield json_text({"error": BUSY}) + "\n"
            return
        self._taken += 1
        self._slots = self._slots or asyncio.Semaphore(self.at_once)
        gone = threading.Event()
        try:
            async with self._slots:
                answers: asyncio.Queue[dict[str, object] | None] = asyncio.Queue(maxsize=4)
                thread = asyncio.create_task(asyncio.to_thread(_run, work, answers, gone, asyncio.get_running_loop()))
                try:
                    while (answer := await answers.get()) is not None:
                        yield json_text(answer) + "\n"
                finally:
                    gone.set()
                    with CancelScope(shield=True):  # a page that goes cancels this again and again
                        await asyncio.wait([thread])  # the slot is free only when the work has really ended
        finally:
            self._taken -= 1


def stream(request: Request, work: Callable[[Emit], None]) -> Response:
    """Do work for a page that reads its answers as they come."""
    works: Works = request.app.state.works
    return works.stream(work)


def _run(
    work: Callable[[Emit], None],
    answers: "asyncio.Queue[dict[str, object] | None]",
    gone: threading.Event,
    loop: asyncio.AbstractEventLoop,
) -> None:
    def put(answer: dict[str, object] | None) -> None:
        if gone.is_set():
            raise GoneError
        placed: Future[None] = asyncio.run_coroutine_threadsafe(answers.put(answer), loop)
        waited = 0.0
        while True:
            try:
                return placed.result(timeout=0.02)
            except TimeoutError:
                if gone.is_set() or (waited := waited + 0.02) > PATIENCE:
                    placed.cancel()
                    raise GoneError from None

    try:
        try:
            work(put)
        except ValueError as error:
            put({"error": " ".join(str(error).split())})
        except GoneError:
            raise
        except Exception:
            logging.getLogger(__name__).exception("work for a page has failed")
            put({"error": "The explorer has failed; the window where it runs says where."})
        put(None)
    except GoneError:
        if not gone.is_set():  # the page reads no more, but has not gone: end its answer
            loop.call_soon_threadsafe(_end, answers)


def _end(answers: "asyncio.Queue[dict[str, object] | None]") -> None:
    while not answers.empty():
        answers.get_nowait()
    answers.put_nowait(None)
