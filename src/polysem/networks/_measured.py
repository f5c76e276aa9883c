"""What was measured of a matrix of a network, feature by feature."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from polysem._checks import require, whole
from polysem.measure import CapacityReport, RowBlocks, partners
from polysem.networks._heads import Stream

_COMPARED = 1_000_000  # characters of labels that are searched for one like a label that is none


@dataclass(frozen=True)
class Feature:
    """One feature of a measured matrix.

    Attributes:
        matrix: name of the matrix.
        index: row among its features.
        label: its name, if labels were given.
        head: the head of attention that it belongs to, where there are heads.
        capacity, leverage, norm: as measured.
        null: what its capacity would be about if all directions were random, at the observed norms.
    """

    matrix: str
    index: int
    label: str | None
    head: int | None
    capacity: float
    leverage: float
    norm: float
    null: float


@dataclass(frozen=True)
class Partner:
    """A feature that interferes with another one.

    Attributes:
        index: row among the features.
        label: its name, if labels were given.
        cosine: between the directions of both.
        share: of `Σ_j (W_i·W_j)²` that it takes; the feature itself has its capacity of it.
    """

    index: int
    label: str | None
    cosine: float
    share: float


@dataclass(frozen=True)
class Measured:
    """A matrix of features, and what was measured of it.

    Attributes:
        name: of the matrix, and which reading of it where both were measured.
        layer: number of its layer, from 0; `None` outside of layers.
        kind: what it is to the network, "MLP in" for instance; "matrix" where that is not known.
        stream: whether features read from the residual stream or write to it, where that is known.
        stored_shape: shape as stored.
        features: whether stored `"rows"` or `"columns"` are features, or the singular directions of `"heads"`.
        report: the measurements.
        labels: of all features, or `None`.
        n_heads: number of heads of equally many features each, where features belong to heads.
        rows: the features; those of a file are read again when they are needed.
    """

    name: str
    layer: int | None
    kind: str
    stream: Stream | None
    stored_shape: tuple[int, ...]
    features: Literal["rows", "columns", "heads"]
    report: CapacityReport = field(repr=False)
    labels: tuple[str, ...] | None = field(default=None, repr=False)
    n_heads: int | None = None
    rows: RowBlocks | Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def null(self) -> Tensor:
        """About the capacity of each feature among random directions: `a_i / (a_i + Σ_{j≠i} a_j / D)`, `a_i = |W_i|²`.

        A plug-in value, biased low where norms are very unequal; the report's null is drawn.
        """
        norm = self.report.row_norm
        squared = (norm / norm.max() if bool(norm.any()) else norm).square()  # which neither overflow nor all vanish
        spent = squared + (squared.sum() - squared) / max(self.report.d_hidden, 1)
        return torch.where(spent > 0, squared / torch.where(spent > 0, spent, 1.0), 0.0)

    def feature(self, index: int) -> Feature:
        """What was measured of one feature.

        Args:
            index: row among the features.

        Returns:
            Its label, head and numbers.

        Raises:
            ValueError: there is no such row.

        Source: ours.
        """
        index = whole("feature", index, 0)
        n = self.report.n_features
        require(index < n, "feature", index, f"less than the {n} features of {self.name}")
        return Feature(
            self.name,
            index,
            self.labels[index] if self.labels else None,
            index // (n // self.n_heads) if self.n_heads else None,
            *(float(t[index]) for t in (self.report.capacity, self.report.leverage, self.report.row_norm, self.null)),
        )

    def index(self, feature: int | str) -> int:
        """The row of a feature given by its number or its label.

        Args:
            feature: either; a number written as text counts as such where it is no label.

        Returns:
            The row.

        Raises:
            ValueError: no feature, or several, have that label, or there are no labels.

        Source: ours.
        """
        if isinstance(feature, str) and feature.isdecimal() and feature not in (self.labels or ()):
            feature = int(feature)
        if not isinstance(feature, str):
            return self.feature(feature).index
        require(self.labels is not None, "feature", feature, f"a number, as {self.name} has no labels")
        assert self.labels is not None
        found = [index for index, label in enumerate(self.labels) if label == feature]
        few = not found and sum(map(len, self.labels)) <= _COMPARED
        close = difflib.get_close_matches(feature, self.labels, n=3) if few else []
        hint = f" (close to it: {', '.join(map(repr, close))})" if close else ""
        require(len(found) == 1, "feature", feature, f"the label of one feature of {self.name}, not {len(found)}{hint}")
        return found[0]

    def most_pure(self, n: int = 10, *, relative: bool = False) -> tuple[Feature, ...]:
        """The features with the largest capacities, largest first.

        Args:
            n: how many at most.
            relative: whether to go by capacity over `null`: who owns most for its norm.

        Returns:
            Zero rows are none of them.

        Source: ours.
        """
        return self._ordered(n, relative, descending=True)

    def least_pure(self, n: int = 10, *, relative: bool = False) -> tuple[Feature, ...]:
        """The features with the smallest capacities, smallest first.

        Args:
            n: how many at most.
            relative: whether to go by capacity over `null`: who owns least for its norm.

        Returns:
            Zero rows, which own nothing because they are not there, are none of them.

        Source: ours.
        """
        return self._ordered(n, relative, descending=False)

    def _ordered(self, n: int, relative: bool, *, descending: bool) -> tuple[Feature, ...]:
        there = (self.report.row_norm > 0).nonzero()[:, 0]
        capacity = self.report.capacity[there]
        by = capacity / self.null[there] if relative else capacity
        order = torch.sort(by, descending=descending, stable=True).indices
        return tuple(self.feature(index) for index in there[order[: whole("n", n)]].tolist())

    def partners(
        self, feature: int | str, k: int = 10, *, watch: Callable[[float], None] | None = None
    ) -> tuple[Partner, ...]:
        """The features that interfere most with one feature, strongest first.

        Args:
            feature: its row, or its label.
            k: how many at most.
            watch: told the share of the work that is done, as that of `polysem.measure.partners`.

        Returns:
            Each with its cosine and its share.

        Raises:
            ValueError: there is no such feature.
            WeightFileError: the file cannot be read any more, or has changed.

        Source: ours.
        """
        return self.partners_of((self.index(feature),), k, watch=watch)[0]

    def partners_of(
        self, features: tuple[int, ...], k: int = 10, *, watch: Callable[[float], None] | None = None
    ) -> tuple[tuple[Partner, ...], ...]:
        """Partners of several features, from one reading of the matrix.

        Args:
            features: their rows.
            k: how many at most of each.
            watch: as in `partners`.

        Returns:
            As `partners` does, for each.

        Source: ours.
        """
        if self.rows is None:
            raise ValueError(f"{self.name} was measured without its rows, which say what interferes")
        k = min(whole("k", k), self.report.n_features - 1)
        if not features or k < 1:
            return ((),) * len(features)
        found = partners(self.rows, features, k=k, norm=self.report.norm, watch=watch)
        return tuple(
            tuple(
                Partner(index, self.labels[index] if self.labels else None, cosine, share)
                for index, cosine, share in zip(*values, strict=True)
            )
            for values in zip(found.index.tolist(), found.cosine.tolist(), found.share.tolist(), strict=True)
        )

    def to_dict(self) -> dict[str, object]:
        """What was measured and where, for JSON; per-feature numbers are left out."""
        where: dict[str, object] = {
            "tensor": self.name,
            "layer": self.layer,
            "kind": self.kind,
            "stream": self.stream,
            "stored_shape": list(self.stored_shape),
            "features": self.features,
            "n_heads": self.n_heads,
        }
        return where | self.report.to_dict()
