"""What a view answers: figures, facts in words, and the Python that gives the same numbers."""

import json
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response


@dataclass(frozen=True)
class Shown:
    """An answer to a page.

    Attributes:
        figures: by the name of the place where the page puts them.
        facts: label and value.
        code: a script that prints the same numbers.
        numbers: the numbers themselves, for pages that go on with them.
    """

    figures: dict[str, go.Figure] = field(default_factory=dict)
    facts: tuple[tuple[str, str], ...] = ()
    code: str = ""
    numbers: dict[str, object] = field(default_factory=dict)

    @property
    def content(self) -> dict[str, object]:
        """As JSON holds it; a template is left out of figures, since the page has it once."""
        figures = {name: figure_content(figure) for name, figure in self.figures.items()}
        return {"figures": figures, "facts": self.facts, "code": self.code, "numbers": self.numbers}

    def response(self) -> Response:
        """As an answer to a request."""
        return Response(json.dumps(self.content, allow_nan=False), media_type="application/json")


def figure_content(figure: go.Figure) -> dict[str, Any]:
    """A figure as JSON holds it, without its template."""
    content: dict[str, Any] = json.loads(figure.to_json())
    content["layout"].pop("template", None)
    return content


async def body_text(request: Request, most: int) -> str:
    """The body of a request as UTF-8 text of at most so many bytes."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > most:
            raise HTTPException(413, f"At most {most:,} bytes are taken.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("the table is not UTF-8 text") from None
