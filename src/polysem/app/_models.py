"""Your model: a matrix of one's own measured, its purest and least pure features, and who interferes with them."""

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from polysem._checks import require
from polysem.app._kept import Kept
from polysem.app._shelf import UPLOADED, Shelf
from polysem.app._shown import Shown
from polysem.app._work import Emit, Progress, stream
from polysem.networks import Feature, Measured, Partner, StoredMatrix, analyze, load, visible_label
from polysem.plots import report_figures

router = APIRouter(prefix="/api/models")

MOST_DIMENSIONS = 8192
"""Measuring takes the square of a matrix's smaller side as memory: wider ones are left to the command line."""

MOST_FEATURES = 2_000_000
"""Of one matrix, and of all that are kept."""

MOST_MATRICES = 2000
"""Matrices of a file that are listed."""

MOST_DRAWS = 64
LISTED = 12
"""Features in each list, and partners of a feature."""

KEPT = 6
ALLOWED = "at most {:,} here; `polysem analyze` measures what fits in memory"
LONGEST_NAME = 1000
CODE = """\
import polysem as ps

{labels}(found,) = ps.networks.analyze(
    {file!r}, {tensor!r}, features={features!r}, norm={norm!r}, draws={draws}, seed={seed}{given}
)
print(found.report)
for feature in found.least_pure(5):
    print(feature.index, feature.label, feature.capacity)
"""
CODE_PARTNERS = """\
for partner in found.partners({index}):
    print(partner.index, partner.label, partner.cosine, partner.share)
"""


class Asked(BaseModel):
    """A matrix, which of its sides are features, and how it is measured."""

    model_config = ConfigDict(extra="forbid")
    file: str = Query(max_length=LONGEST_NAME)
    tensor: str = Query(max_length=LONGEST_NAME)
    features: Literal["rows", "columns"] = Query("rows")
    norm: Literal["raw", "unit"] = Query("raw")
    draws: int = Query(8, ge=2, le=MOST_DRAWS)
    seed: int = Query(0, ge=0, le=2**31)
    labels: str = Query("", max_length=LONGEST_NAME)
    feature: str = Query("", max_length=LONGEST_NAME)


@router.get("/files")
async def show_files(request: Request) -> Response:
    """What can be opened."""
    shelf = shelf_of(request)
    listing = await shelf.opening.once(shelf.listing)
    numbers: dict[str, object] = {
        "files": [vars(entry) for entry in listing.entries],
        "left_out": listing.left_out,
        "folder": None if shelf.folder is None else str(shelf.folder),
        "largest_upload": shelf.largest_upload,
    }
    return Shown(numbers=numbers).response()


@router.post("/upload")
async def upload(request: Request, name: Annotated[str, Query(max_length=LONGEST_NAME)]) -> Response:
    """Take a file in."""
    try:
        return Shown(numbers={"name": await shelf_of(request).keep(name, request.stream())}).response()
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it


@router.get("/matrices")
async def show_matrices(request: Request, file: Annotated[str, Query(max_length=LONGEST_NAME)]) -> Response:
    """The matrices of a file, with both readings."""
    shelf = shelf_of(request)
    opened = await shelf.opening.once(lambda: load(shelf.find(file)))
    numbers: dict[str, object] = {
        "format": opened.format,
        "matrices": [_listed(name, opened[name]) for name in islice(opened, MOST_MATRICES)],
        "left_out": max(len(opened) - MOST_MATRICES, 0),
        "skipped": len(opened.skipped),
    }
    return Shown(numbers=numbers).response()


@router.get("/measure")
def measure(asked: Annotated[Asked, Query()], request: Request) -> Response:
    """Progress line by line, then the measurements."""
    measurements, shelf = measurements_of(request), shelf_of(request)

    def work(emit: Emit) -> None:
        found = measurements(asked, shelf, emit)
        report = found.report
        numbers: dict[str, object] = {
            **report.to_dict(),
            "most": [_feature(one) for one in found.most_pure(LISTED)],
            "least": [_feature(one) for one in found.least_pure(LISTED)],
        }
        figures = dict(report_figures(report, found.labels))
        emit(Shown(figures, tuple(report.table()), _code(asked, shelf), numbers).content)

    return stream(request, work)


@router.get("/partners")
def partners(asked: Annotated[Asked, Query()], request: Request) -> Response:
    """What interferes most with a feature, after progress if the matrix has to be measured again."""
    measurements, shelf = measurements_of(request), shelf_of(request)

    def work(emit: Emit) -> None:
        found = measurements(asked, shelf, emit)
        index = found.index(asked.feature)
        stored = load(shelf.find(asked.file)).matrix(asked.tensor)
        found = replace(found, rows=stored.rows_of(asked.features))
        numbers: dict[str, object] = {
            "feature": _feature(found.feature(index)),
            "partners": [_partner(one) for one in found.partners(index, LISTED, watch=Progress(emit))],
        }
        emit(Shown(code=_code(asked, shelf) + CODE_PARTNERS.format(index=index), numbers=numbers).content)

    return stream(request, work)


