"""Interventions: the same models with a price on sharing, and with features masked."""

from functools import lru_cache
from typing import Annotated

import plotly.graph_objects as go
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from polysem._checks import require
from polysem.app._kept import Kept
from polysem.app._live import LEAST_PROBABILITY, Sender, Watched
from polysem.app._work import Emit, stream
from polysem.plots import live_figures
from polysem.studies import (
    FLATTENED,
    Live,
    LiveBounds,
    LiveConfig,
    Moment,
    intervene,
    known_optimum,
    live,
    live_bounds,
)

router = APIRouter(prefix="/api/interventions")

FIGURES = ("embedding", "capacity", "loss", "index")
MOST_FEATURES = 20
LINEAR = (
    "A linear autoencoder is left as it is: its returns are constant, so that it keeps the most important directions "
    "whole and ignores the rest. There is no sharing to put a price on."
)
SQUARE = (
    "The tied x² autoencoder is left as it is: its curves of returns, measured beside one antipodal partner, do not "
    "bound what it gains by sharing, and a penalty made from them is not always enough."
)
UNTIED = (
    "An untied autoencoder is left as it is: it can evade the penalty. What its readouts weigh and what they let "
    "through their activation differ, so that its capacities become 0 and 1 while features go on sharing, at a loss "
    "below that of one dimension for each. Choose the tied one to see what monosemanticity costs."
)
WHY_NOT = {
    "tied identity": LINEAR,
    "untied identity": LINEAR,
    "untied relu": UNTIED,
    "untied square": UNTIED,
    "tied square": SQUARE,
}
KEPT = 16
CODE = """\
import polysem as ps

config = ps.studies.{config!r}
bounds = ps.studies.live_bounds(config)
done = ps.studies.live(config)
"""
CODE_TREATED = "done = ps.studies.intervene(done, kappa={share!r} * bounds.kappa, masked={masked})\n"
CODE_END = """\
print("loss", done.last.loss.tolist())
print("capacity", done.last.capacity.tolist())
print("best monosemantic loss", bounds.monosemantic)
"""


class Treated(Watched):
    """A model, and what is done to it once it is trained.

    `share` is the penalty in units of `flattening_kappa`, `masked` the numbers of removed features from 1 on.
    """

    architecture: str = Query("quadratic", max_length=40)
    n_features: int = Query(6, ge=1, le=MOST_FEATURES)
    feature_probability: float = Query(0.1, ge=LEAST_PROBABILITY, le=1)
    decay: float = Query(0.9, ge=0.1, le=1)
    steps: int = Query(400, ge=10, le=3000)
    share: float = Query(0.0, ge=0, le=1)
    masked: str = Query("", max_length=3 * MOST_FEATURES)

    @property
    def removed(self) -> tuple[int, ...]:
        """Features to mask, counted from 0."""
        try:
            return tuple(sorted({int(part) - 1 for part in self.masked.split(",") if part}))
        except ValueError:
            raise ValueError(f"masked must be numbers with commas between, got {self.masked!r}") from None


_ordinary: Kept[LiveConfig, Live] = Kept(KEPT)
"""Trained models that were asked for last: interventions begin with them."""


def _trained(config: LiveConfig, emit: Emit) -> Live:
    done = _ordinary.get(config)
    if done is None:
        done = live(config, lambda moment: emit({"before": moment.step}))
        _ordinary.put(config, done)
    return done


@router.get("/train")
def train(asked: Annotated[Treated, Query()], request: Request) -> Response:
    """Moments of the training, or of the intervention if there is any, line by line."""
    config, removed, optimum = asked.config, asked.removed, known_optimum(asked.config)
    why = WHY_NOT.get(config.architecture)
    require(
        why is not None or config.architecture in FLATTENED, "architecture", config.architecture, ", ".join(FLATTENED)
    )
    if removed and not 0 <= removed[0] <= removed[-1] < config.n_features:
        raise ValueError(f"masked must be from 1 to {config.n_features}, got {asked.masked!r}")
    if len(removed) == config.n_features:
        raise ValueError("masked must leave a feature")

    def work(emit: Emit) -> None:
        if why:
            raise ValueError(why)
        bounds = _bounds(config)
        floor = ("best monosemantic loss", bounds.monosemantic)
        references = [floor] if optimum is None else [("least loss there is", optimum), floor]

        def figures(moment: Moment) -> dict[str, go.Figure]:
            every = dict(live_figures(config, moment, shown=asked.looked_at, references=references))
            return {name: every[name] for name in FIGURES}

        kappa = asked.share * bounds.kappa
        said = [(name, f"{value:.4g}") for name, value in references]
        penalty = f"{kappa:.4g}" if bounds.kappa > 0 else "0: returns do not diminish, there is nothing to flatten"
        sender = Sender(emit, asked, figures, (*said, ("penalty κ", penalty)))
        if kappa or removed:
            done = intervene(_trained(config, emit), kappa=kappa, masked=removed, watch=sender)
            treated = CODE_TREATED.format(share=asked.share, masked=list(removed))
        else:
            done, treated = live(config, sender), ""
            _ordinary.put(config, done)
        sender.end(done, CODE.format(config=config) + treated + CODE_END)

    return stream(request, work)


@lru_cache(maxsize=64)
def _bounds(config: LiveConfig) -> LiveBounds:
    return live_bounds(config)
