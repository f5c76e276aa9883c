"""Reading pages back."""

import json
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """The parts of an HTML page.

    Attributes:
        elements: every start tag with its attributes.
        texts: the pieces of visible text, each with the tags that are open around it.
        scripts: content of each script element, with its attributes.
        styles: content of each style element.
    """

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input", "base", "embed", "source", "wbr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, tuple[str, ...]]] = []
        self.scripts: list[tuple[str, dict[str, str | None]]] = []
        self.styles: list[str] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()
        assert self._open == [], "unclosed elements"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> without a start"
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag == "script":
            self.scripts.append((data, attributes))
        elif tag == "style":
            self.styles.append(data)
        elif data.strip():
            self.texts.append((data, tuple(name for name, _ in self._open)))

    def text(self, tag: str) -> list[str]:
        """All text below elements of that name, one string a piece."""
        return [data for data, path in self.texts if tag in path]

    @property
    def figures(self) -> list[dict[str, Any]]:
        """The data of the figures."""
        return [json.loads(data) for data, kind in self.scripts if kind.get("type") == "application/json"]
