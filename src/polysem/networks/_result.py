"""What was measured of a network: one or many matrices."""

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from polysem.measure import FeatureClass, Null
from polysem.networks._heads import Stream
from polysem.networks._measured import Feature, Measured, Partner

if TYPE_CHECKING:
    import xarray


_OF_NULLS: dict[str, Callable[[Null], float]] = {
    "mean": lambda null: null.mean,
    "low": lambda null: null.interval[0],
    "high": lambda null: null.interval[1],
}


@dataclass(frozen=True)
class Analysis:
    """What was measured of a network.

    Attributes:
        source: the file, folder or class it came from.
        family: family of transformers that it belongs to, if it is one that is known.
        measured: its matrices, those of layers in their order.
        notes: what was left out, and why.
    """

    source: str
    family: str | None
    measured: tuple[Measured, ...]
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Measured:
        """The measured matrix of that name; an error names those that are close."""
        for one in self.measured:
            if one.name == name:
                return one
        names = [one.name for one in self.measured]
        close = difflib.get_close_matches(str(name), names, n=3) or names[:3]
        raise KeyError(f"no measured matrix {name!r}; there are {', '.join(map(repr, close))}")

    def __iter__(self) -> Iterator[Measured]:
        return iter(self.measured)

    def __len__(self) -> int:
        return len(self.measured)

    def of_kind(self, kind: str, stream: Stream | None = None) -> tuple[Measured, ...]:
        """The matrices of a kind, those of layers in their order.

        Args:
            kind: "MLP in", for instance.
            stream: only those that read, or write.

        Returns:
            None, if there is no such kind.

        Source: ours.
        """
        return tuple(one for one in self.measured if one.kind == kind and stream in (None, one.stream))

    def partners(self, name: str, feature: int | str, k: int = 10) -> tuple[Partner, ...]:
        """The features that interfere most with a feature of one matrix: `self[name].partners(feature, k)`."""
        return self[name].partners(feature, k)

    def most_pure(self, name: str, n: int = 10, *, relative: bool = False) -> tuple[Feature, ...]:
        """The features of one matrix with the largest capacities: `self[name].most_pure(n)`."""
        return self[name].most_pure(n, relative=relative)

    def least_pure(self, name: str, n: int = 10, *, relative: bool = False) -> tuple[Feature, ...]:
        """The features of one matrix with the smallest capacities: `self[name].least_pure(n)`."""
        return self[name].least_pure(n, relative=relative)

    def to_dict(self) -> dict[str, object]:
        """The numbers of all matrices, for JSON; per-feature numbers are left out."""
        return {
            "source": self.source,
            "family": self.family,
            "matrices": [one.to_dict() for one in self.measured],
            "notes": list(self.notes),
        }

    def dataset(self) -> "xarray.Dataset":
        """All numbers as a labelled dataset.

        Along `feature`, all features of all matrices one below the other: `capacity`, `leverage`, `norm` and `null`
        (about the capacity among random directions), with coordinates `of` (name of the matrix), `layer` (-1 outside of
        layers), `kind`, `stream`, `head` (-1 where there are none), `index` (row in the matrix) and, if given, `label`.
        Along `matrix`: totals, both nulls with the ends of their intervals, rank, efficiency, effective dimension and
        counts, with coordinates `matrix`, `matrix_layer`, `matrix_kind` and `matrix_stream`.

        Returns:
            `dataset.where(dataset.kind == "MLP out", drop=True)` and `dataset.to_dataframe()` do what one expects.

        Example:
            >>> from polysem.networks import analyze
            >>> found = analyze(torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2)), draws=2).dataset()
            >>> dict(found.sizes)
            {'feature': 15, 'matrix': 4}
            >>> bool((found.capacity <= found.leverage + 1e-9).all())
            True

        Source: ours.
        """
        import xarray

        sizes = [one.report.n_features for one in self.measured]

        def spread(values: list[object], dtype: type) -> tuple[str, np.ndarray]:
            return "feature", np.repeat(np.array(values, dtype=dtype), sizes)

        def joined(parts: list[Tensor]) -> tuple[str, np.ndarray]:
            return "feature", torch.cat(parts).cpu().numpy() if parts else np.zeros(0)

        def each(values: list[object], dtype: type = float) -> tuple[str, np.ndarray]:
            return "matrix", np.array(values, dtype=dtype)

        reports = [one.report for one in self.measured]
        layers: list[object] = [-1 if one.layer is None else one.layer for one in self.measured]
        kinds: list[object] = [one.kind for one in self.measured]
        streams: list[object] = [one.stream or "" for one in self.measured]
        names: list[object] = [one.name for one in self.measured]
        index = [torch.arange(size) for size in sizes]
        head = [
            rows // (len(rows) // one.n_heads) if one.n_heads else torch.full_like(rows, -1)
            for one, rows in zip(self.measured, index, strict=True)
        ]
        coordinates = {
            "of": spread(names, object),
            "layer": spread(layers, int),
            "kind": spread(kinds, object),
            "stream": spread(streams, object),
            "head": joined(head),
            "index": joined(index),
            "matrix": each(names, object),
            "matrix_layer": each(layers, int),
            "matrix_kind": each(kinds, object),
            "matrix_stream": each(streams, object),
        }
        if any(one.labels for one in self.measured):
            labels = [one.labels or ("",) * size for one, size in zip(self.measured, sizes, strict=True)]
            coordinates["label"] = ("feature", np.array([x for part in labels for x in part], dtype=object))
        variables = {
            "capacity": joined([report.capacity for report in reports]),
            "leverage": joined([report.leverage for report in reports]),
            "norm": joined([report.row_norm for report in reports]),
            "null": joined([one.null for one in self.measured]),
            "n_features": each(list(sizes), int),
            "d_hidden": each([report.d_hidden for report in reports], int),
            "total": each([report.total for report in reports]),
            "total_per_dimension": each([report.total / max(report.d_hidden, 1) for report in reports]),
            "rank": each([report.rank for report in reports], int),
            "efficiency": each([report.efficiency for report in reports]),
            "effective_dimension": each([report.effective_dimension for report in reports]),
            **{
                f"{null}_{name}": each([value(getattr(report, null)) for report in reports])
                for null in ("isotropic", "covariance")
                for name, value in _OF_NULLS.items()
            },
            **{
                f"n_{kind.name.lower()}": each([report.counts[kind] for report in reports], int)
                for kind in FeatureClass
            },
        }
        return xarray.Dataset(variables, coordinates, {"source": self.source, "family": self.family or ""})
