"""One HTML file that opens offline: text, tables and live figures, with everything they need inside."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from importlib.resources import files

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

SUBSCRIPT = re.compile(r"(?<![A-Za-z0-9_])([A-Za-zΣ])_(?:\{([^{}]*)\}|([A-Za-z0-9]{1,2}))(?![A-Za-z0-9_])")
SUPERSCRIPT = re.compile(r"\^([A-Za-z0-9])(?![A-Za-z0-9])")


class Verbatim(str):
    """Text of others, such as the name of a token: a cell shows it as it is, without sub- and superscripts."""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header.

    Attributes:
        header: one label per column.
        rows: cells, as many as the header has labels.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Chapter:
    """A titled part of a page.

    Attributes:
        name: short name, used in links and file names.
        title: heading.
        text: paragraphs.
        figures: live figures by name; each carries its caption in `layout.meta`. Several stand side by side where
            the page is wide enough.
        tables: shown after the figures.
        wide: whether each figure takes the whole width.
        parts: sub-chapters.
    """

    name: str
    title: str
    text: tuple[str, ...] = ()
    figures: tuple[tuple[str, go.Figure], ...] = ()
    tables: tuple[Table, ...] = ()
    wide: bool = False
    parts: tuple["Chapter", ...] = ()

    def all_parts(self) -> Iterator["Chapter"]:
        """The chapter and its sub-chapters, theirs included, in their order."""
        yield self
        for part in self.parts:
            yield from part.all_parts()


Part = tuple[Chapter, tuple[tuple[str, str, str], ...]]
"""A chapter of a report, and its lines of the summary: experiment, measured, expected."""


def page(title: str, lead: str, chapters: tuple[Chapter, ...], footer: str) -> str:
    """A complete HTML document: nothing in it is fetched from anywhere."""
    here = files("polysem.reports")
    style = (here / "page.css").read_text("utf-8")
    script = (here / "page.js").read_text("utf-8")
    contents = "".join(f'<li><a href="#{c.name}">{escape(c.title)}</a></li>' for c in chapters)
    navigation = f"<nav><ol>{contents}</ol></nav>" if len(chapters) > 1 else ""
    body = "\n".join(_chapter(chapter) for chapter in chapters)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{style}</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
<p class="lead">{escape(lead)}</p>
{navigation}
{body}
<footer>{escape(footer)}</footer>
</main>
<script>{script}</script>
</body>
</html>
"""


def _chapter(chapter: Chapter, level: int = 2) -> str:
    text = "".join(f"<p>{_prose(paragraph)}</p>" for paragraph in chapter.text)
    figures = "".join(_figure(f"{chapter.name}-{name}", figure) for name, figure in chapter.figures)
    layout = "figures wide" if chapter.wide or len(chapter.figures) == 1 else "figures"
    figures = f'<div class="{layout}">{figures}</div>' if figures else ""
    tables = "".join(_table(table) for table in chapter.tables)
    parts = "".join(_chapter(part, level + 1) for part in chapter.parts)
    heading = f"<h{level}>{_prose(chapter.title)}</h{level}>"
    return f'<section id="{chapter.name}">{heading}{text}{figures}{tables}{parts}</section>'


def _prose(text: str) -> str:
    """Escaped text, with `x_i`, `x_{i+1}` and `a^i` set as sub- and superscripts (but not `word_embeddings`)."""
    return SUPERSCRIPT.sub(r"<sup>\1</sup>", SUBSCRIPT.sub(r"\1<sub>\2\3</sub>", escape(text)))


def _figure(identifier: str, figure: go.Figure) -> str:
    # "</script" would end the element that carries the data, and "<!--<script" would keep it from ending.
    data = json.dumps(json.loads(figure.to_json())).replace("<", "\\u003c")
    title, caption = figure.layout.meta["title"], figure.layout.meta["caption"]
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    return (
        f'<figure id="{identifier}">{heading}<div class="plot" style="min-height:{figure.layout.height}px"></div>'
        f'<script type="application/json">{data}</script><figcaption>{_prose(caption)}</figcaption></figure>'
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{_prose(label)}</th>" for label in table.header)
    rows = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in table.rows)
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cell(text: str) -> str:
    """A number must not break at its exponent's sign."""
    if isinstance(text, Verbatim):
        return f'<td class="verbatim">{escape(text)}</td>'
    return f"<td>{_prose(text)}</td>" if " " in text else f'<td class="number">{_prose(text)}</td>'
