"""Sweeps that are killed, and what engine and store cost.

    python benchmarks/sweeps.py [--kills 20] [--tasks 16] [--seed 0]

First a sweep over two workers and a scheduler, each a process of its own, is killed (`kill -9`) at random moments: the
driver, a worker, the scheduler, or the driver half-way through writing a chunk; whatever died is started again. The
store is compared, byte by byte, with that of a sweep nothing interrupted (times and hosts aside), and cells that were
computed more than once are counted: at most the four stacks that were handed out can be, per kill. Then tasks of about
a second each are run in this process, on one worker and on two: the ratio of the times from the first task to the last
(goal: 1.7), and how much longer than the tasks themselves they took (goal: 10 %).
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
import zarr.storage._local

from polysem.sweeps import (
    WORKER_ENVIRONMENT,
    DaskEngine,
    Engine,
    Grid,
    InProcess,
    LocalEngine,
    Output,
    Stack,
    SweepStatus,
    run,
    task,
)

TASK = "sweeps:spin"  # this file, as workers import it
KINDS = ("driver", "worker", "scheduler", "chunk write")
HANDED_OUT = 4


@task(outputs={"sum": Output()}, stacked=("x",), shared=("rounds",), max_cells=4)
def spin(stack: Stack) -> dict[str, torch.Tensor]:
    if log := os.environ.get("SWEEP_LOG"):
        with Path(log).open("a") as file:
            file.write("".join(f"{seed}\n" for seed in stack.seeds))
    matrix = torch.randn(64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(int(stack.seeds[0])))
    for _ in range(stack["rounds"]):
        matrix = torch.tanh(matrix @ matrix)
    return {"sum": matrix.sum() + torch.as_tensor(stack["x"], dtype=torch.float64)}


def rounds(seconds: float) -> int:
    """How much work takes that long."""
    stack, count = Stack({"x": 0.0}, {"rounds": 2000}, torch.zeros(1, dtype=torch.int64).numpy()), 2000
    torch.set_num_threads(1)
    best = min(timed(lambda: spin(stack)) for _ in range(3))
    return max(1, int(count * seconds / best))


def timed(call: object) -> float:
    begin = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - begin


def contents(store: Path) -> dict[str, bytes]:
    vary = {"seconds", "worker"}
    files = (file for file in store.rglob("*") if file.is_file() and file.name != ".lock")
    found = {file.relative_to(store): file for file in files}
    return {str(name): file.read_bytes() for name, file in found.items() if name.parts[0] not in vary}


class Processes:
    """A scheduler, two workers and a driver."""

    def __init__(self, folder: Path, n_cells: int, work: int) -> None:
        self.folder, self.n_cells, self.work = folder, n_cells, work
        path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.environment = os.environ | WORKER_ENVIRONMENT | {"PYTHONPATH": path, "SWEEP_LOG": str(folder / "log")}
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """One process."""
        with (self.folder / "errors").open("ab") as errors:
            command = [sys.executable, *arguments]
            return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=errors, stderr=errors)

    def keep_up(self) -> None:
        """Start what is not there."""
        if self.scheduler is None or self.scheduler.poll() is not None:
            for worker in self.workers:
                worker.kill()
            file = self.folder / "scheduler.json"
            file.unlink(missing_ok=True)
            options = ("--port=0", "--host=127.0.0.1", "--no-dashboard", f"--scheduler-file={file}")
            self.scheduler, found = self.start("-m", "distributed.cli.dask_scheduler", *options), None
            while not found:
                time.sleep(0.05)
                found = re.search(r"tcp://[\d.:]+", file.read_text()) if file.exists() else None
            self.address = found[0]
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < 2:
            options = (self.address, "--nthreads=1", "--no-nanny", "--no-dashboard")
            self.workers.append(self.start("-m", "distributed.cli.dask_worker", *options))

    def drive(self, dies_in_write: int = 0) -> subprocess.Popen[bytes]:
        """A driver, which dies in that write of a chunk, if in any."""
        numbers = (str(self.n_cells), str(self.work), str(dies_in_write))
        return self.start(__file__, "--drive", self.address, *numbers)

    def stop(self) -> None:
        """End all."""
        for process in (*self.workers, self.scheduler):
            if process is not None:
                process.kill()
                process.wait()


def grid_of(n_cells: int, work: int) -> Grid:
    return Grid({"x": range(n_cells)}, fixed={"rounds": work})


def drive(address: str, n_cells: str, work: str, dies_in_write: str) -> None:
    """What the driver does: the sweep, perhaps until half of a chunk is written."""
    put, count = zarr.storage._local._put, 0

    def dying(path: Path, value: object, exclusive: bool = False) -> int:
        nonlocal count
        count += path.parts[-2] == "c"
        if count == int(dies_in_write) > 0:
            half = bytes(value.as_buffer_like())  # type: ignore[attr-defined]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".0.partial").write_bytes(half[: len(half) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return put(path, value, exclusive)  # type: ignore[arg-type]

    zarr.storage._local._put = dying
    run(grid_of(int(n_cells), int(work)), TASK, "killed.zarr", engine=DaskEngine(address))


def kill_often(kills: int, seed: int) -> None:
    chance, work = random.Random(seed), rounds(0.1)
    kinds = [KINDS[k % len(KINDS)] for k in range(kills)]
    chance.shuffle(kinds)
    n_cells = 4 * 8 * max(kills, 4)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(grid_of(n_cells, work), TASK, folder / "whole.zarr")
        processes, begin = Processes(folder, n_cells, work), time.perf_counter()
        try:
            processes.keep_up()
            driver: subprocess.Popen[bytes] | None = None
            for kind in kinds:
                if kind == "chunk write" and driver is not None:
                    driver.kill()  # the one that dies in a write is started so
                    driver.wait()
                    driver = None
                if driver is None:
                    driver = processes.drive(chance.randrange(1, 20) if kind == "chunk write" else 0)
                wait(folder, driver, chance.randrange(1, 5), chance.uniform(0, 0.2), kind)
                if kind == "worker":
                    chance.choice(processes.workers).kill()
                    time.sleep(0.1)
                elif kind == "scheduler":
                    assert processes.scheduler is not None
                    processes.scheduler.kill()
                    assert driver.wait() == 1, "the driver ends with an error"
                    driver = None
                else:
                    driver.kill()
                    assert driver.wait() == -signal.SIGKILL
                    driver = None
                processes.keep_up()
            if (driver or processes.drive()).wait() != 0 or processes.drive().wait() != 0:
                raise RuntimeError((folder / "errors").read_text()[-2000:])
        finally:
            processes.stop()
        same = contents(folder / "killed.zarr") == contents(folder / "whole.zarr")
        seeds = Counter((folder / "log").read_text().split())
        again = sum(seeds.values()) - len(seeds)
        interrupted = kills + sum(kind == "chunk write" for kind in kinds)
        print(f"{kills} kills ({', '.join(f'{n} {kind}' for kind, n in Counter(kinds).items())})", end=" ")
        print(
            f"in {time.perf_counter() - begin:.0f} s: stores {'equal' if same else 'DIFFERENT'}, to the byte;", end=" "
        )
        print(f"{len(seeds)} of {n_cells} cells computed, {again} of them again", end=" ")
        print(f"(at most {interrupted * HANDED_OUT * 4} were handed out)")


def wait(folder: Path, driver: subprocess.Popen[bytes], stacks: int, seconds: float, kind: str) -> None:
    """Until that many more stacks are finished and some time has passed, or the driver is dead if it is to be."""
    done = folder / "killed.zarr" / "done" / "c"
    before = len([*done.glob("*")])
    while kind == "chunk write" or len([*done.glob("[0-9]*")]) < before + stacks:
        if driver.poll() is not None:
            if kind == "chunk write":
                return
            raise RuntimeError((folder / "errors").read_text()[-2000:])
        time.sleep(0.01)
    time.sleep(seconds)


def costs(tasks: int) -> None:
    work, spans = rounds(1.0), {}
    engines: dict[str, tuple[Engine, int]] = {
        "in process": (InProcess(), 1),
        "one worker": (LocalEngine(1), 1),
        "two workers": (LocalEngine(2), 2),
    }
    grid = Grid({"x": range(4 * tasks)}, fixed={"rounds": work})
    for name, (engine, workers) in engines.items():
        times: list[tuple[float, SweepStatus]] = []
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            run(
                grid,
                TASK,
                f"{folder}/s.zarr",
                engine=engine,
                progress=lambda now, times=times: times.append((time.perf_counter(), now)),
            )
            whole = time.perf_counter() - begin
        # From the first finished task of each worker to the last: without the start of the workers.
        (start, first), (end, last) = times[workers], times[-1]
        spans[name] = (end - start) / (last.n_done - first.n_done)
        computed = (last.seconds - first.seconds) / workers
        print(f"{name:12} {tasks} tasks of {last.seconds / tasks:.2f} s: {whole:.1f} s in all;", end=" ")
        print(f"engine and store took {(end - start) / computed - 1:+.1%} of the tasks' own time")
    print(f"two workers are {spans['one worker'] / spans['two workers']:.2f}× as fast as one")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--tasks", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drive", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        drive(*arguments.drive)
        return
    if arguments.kills:
        kill_often(arguments.kills, arguments.seed)
    costs(arguments.tasks)


if __name__ == "__main__":
    main()
