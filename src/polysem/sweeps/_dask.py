"""The engines with workers; the only file that knows Dask."""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, as_completed

from polysem._checks import require, whole

MEMORY = ("target", "spill", "pause")
"""What Dask does below the limit where it ends a worker: a paused one need never go on, as torch keeps its memory."""

WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    **{f"DASK_DISTRIBUTED__WORKER__MEMORY__{name.upper()}": "False" for name in MEMORY},
}
"""What a worker process should be started with: one thread, and memory that is kept for the next small tensor."""

AHEAD = 2
"""Items handed to a worker's thread at a time, so that it need not wait for the next."""


class LocalEngine:
    """Worker processes on this machine, of one thread each; they are started for a run and ended with it.

    A worker that dies is replaced, and what it was at is computed again, up to three times, and as often again when all
    else is done, alone. In a script, call
    `sweeps.run` under `if __name__ == "__main__":`, since every worker imports the script.

    Args:
        workers: number of processes.
        memory_limit: bytes that a worker may use, or a text such as `"4GiB"`, before it is ended; `"auto"` is its share
            of the machine's.

    Raises:
        ValueError: `workers` below 1.

    Example:
        >>> LocalEngine(workers=4).workers
        4

    Source: ours.
    """

    def __init__(self, workers: int = 2, *, memory_limit: int | str = "auto") -> None:
        self.workers = whole("workers", workers)
        self.memory_limit = memory_limit

    def run(
        self, function: Callable[[Any], Any], items: Iterable[tuple[int, Any]]
    ) -> Generator[tuple[int, Any | Exception]]:
        """Apply the function on the workers."""
        settings = {
            "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
            # Dask gives up for good a worker that is away when it looks, so many seconds after one of its deaths.
            "distributed.deploy.lost-worker-timeout": "365 days",
            **{f"distributed.worker.memory.{name}": False for name in MEMORY},
        }
        with (
            dask.config.set(settings),
            LocalCluster(
                n_workers=self.workers,
                threads_per_worker=1,
                memory_limit=self.memory_limit,
                dashboard_address="127.0.0.1:0",  # any free port: None would insist on 8787 and warn if it is taken
                silence_logs=logging.CRITICAL,
            ) as cluster,
        ):
            yield from DaskEngine(cluster.scheduler_address).run(function, items)


class DaskEngine:
    """Workers that a Dask scheduler has, wherever they are: `dask worker ADDRESS`, or one of dask-jobqueue's clusters.

    They should be started with one thread and `WORKER_ENVIRONMENT`, and must be able to import the task. Workers may
    come and go; while there are none, a run waits. If the scheduler goes, the run ends with an error, and the same call
    goes on with the next scheduler.

    Args:
        address: of the scheduler, such as `tcp://10.0.0.1:8786`.
        resources: what a stack needs of a worker's resources: `{"GPU": 1}` for workers started with
            `--resources GPU=1` and a `CUDA_VISIBLE_DEVICES` of one device each.

    Raises:
        ValueError: an address that is none.

    Example:
        >>> DaskEngine("tcp://127.0.0.1:8786", resources={"GPU": 1}).address
        'tcp://127.0.0.1:8786'

    Source: ours.
    """

    def __init__(self, address: str, *, resources: Mapping[str, float] | None = None) -> None:
        require(isinstance(address, str) and "://" in address, "address", address, "like tcp://host:port")
        self.address = address
        self.resources = dict(resources or {})

    def run(
        self, function: Callable[[Any], Any], items: Iterable[tuple[int, Any]]
    ) -> Generator[tuple[int, Any | Exception]]:
        """Apply the function on the workers."""
        with self._client() as client:
            suspects: list[tuple[int, Any]] = []
            for index, item, result in self._finished(client, function, iter(items)):
                if isinstance(result, KilledWorker):
                    suspects.append((index, item))
                else:
                    yield index, result
            # What was only waiting behind an item that kills workers is under suspicion too: try each on its own.
            for suspect in suspects:
                for index, _, result in self._finished(client, function, iter([suspect])):
                    yield index, result

    def _finished(
        self, client: Client, function: Callable[[Any], Any], items: Iterator[tuple[int, Any]]
    ) -> Generator[tuple[int, Any, Any | Exception]]:
        """Index, item and result, as they are finished."""
        waiting: dict[Future[Any], tuple[int, Any]] = {}
        finished = as_completed(loop=client.loop)

        def hand_out() -> None:
            room = AHEAD * max(1, sum(client.ncores().values())) - len(waiting)
            for _, (index, item) in zip(range(room), items, strict=False):  # in this order, or an item is lost
                future = client.submit(function, item, pure=False, resources=self.resources or None)
                waiting[future] = (index, item)
                finished.add(future)

        try:
            hand_out()
            for future in finished:
                if future.status in ("lost", "cancelled"):
                    raise ConnectionError(self._lost())
                (index, item), error = waiting.pop(future), future.exception()
                result = future.result() if error is None else error
                future.release()  # or it is computed again when its worker dies
                hand_out()
                yield index, item, result
        except (OSError, TimeoutError) as error:
            raise ConnectionError(self._lost()) from error
        finally:
            if client.status == "running":
                client.cancel([*waiting])

    @contextmanager
    def _client(self) -> Iterator[Client]:
        try:
            client = Client(self.address, set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise ConnectionError(f"there is no Dask scheduler at {self.address}") from error
        with client:
            yield client

    def _lost(self) -> str:
        return f"the Dask scheduler at {self.address} is gone: what is finished is kept"
