"""The phase diagram of trained models: computed when a page asks for it, kept for the next one."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from polysem._checks import require
from polysem.app._kept import Kept
from polysem.app._phase import Place
from polysem.app._shown import Shown
from polysem.app._work import Emit, Progress, stream
from polysem.plots import trained_phase_figure
from polysem.studies import PHASE_MODELS, POINTS, TrainedPhaseConfig, TrainedPhases, trained_phases

router = APIRouter(prefix="/api/phase/trained")

KEPT = 16

CODE = """\
import polysem as ps

config = ps.studies.{config!r}
found = ps.studies.trained_phases(config)
row, column = found.nearest({kurtosis!r}, {ratio!r})
print("kurtosis", float(found.kurtosis[column]))
print("ratio", float(found.ratio[row]))
print("capacity", found.trained[row, column].tolist())
print("theory", found.theory[row, column].tolist())
print("loss", float(found.loss[row, column]))
"""

_kept: Kept[TrainedPhaseConfig, TrainedPhases] = Kept(KEPT)


class Trained(BaseModel):
    """Which models are trained, on a grid of how many cells a side."""

    model_config = ConfigDict(extra="forbid")
    who: str = Query("tied relu", max_length=40)
    cells: int = Query(16, ge=2, le=24)

    @property
    def config(self) -> TrainedPhaseConfig:
        """The configuration of their training."""
        require(self.who in PHASE_MODELS, "who", self.who, f"theory or {' or '.join(PHASE_MODELS)}")
        require(self.cells % 2 == 0, "cells", self.cells, "even")
        return TrainedPhaseConfig(n_kurtosis=self.cells, n_ratio=self.cells, architecture=self.who)


class TrainedPlace(Trained, Place):
    """A place in the diagram of trained models."""


@router.get("/map")
def show_map(asked: Annotated[Trained, Query()], request: Request) -> Response:
    """How far the training is, line by line, and then the diagram."""
    config = asked.config

    def work(emit: Emit) -> None:
        found = _kept.get(config)
        if found is None:
            found = trained_phases(config, Progress(emit))
            _kept.put(config, found)
        emit({"done": True, **Shown({"map": trained_phase_figure(found, POINTS)}).content})

    return stream(request, work)


@router.get("/place")
def show_place(asked: Annotated[TrainedPlace, Query()]) -> Response:
    """The cell nearest to a place, in a diagram that has been trained."""
    config = asked.config
    found = _kept.get(config)
    if found is None:
        raise HTTPException(404, "These models are not kept; choose again what the map shows.")
    row, column = found.nearest(asked.kurtosis, asked.ratio)
    kurtosis, ratio = float(found.kurtosis[column]), float(found.ratio[row])
    p, loss = float(found.feature_probability[column]), float(found.loss[row, column])
    trained, theory = (capacity[row, column].tolist() for capacity in (found.trained, found.theory))
    reached = round(float(found.reached[row, column]) * config.restarts)
    facts = (
        ("nearest trained cell", f"F = {kurtosis:.4g} (features active with p = {p:.3g}), v₂/v₁ = {ratio:.4g}"),
        ("its trained capacities", _capacities(trained)),
        ("theory's in the same cell", _capacities(theory)),
        ("starts that reach its loss", f"{reached} of {config.restarts}"),
    )
    numbers: dict[str, object] = {"kurtosis": kurtosis, "ratio": ratio, "loss": loss}
    numbers |= {"capacity": trained, "theory": theory}
    code = CODE.format(config=config, kurtosis=asked.kurtosis, ratio=asked.ratio)
    return Shown({}, facts, code, numbers).response()


def _capacities(pair: list[float]) -> str:
    return f"C₁ = {pair[0]:.4f}, C₂ = {pair[1]:.4f}"
