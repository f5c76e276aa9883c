"""Figures as files: JSON, and images where kaleido is installed."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

import plotly.graph_objects as go
import plotly.io

from polysem.plots import TEMPLATE
from polysem.reports._output import claim, write

ImageFormat = Literal["json", "png", "svg"]


def claim_figures(folder: Path, formats: tuple[ImageFormat, ...]) -> None:
    """Check that figures can be written before any work is done for them.

    Raises:
        ValueError: an unknown format, images without the `figures` extra or without a browser that draws them, or
            a folder that is a file.
    """
    for name in formats:
        if name not in get_args(ImageFormat):
            raise ValueError(f"figures must be {', '.join(get_args(ImageFormat))}, got {name!r}")
    if set(formats) & {"png", "svg"}:
        try:
            import kaleido  # noqa: F401
        except ModuleNotFoundError:
            raise ValueError(
                "figures as png or svg need kaleido: install polysem[figures] (and a Chrome or Chromium)"
            ) from None
        try:
            go.Figure().to_image(format="svg")
        except RuntimeError as error:
            raise ValueError("figures as png or svg need a Chrome or Chromium that kaleido can start") from error
    if formats and folder.exists() and not folder.is_dir():
        raise ValueError(f"figures cannot be written to {folder}: it is not a directory")


def write_figures(
    folder: Path, figures: Iterable[tuple[str, go.Figure]], formats: tuple[ImageFormat, ...], *, force: bool
) -> list[Path]:
    """Write every figure in every format as `folder/name.format`; titles and captions go with the JSON."""
    wanted = [(folder / f"{name}.{suffix}", figure, suffix) for name, figure in figures for suffix in formats]
    if wanted:
        folder.mkdir(exist_ok=True)
    for path, _, _ in wanted:
        claim(path, force=force)
    with tempfile.TemporaryDirectory() as scratch:
        images = {Path(scratch) / path.name: _titled(figure) for path, figure, suffix in wanted if suffix != "json"}
        if images:  # all at once: the browser takes longer to start than to draw
            drawn = list(images.values())
            heights = [figure.layout.height for figure in drawn]
            plotly.io.write_images(fig=drawn, file=list(images), width=900, height=heights, scale=2)
        for path, figure, suffix in wanted:
            content = figure.to_json() if suffix == "json" else (Path(scratch) / path.name).read_bytes()
            write(path, content, force=force)
    return [path for path, _, _ in wanted]


def _titled(figure: go.Figure) -> go.Figure:
    """The figure on white, with its title above it."""
    room = 40 if figure.layout.meta["title"] else 0
    top = figure.layout.margin.t or TEMPLATE.layout.margin.t
    titled = go.Figure(figure)
    titled.update_layout(
        paper_bgcolor="white",
        plot_bgcolor="white",
        title={"text": figure.layout.meta["title"], "x": 0.01, "y": 0.98, "yanchor": "top"},
        margin={"t": top + room},
        height=figure.layout.height + room,
    )
    return titled