@router.get("/features.csv")
def table(asked: Annotated[Asked, Query()], request: Request) -> Response:
    """All features of a matrix that has been measured."""
    found = measurements_of(request).kept(asked, shelf_of(request))
    if found is None:
        raise ValueError("the matrix must be measured first")
    return StreamingResponse(_lines(found), media_type="text/csv")


class Measurements:
    """Matrices that were measured last: a page asks for their features again and again."""

    def __init__(self) -> None:
        self._kept: Kept[object, Measured] = Kept(KEPT, lambda one: one.report.n_features, MOST_FEATURES)

    def __call__(self, asked: Asked, shelf: Shelf, emit: Emit) -> Measured:
        """Measure what is asked for, unless that was done before; what `emit` raises ends the work."""
        key = self._key(asked, shelf)
        found = self._kept.get(key)
        if found is not None:
            return found
        path = shelf.find(asked.file)
        smaller, larger = sorted(load(path).matrix(asked.tensor).shape)
        require(smaller <= MOST_DIMENSIONS, "the smaller side of the matrix", smaller, ALLOWED.format(MOST_DIMENSIONS))
        require(larger <= MOST_FEATURES, "the larger side of the matrix", larger, ALLOWED.format(MOST_FEATURES))
        emit({"progress": 0.0})
        told = Progress(emit)
        (found,) = analyze(
            path,
            asked.tensor,
            features=asked.features,
            norm=asked.norm,
            draws=asked.draws,
            seed=asked.seed,
            progress=lambda _, done, n: told(done / n),
            labels=shelf.labels(asked.labels) if asked.labels else None,
        )
        found = replace(found, rows=None)  # which may hold the file open, or all of it in memory
        self._kept.put(key, found)
        return found

    def kept(self, asked: Asked, shelf: Shelf) -> Measured | None:
        """What was measured before, if the files are the same still."""
        return self._kept.get(self._key(asked, shelf))

    @staticmethod
    def _key(asked: Asked, shelf: Shelf) -> object:
        names = [asked.file, asked.labels] if asked.labels else [asked.file]
        files = [shelf.find(name).stat() for name in names]
        return asked.model_dump_json(exclude={"feature"}), *((s.st_ino, s.st_size, s.st_mtime_ns) for s in files)


def shelf_of(request: Request) -> Shelf:
    """The files that this explorer may open."""
    shelf: Shelf = request.app.state.shelf
    return shelf


def measurements_of(request: Request) -> Measurements:
    """What this explorer has measured."""
    measurements: Measurements = request.app.state.measurements
    return measurements


def name_in_code(name: str, shelf: Shelf) -> str:
    """What a script calls a file: uploads by the name that their owner has given them."""
    return name.rpartition("/")[2] if name.startswith(UPLOADED) else str(shelf.find(name))


def _listed(name: str, matrix: StoredMatrix) -> dict[str, object]:
    return {"name": name, "shape": matrix.shape, "dtype": str(matrix.dtype).removeprefix("torch.")}


def _code(asked: Asked, shelf: Shelf) -> str:
    labels = given = ""
    if asked.labels:
        labels = f"labels = ps.networks.read_labels({name_in_code(asked.labels, shelf)!r})\n"
        given = ", labels=labels"
    settings = asked.model_dump(include={"tensor", "features", "norm", "draws", "seed"})
    return CODE.format(file=name_in_code(asked.file, shelf), labels=labels, given=given, **settings)


def _feature(one: Feature) -> dict[str, object]:
    return {
        "index": one.index,
        "label": _shown_label(one.label),
        "capacity": one.capacity,
        "null": one.null,
        "norm": one.norm,
    }


def _partner(one: Partner) -> dict[str, object]:
    return {"index": one.index, "label": _shown_label(one.label), "cosine": one.cosine, "share": one.share}


def _shown_label(label: str | None) -> str | None:
    return None if label is None else visible_label(label)


def _lines(found: Measured) -> Iterator[bytes]:
    """Every feature as a line of CSV, many at a time."""
    report = found.report
    columns = (report.capacity, report.leverage, report.row_norm, found.null)
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(("feature", "label", "capacity", "leverage", "norm", "capacity of random directions"))
    for start in range(0, max(report.n_features, 1), 1000):
        stop = min(start + 1000, report.n_features)
        labels = found.labels[start:stop] if found.labels else ("",) * (stop - start)
        writer.writerows(zip(range(start, stop), labels, *(c[start:stop].tolist() for c in columns), strict=True))
        yield buffer.getvalue().encode("utf-8", "backslashreplace")  # labels from JSON can be no text
        buffer.seek(0)
        buffer.truncate()
