"""What a monitor keeps of each measurement: records of plain numbers, as a dataset and by names for a log."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from polysem.measure import Norm
from polysem.networks._summary import summarise
from polysem.networks._watched import Watched

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
COUNTS = ("n_ignored", "n_impure", "n_pure")
NUMBERS = ("total", "total_per_dimension", "null_per_dimension", "effective_rank", *COUNTS)

Record = dict[str, dict[str, Any]]
"""Of each matrix the `NUMBERS`, the capacity at the `"quantiles"` and that of the `"followed"` features."""

Followed = Mapping[str, Sequence[int]]
"""Indices of features whose own capacities are kept, by the name of their matrix."""


def measured(one: Watched, norm: Norm, followed: Sequence[int]) -> dict[str, Any]:
    """The record of a matrix; a ValueError if its weights are not finite."""
    found = summarise(one.rows(), norm)
    return {
        **found.numbers(),
        "quantiles": np.quantile(found.capacity.numpy(), QUANTILES).tolist(),
        "followed": found.capacity[list(followed)].tolist(),
    }


def missing(followed: Sequence[int]) -> dict[str, Any]:
    """The record of a matrix that could not be measured: NaN, and counts of 0."""
    nan = float("nan")
    nothing = dict.fromkeys(NUMBERS, nan) | dict.fromkeys(COUNTS, 0)
    return {**nothing, "quantiles": [nan] * len(QUANTILES), "followed": [nan] * len(followed)}


def by_name(record: Record, followed: Followed) -> dict[str, float]:
    """The numbers of a record under names such as `capacity/decoder.weight/total`."""

    def numbers(name: str, one: dict[str, Any]) -> Iterator[tuple[str, float]]:
        yield from ((key, one[key]) for key in NUMBERS)
        yield from ((f"quantile_{q}", C) for q, C in zip(QUANTILES, one["quantiles"], strict=True))
        yield from ((f"feature_{i}", C) for i, C in zip(followed.get(name, ()), one["followed"], strict=True))

    return {f"capacity/{name}/{key}": value for name, one in record.items() for key, value in numbers(name, one)}


def as_dataset(
    records: Mapping[int, Record], matrices: Sequence[Watched], followed: Followed, attrs: dict[str, Any]
) -> xr.Dataset:
    """The records over step and matrix."""
    names = [one.name for one in matrices]

    def table(key: str, *inner: int) -> npt.NDArray[Any]:
        values = [[record[name][key] for name in names] for record in records.values()]
        return np.array(values, np.int64 if key in COUNTS else np.float64).reshape(len(records), len(names), *inner)

    data = xr.Dataset(
        {
            **{key: (("step", "matrix"), table(key)) for key in NUMBERS},
            "capacity": (("step", "matrix", "quantile"), table("quantiles", len(QUANTILES))),
        },
        coords={
            "step": np.array(list(records), np.int64),
            "matrix": _words(names),
            "quantile": np.array(QUANTILES),
            "n_features": ("matrix", np.array([one.shape[0] for one in matrices])),
            "d_hidden": ("matrix", np.array([one.shape[1] for one in matrices])),
            "kind": ("matrix", _words([one.matrix.kind for one in matrices])),
            "features": ("matrix", _words([one.features for one in matrices])),
        },
        attrs=attrs,
    )
    places = [(name, index) for name, indices in followed.items() for index in indices]
    if not places:
        return data
    values = [[C for name in followed for C in record[name]["followed"]] for record in records.values()]
    return data.assign_coords(
        followed_matrix=("followed", _words([name for name, _ in places])),
        followed_feature=("followed", np.array([index for _, index in places])),
    ).assign(followed_capacity=(("step", "followed"), np.array(values).reshape(len(records), len(places))))


def _words(values: Sequence[str]) -> npt.NDArray[Any]:
    """Strings as zarr stores them without a warning."""
    return np.array(values, dtype=object)
