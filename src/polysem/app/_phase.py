"""The phase diagram: two features that compete for one dimension."""

from dataclasses import asdict
from functools import lru_cache
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from polysem.app._shown import Shown
from polysem.plots import pair_curves_drawing
from polysem.plots import phase_map as phase_map_figure
from polysem.studies import POINTS, PhaseConfig, pair_curves, phase_map
from polysem.theory import Phase, phase

router = APIRouter(prefix="/api/phase")

SAYS = {
    Phase.FIRST_ONLY: "feature 1 has the dimension, feature 2 is ignored",
    Phase.BOTH: "both share the dimension",
    Phase.SECOND_ONLY: "feature 2 has the dimension, feature 1 is ignored",
}
CODE = """\
import polysem as ps

kurtosis, ratio = {kurtosis!r}, {ratio!r}  # of both features; v2 / v1
best = ps.theory.allocate([1.0, ratio], kurtosis, 1.0)
print("capacity", best.capacity.tolist())
print("price", float(best.price))
print("benefit", ps.theory.marginal_benefit([1.0, ratio], kurtosis, best.capacity).tolist())
print("phase", ps.theory.Phase(int(ps.theory.phase(ratio, kurtosis))).name)
"""


class Place(BaseModel):
    """A place in the diagram."""

    model_config = ConfigDict(extra="forbid")
    kurtosis: float = Query(6.0, gt=1, le=1e6)
    ratio: float = Query(0.6, ge=0, le=1e6)


@router.get("/map")
def show_map() -> Response:
    """The diagram by theory, with the points A to F."""
    return _map()


@lru_cache
def _map() -> Response:
    result = phase_map(PhaseConfig(n_kurtosis=96, n_ratio=96))
    figure = phase_map_figure(
        result.kurtosis,
        result.ratio,
        result.optimum.capacity,
        POINTS,
        "Who gets the dimension",
        "Colour: how much of the dimension feature 2 owns (grey: less than 0.05; orange: more than 0.95). Below the "
        "lower white line it owns nothing, above the upper one all, between them both share; up to F = 3 the more "
        "important feature takes all. Click anywhere: the ring is the place whose curves stand beside the map.",
    )
    return Shown({"map": figure}, numbers={"points": [asdict(point) for point in POINTS]}).response()


@router.get("/place")
def show_place(place: Annotated[Place, Query()]) -> Response:
    """Curves of the two features at a place, and their optimum."""
    result = pair_curves(place.kurtosis, place.ratio)
    capacity, benefit = result.optimum.capacity.tolist(), result.optimum_benefit.tolist()
    code = Phase(int(phase(place.ratio, place.kurtosis)))
    facts = (
        ("phase", SAYS[code]),
        ("capacities at the optimum", f"C₁ = {capacity[0]:.4f}, C₂ = {capacity[1]:.4f}"),
        ("marginal benefits there", f"{benefit[0]:.4g} of feature 1, {benefit[1]:.4g} of feature 2"),
        ("price of the dimension μ", f"{float(result.optimum.price):.4g}"),
    )
    numbers: dict[str, object] = {"capacity": capacity, "benefit": benefit, "price": float(result.optimum.price)}
    figures = {"curves": pair_curves_drawing(result)}
    return Shown(figures, facts, CODE.format(**place.model_dump()), numbers).response()
