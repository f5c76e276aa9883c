"""`polysem sweep`."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from polysem.cli._print import print_json

if TYPE_CHECKING:
    from polysem.sweeps import SweepStatus


@dataclass(frozen=True)
class Sweep:
    """Compute a task on every cell of a grid, into a store that survives whatever interrupts it.

    CONFIG is a JSON file such as {"task": "my_tasks:train", "axes": {"ratio": [0.5, 1, 2], "seed": [0, 1]}, "zipped":
    [], "fixed": {"n_features": 20}}; the task is imported, from the working directory too, and run. The same command
    again computes what is missing, and only that.

    Example: polysem sweep phases.json --out phases.zarr --workers 2
    """

    config: Positional[Path | None] = None
    """The task and its grid."""
    out: Path | None = None
    """Store to write, or to go on with (default: named after CONFIG, in the working directory)."""
    workers: int = 1
    """Worker processes on this machine, one thread each; 1 computes in this process."""
    scheduler: str | None = None
    """Address of a Dask scheduler whose workers to use instead, tcp://host:port."""
    retry_failed: bool = False
    """Compute stacks with failed cells again."""
    status: Path | None = None
    """Only say how far the sweep in this store has come."""
    json: bool = False
    """Print counts as JSON."""

    def run(self) -> None:
        """Compute what is missing, or look; print how far it has come."""
        if (self.status is None) == (self.config is None):
            raise ValueError("polysem sweep takes either a CONFIG or --status STORE")
        from polysem.sweeps import status

        store = self.status
        if self.config is not None:
            store = self.out or Path(f"{self.config.stem}.zarr")
            self._compute(self.config, store)
        assert store is not None
        self._print(store, status(store))

    def _compute(self, config: Path, store: Path) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        from polysem.sweeps import DaskEngine, Engine, Grid, LocalEngine, SweepStatus, run

        try:
            content = json.loads(config.read_text(encoding="utf-8"))
            task = content.pop("task")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"{config} must hold a JSON object with a task and axes") from error
        if self.scheduler is not None and self.workers != 1:
            raise ValueError("--workers starts workers here and --scheduler uses those elsewhere: give one of them")
        engine: Engine | None = None
        if self.scheduler is not None:
            engine = DaskEngine(self.scheduler)
        elif self.workers != 1:
            engine = LocalEngine(self.workers)
        sys.path.append(str(Path.cwd()))
        console = Console(stderr=True)
        columns = (BarColumn(bar_width=16), TimeElapsedColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            line = bar.add_task("", total=None)

            def progress(now: SweepStatus) -> None:
                bar.update(line, description=now.line, completed=now.n_done, total=now.n_stacks)

            run(
                Grid.from_json(json.dumps(content)),
                task,
                store,
                engine=engine,
                retry_failed=self.retry_failed,
                progress=progress,
            )

    def _print(self, store: Path, now: "SweepStatus") -> None:
        if self.json:
            print_json({"store": str(store.resolve()), **asdict(now), "n_missing": now.n_missing})
            return
        print(now.line)
        if now.corrupted:
            print(f"Damaged stacks, to be computed again: {', '.join(map(str, now.corrupted))}")
        if now.n_failed:
            print("The store's array `message` says why cells failed; --retry-failed computes them again.")
        print(f"\nStore: {store.resolve()}")
