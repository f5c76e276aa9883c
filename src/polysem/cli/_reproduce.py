"""`polysem reproduce`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polysem.cli._print import print_json, print_table


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
            print_json({"report": str(self.out.resolve()), "summary": lines})
            return
        print_table(done.summary.header, done.summary.rows)
        print(f"\nReport: {self.out.resolve()}")
        if self.figures:
            print(f"Figures: {folder.resolve()}")
