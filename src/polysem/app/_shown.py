"""What a view answers: figures, facts in words, and the Python that gives the same numbers."""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import plotly.graph_objects as go
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from polysem._json import json_text
from polysem.plots import Drawing


@dataclass(frozen=True)
class Shown:
    """An answer to a page.

    Attributes:
        figures: by the name of the place where the page puts them.
        facts: label and value.
        code: a script that prints the same numbers.
        numbers: the numbers themselves, for pages that go on with them.
    """

    figures: Mapping[str, go.Figure | Drawing] = field(default_factory=dict)
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
        return Response(json_text(self.content), media_type="application/json")


def figure_content(figure: go.Figure | Drawing) -> dict[str, Any]:
    """A figure as JSON holds it, without its template."""
    if not isinstance(figure, go.Figure):
        return {name: _packed(part) for name, part in figure.items()}
    content: dict[str, Any] = json.loads(figure.to_json())
    content["layout"].pop("template", None)
    return content


def _packed(part: Any) -> Any:
    """A part of a drawing, with its arrays as Plotly's JSON has them."""
    if isinstance(part, dict):
        return {name: _packed(value) for name, value in part.items()}
    if isinstance(part, list):
        return [_packed(value) for value in part]
    if not isinstance(part, np.ndarray):
        return part
    if part.ndim == 1 and part.dtype == np.float64:
        return {"dtype": "f8", "bdata": b64encode(part.tobytes()).decode()}
    return part.tolist()


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
