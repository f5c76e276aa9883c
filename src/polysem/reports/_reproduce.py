"""The report that reproduces the paper: each experiment beside its theory, as chapters of one page."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version

import plotly.graph_objects as go

from polysem._checks import require
from polysem.reports._chapters import CHAPTERS
from polysem.reports._page import Chapter, Table, page
from polysem.reports._settings import ReproduceConfig, Sweeping


@dataclass(frozen=True)
class Reproduction:
    """The finished report.

    Attributes:
        html: one self-contained page.
        summary: what was found, one line per experiment: experiment, measured, expected.
        chapters: the parts of the page, with their figures.
    """

    html: str
    summary: Table
    chapters: tuple[Chapter, ...]

    def figures(self) -> Iterator[tuple[str, go.Figure]]:
        """Every figure of the report, by a name that is its alone."""
        for chapter in self.chapters:
            for part in chapter.all_parts():
                for name, figure in part.figures:
                    yield f"{part.name}-{name}", figure


def reproduce(
    config: ReproduceConfig,
    progress: Callable[[str], None] = lambda _: None,
    *,
    chapters: tuple[str, ...] = (),
    sweeping: Sweeping = Sweeping(),
) -> Reproduction:
    """Run the experiments and compose the page.

    Args:
        config: settings of the experiments.
        progress: called with the title of each chapter before it is made.
        chapters: names of the chapters to make; all of them by default.
        sweeping: where and how sweeps are run.

    Returns:
        The page, the summary and the chapters.

    Raises:
        ValueError: a name that no chapter has.
    """
    parts = []
    for name in reproduce_titles(chapters):
        title, part = CHAPTERS[name]
        progress(title)
        parts.append(part(title, config, sweeping))
    summary = Table(("experiment", "measured", "theory or goal"), tuple(line for _, lines in parts for line in lines))
    opening = Chapter("summary", "Summary", tables=(summary,))
    made = (opening, *(chapter for chapter, _ in parts))
    html = page(
        "Polysemanticity and capacity, reproduced",
        "A network spends a fixed budget of dimensions on features. Each figure shows the theory of Scherlis, "
        "Sachan, Jermyn, Benton and Shlegeris (2022) beside networks trained here, on exact expected losses where "
        "there are any.",
        made,
        f"polysem {version('polysem')}, torch {version('torch')}. Settings: {config}",
    )
    return Reproduction(html, summary, made)


def reproduce_titles(chapters: tuple[str, ...] = ()) -> dict[str, str]:
    """Name → title of the chapters of these names, or of all, in their order."""
    for name in chapters:
        require(name in CHAPTERS, "chapter", name, f"one of {', '.join(CHAPTERS)}")
    return {name: title for name, (title, _) in CHAPTERS.items() if not chapters or name in chapters}
