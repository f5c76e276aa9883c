"""Allocation: many features under one total capacity, and what one more dimension would buy."""

from typing import Annotated

import torch
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response
from torch import Tensor

from polysem.app._shown import Shown, body_text
from polysem.features import SparseSign, geometric, parse_csv
from polysem.plots import stack_drawing, width_drawings
from polysem.studies import allocation_stack, planned
from polysem.theory import plan

router = APIRouter(prefix="/api/allocation")

MOST_FEATURES = 300
LARGEST_TABLE = 2**20
LONGEST_LIST = 20 * MOST_FEATURES
CODE = """\
import polysem as ps

v = {v}  # importances
kurtosis = {kurtosis}
best = ps.theory.allocate(v, kurtosis, {total!r})
print("capacity", best.capacity.tolist())
print("price", float(best.price))
print("loss", float(best.loss))
"""


class Features(BaseModel):
    """Features with importances `decay^i` and one kurtosis, or lists of both; and what they have to share."""

    model_config = ConfigDict(extra="forbid")
    n_features: int = Query(14, ge=1, le=MOST_FEATURES)
    decay: float = Query(0.85, gt=0, le=1)
    kurtosis: float = Query(12.0, gt=1, le=1e6)
    importances: str = Query("", max_length=LONGEST_LIST)
    kurtoses: str = Query("", max_length=LONGEST_LIST)
    total: float = Query(4.0, ge=0, le=MOST_FEATURES)

    def read(self) -> tuple[Tensor, Tensor]:
        """Importances and kurtosis `[n_features]`."""
        if not self.importances:
            v = geometric(self.n_features, self.decay)
            return v, torch.full_like(v, self.kurtosis)
        v, F = _numbers("importances", self.importances), _numbers("kurtoses", self.kurtoses)
        if len(v) != len(F):
            raise ValueError(f"kurtoses must be as many as importances, {len(v)}, got {len(F)}")
        return v, F


@router.get("")
def show(features: Annotated[Features, Query()]) -> Response:
    """Curves of all features, and where the total puts them."""
    v, F = features.read()
    result = allocation_stack(v, F, features.total)
    here = plan(v, F, [features.total])
    buys, price, loss = float(here.next_gain), float(here.price), float(here.loss)
    facts = (
        ("ignored / impure / pure", f"{int(here.n_ignored)} / {int(here.n_impure)} / {int(here.n_pure)}"),
        ("price μ of the next bit", f"{price:.4g}"),
        ("loss", f"{loss:.4g}"),
        ("one more dimension would save", f"{buys:.4g}"),
    )
    numbers: dict[str, object] = {
        "capacity": result.allocation.capacity[0].tolist(),
        "price": price,
        "loss": loss,
        "n_features": len(v),
    }
    listed = (f"ps.features.geometric({len(v)}, {features.decay!r})", repr(features.kurtosis))
    if features.importances:
        listed = repr(v.tolist()), repr(F.tolist())
    code = CODE.format(v=listed[0], kurtosis=listed[1], total=features.total)
    return Shown({"stack": stack_drawing(result)}, facts, code, numbers).response()


@router.get("/widths")
def show_widths(features: Annotated[Features, Query()]) -> Response:
    """What each width would do for these features."""
    v, F = features.read()
    return Shown(dict(width_drawings(planned(v, F, f"{len(v)} features")))).response()


@router.post("/table")
async def read_table(request: Request) -> Response:
    """The features of a CSV table, as lists for the address of the page."""
    table = parse_csv(await body_text(request, LARGEST_TABLE), "the table")
    v = table.importance
    if len(v) > MOST_FEATURES:
        raise ValueError(f"the table must have at most {MOST_FEATURES} rows, got {len(v)}")
    F = table.kurtosis
    if F is None:
        probability = table.feature_probability
        F = torch.full_like(v, 20.0) if probability is None else SparseSign(probability).kurtosis
    numbers: dict[str, object] = {
        "importances": ",".join(f"{value:.6g}" for value in v.tolist()),
        "kurtoses": ",".join(f"{value:.6g}" for value in F.tolist()),
        "n_features": len(v),
    }
    return Shown(numbers=numbers).response()


def _numbers(name: str, text: str) -> Tensor:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{name} must be numbers with commas between, got {text[:40]!r}") from None
    if len(values) > MOST_FEATURES:
        raise ValueError(f"{name} must be at most {MOST_FEATURES}, got {len(values)}")
    return torch.tensor(values, dtype=torch.float64)
