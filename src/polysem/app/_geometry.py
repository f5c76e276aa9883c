"""Geometry: a toy model that trains while the page looks on."""

from typing import Annotated

import plotly.graph_objects as go
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from polysem.app._live import Sender, Watched
from polysem.app._work import Emit, stream
from polysem.plots import live_figures
from polysem.studies import Moment, known_optimum, live

router = APIRouter(prefix="/api/geometry")

FIGURES = ("embedding", "capacity", "gram", "loss")
CODE = """\
import polysem as ps

config = ps.studies.{config!r}
done = ps.studies.live(config)
print("loss", done.last.loss.tolist())
print("capacity", done.last.capacity.tolist())
print("known optimum", ps.studies.known_optimum(config))
"""


@router.get("/train")
def train(asked: Annotated[Watched, Query()], request: Request) -> Response:
    """Moments of a training, line by line."""
    config, optimum = asked.config, known_optimum(asked.config)
    references = [] if optimum is None else [("known optimum", optimum)]

    def figures(moment: Moment) -> dict[str, go.Figure]:
        every = dict(live_figures(config, moment, shown=asked.looked_at, references=references))
        return {name: every[name] for name in FIGURES}

    def work(emit: Emit) -> None:
        known = "theory knows none for this model" if optimum is None else f"{optimum:.4g}"
        sender = Sender(emit, asked, figures, (("known optimum of the loss", known),))
        sender.end(live(config, sender), CODE.format(config=config))

    return stream(request, work)
