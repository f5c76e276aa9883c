"""The commands: parse, call, print. Everything heavy is imported inside a command."""

import json
import math
import os
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, OmitSubcommandPrefixes, Positional, subcommand

if TYPE_CHECKING:
    from polysem.networks import WeightFile
    from polysem.sweeps import SweepStatus


@dataclass(frozen=True)
class Reproduce:
    """Write the report that reproduces the paper: theory beside training, in one HTML file.

    Example: polysem reproduce --out report.html --figures png
    """

    out: Path = Path("polysem-report.html")
    """Where to write the report."""
    seed: int = 0
    """Seeds every random start."""
    quick: bool = False
    """Coarser grids and fewer starts."""
    chapter: tuple[str, ...] = ()
    """Make only these chapters: points, stack, phase, trained, width, superposition, geometry, comparison, prediction,
    returns, without_diminishing, layers, transformer, discussion, errata."""
    workers: int = 1
    """Processes for the chapters that are sweeps; 1 computes in this one."""
    sweeps: Path | None = None
    """Folder for the stores of sweeps, from which the same command goes on (default: named after the report)."""
    figures: tuple[Literal["json", "png", "svg"], ...] = ()
    """Also write every figure in these formats, to a folder named after the report."""
    force: bool = False
    """Overwrite files that exist."""
    json: bool = False
    """Print the summary as JSON."""

    def run(self) -> None:
        """Run all experiments, write the report, print the summary."""
        import torch
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        from polysem.reports import (
            ReproduceConfig,
            Sweeping,
            claim,
            claim_figures,
            reproduce,
            reproduce_titles,
            write,
            write_figures,
        )
        from polysem.sweeps import SweepStatus

        folder = self.out.with_name(f"{self.out.stem}-figures")
        sweeps = self.sweeps or self.out.with_name(f"{self.out.stem}-sweeps")
        titles = reproduce_titles(self.chapter)
        claim(self.out, force=self.force)
        claim_figures(folder, self.figures)
        torch.set_num_threads(1)  # the models are so small that threads cost more than they give
        console = Console(stderr=True)
        columns = (TextColumn("{task.description:<48}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=len(titles))
            started = 0

            def progress(title: str) -> None:
                nonlocal started
                bar.update(task, description=title, completed=started)
                started += 1

            def sweep_progress(now: SweepStatus) -> None:
                bar.update(task, description=now.line)

            done = reproduce(
                ReproduceConfig.of(seed=self.seed, quick=self.quick),
                progress,
                chapters=self.chapter,
                sweeping=Sweeping(sweeps, self.workers, sweep_progress),
            )
            bar.update(task, completed=started)
        if self.figures:
            write_figures(folder, done.figures(), self.figures, force=self.force)
        write(self.out, done.html, force=self.force)
        if self.json:
            lines = [dict(zip(done.summary.header, row, strict=True)) for row in done.summary.rows]
            _print_json({"report": str(self.out.resolve()), "summary": lines})
            return
        _print_table(done.summary.header, done.summary.rows)
        print(f"\nReport: {self.out.resolve()}")
        if self.figures:
            print(f"Figures: {folder.resolve()}")


@dataclass(frozen=True)
class Analyze:
    """Measure the capacity of the features of a matrix in a weight file, beside random baselines.

    Without --tensor, lists every matrix of the file with both readings. Reads .safetensors, .pt (weights only, nothing
    in it is executed), .npz and .npy, block by block: files larger than memory work.

    Example: polysem analyze model.safetensors --tensor embeddings.word_embeddings.weight --features rows
    """

    file: Positional[Path]
    """The weight file."""
    tensor: str | None = None
    """Name of the matrix to measure."""
    features: Literal["rows", "columns"] = "rows"
    """Whether the stored rows or the stored columns are features; never guessed."""
    norm: Literal["raw", "unit"] = "raw"
    """Take features at their own norms, or divide each by its norm."""
    draws: int = 8
    """Random matrices for each of the two baselines."""
    seed: int = 0
    """Seeds the random matrices."""
    out: Path | None = None
    """Where to write the HTML page (default: named after file and tensor, in the working directory)."""
    force: bool = False
    """Overwrite a page that exists."""
    json: bool = False
    """Print numbers as JSON."""

    def run(self) -> None:
        """List the matrices of the file, or measure one of them."""
        from polysem.networks import load

        file = load(self.file)
        if self.tensor is None:
            self._list(file)
            return
        from rich.console import Console

        from polysem.networks import analyze
        from polysem.reports import analysis_page, claim, write

        matrix = file.matrix(self.tensor)
        safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in f"{self.file.stem}-{self.tensor}")
        out = claim(self.out or Path(f"{safe[:150]}-capacity.html"), force=self.force)
        console = Console(stderr=True)
        label = f"measuring {matrix.name}, {self.features} as features"
        with console.status(label) if console.is_terminal else nullcontext():
            analysis = analyze(
                self.file, self.tensor, features=self.features, norm=self.norm, draws=self.draws, seed=self.seed
            )
            write(out, analysis_page(analysis), force=self.force)
        if self.json:
            where = {
                "file": str(self.file),
                "tensor": self.tensor,
                "features": self.features,
                "page": str(out.resolve()),
            }
            _print_json(where | analysis.report.to_dict())
            return
        print(f"{self.tensor} in {self.file}, {self.features} as features\n")
        print(analysis.report)
        print(f"\nPage: {out.resolve()}")

    def _list(self, file: "WeightFile") -> None:
        if self.json:
            matrices = [
                {"name": name, "shape": list(matrix.shape), "dtype": str(matrix.dtype).removeprefix("torch.")}
                for name, matrix in file.items()
            ]
            _print_json({"file": str(file.path), "matrices": matrices, "skipped": file.skipped})
            return
        rows = []
        for name, matrix in file.items():
            first, second = matrix.shape
            rows.append(
                (
                    name,
                    f"{first:,} × {second:,}",
                    f"{first:,} features in {second:,} dims",
                    f"{second:,} features in {first:,} dims",
                )
            )
        _print_table(("matrix", "stored", "--features rows", "--features columns"), tuple(rows))
        print(f"\nMatrices: {len(rows)}. Other entries, which are no floating-point matrices: {len(file.skipped)}.")
        if rows:
            print(f"Measure one of them with --tensor NAME --features rows|columns, for instance --tensor {rows[0][0]}")


@dataclass(frozen=True)
class Plan:
    """Plan a width: optimal loss against the number of dimensions, the price of one more, and what is represented.

    Example: polysem plan --n-features 100 --decay 0.95 --feature-probability 0.05
    """

    n_features: int = 40
    """Number of features with importances decay^i (without --csv)."""
    decay: float = 0.9
    """Ratio of one importance to the one before (without --csv)."""
    csv: Path | None = None
    """A CSV file with a column importance, and optionally kurtosis or feature_probability, one row a feature."""
    kurtosis: float | None = None
    """Kurtosis of the features (1 or more; the default is 20)."""
    feature_probability: float | None = None
    """Probability that a feature is active, instead of the kurtosis."""
    slab: Literal["sign", "uniform", "gaussian", "laplace"] = "sign"
    """Values of an active feature, where probabilities are given: kurtosis = kurtosis(slab) / probability."""
    widths: tuple[int, ...] = ()
    """Widths to plan (default: from 1 to the number of features, thinned out beyond 40)."""
    out: Path = Path("polysem-plan.html")
    """Where to write the HTML page."""
    force: bool = False
    """Overwrite a page that exists."""
    json: bool = False
    """Print the plan as JSON."""

    def run(self) -> None:
        """Plan, print and write."""
        from polysem.reports import claim, plan_page, write
        from polysem.studies import WidthConfig, width

        claim(self.out, force=self.force)
        result = width(
            WidthConfig(
                n_features=self.n_features,
                decay=self.decay,
                csv=self.csv,
                kurtosis=self.kurtosis,
                feature_probability=self.feature_probability,
                slab=self.slab,
                widths=self.widths,
            )
        )
        write(self.out, plan_page(result), force=self.force)
        plan = result.whole
        columns = {
            "width": plan.total.long(),
            "optimal_loss": plan.loss,
            "price": plan.price,
            "next_gain": plan.next_gain,
            "n_ignored": plan.n_ignored,
            "n_impure": plan.n_impure,
            "n_pure": plan.n_pure,
        }
        rows = list(zip(*(column.tolist() for column in columns.values()), strict=True))
        if self.json:
            widths = [dict(zip(columns, row, strict=True)) for row in rows]
            _print_json({"features": result.says, "page": str(self.out.resolve()), "widths": widths})
            return
        print(f"{result.says}\n")
        header = ("width", "optimal loss", "price μ", "next dim. buys", "ignored", "impure", "pure")
        shown = (tuple(f"{cell:,}" if isinstance(cell, int) else f"{cell:.6g}" for cell in row) for row in rows)
        _print_table(header, tuple(shown))
        print(f"\nPage: {self.out.resolve()}")


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
            _print_json({"store": str(store.resolve()), **asdict(now), "n_missing": now.n_missing})
            return
        print(now.line)
        if now.corrupted:
            print(f"Damaged stacks, to be computed again: {', '.join(map(str, now.corrupted))}")
        if now.n_failed:
            print("The store's array `message` says why cells failed; --retry-failed computes them again.")
        print(f"\nStore: {store.resolve()}")


def _print_json(content: object) -> None:
    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(inner) for inner in value]
        # JSON has no NaN, which the efficiency of a matrix of rank 0 is, and no infinity.
        return None if isinstance(value, float) and not math.isfinite(value) else value

    print(json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False))


def _print_table(header: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> None:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    rule = tuple("─" * width for width in widths)
    for row in (header, rule, *rows):
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


Command = (
    Annotated[Reproduce, subcommand("reproduce")]
    | Annotated[Analyze, subcommand("analyze")]
    | Annotated[Plan, subcommand("plan")]
    | Annotated[Sweep, subcommand("sweep")]
)


def main() -> None:
    """Entry point of `polysem`. A user's mistake ends in one line on stderr and exit status 2."""
    command = tyro.cli(
        Command,
        prog="polysem",
        description="Measure, predict and control how a neural network spends its limited dimensions on features.",
        config=(FlagCreatePairsOff, OmitSubcommandPrefixes),
    )
    try:
        command.run()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        sys.exit(141)
    except (ValueError, OSError) as error:
        print(f"polysem: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        print(": ".join(["polysem: interrupted", *map(str, interrupt.args)]), file=sys.stderr)
        sys.exit(130)
