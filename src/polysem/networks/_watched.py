"""Which matrices of a network are watched, and which of their sides are features."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

from torch import Tensor, nn

from polysem._checks import require
from polysem.networks._modules import Features, ModuleMatrix, module_matrices
from polysem.networks._summary import work

MOST_WORK = 1e11
"""Multiply-adds of one measurement above which a matrix is watched only if it is named."""


@dataclass(frozen=True, eq=False)
class _Parameter:
    """A matrix that a module holds as a parameter of its own, not as the weight of a layer."""

    module: nn.Module
    names: tuple[str, ...]
    kind: Literal["parameter"] = "parameter"

    def shape(self, features: Features) -> tuple[int, int]:
        n, d = self.rows(features).shape
        return n, d

    def rows(self, features: Features) -> Tensor:
        stored = self.module.get_parameter(self.names[0])
        return stored.mT if features == "columns" else stored


@dataclass(frozen=True, eq=False)
class Watched:
    """A matrix, and which of its sides are features."""

    matrix: ModuleMatrix | _Parameter
    features: Features

    @property
    def name(self) -> str:
        """Its first name."""
        return self.matrix.names[0]

    @property
    def shape(self) -> tuple[int, int]:
        """`(n_features, d_hidden)`."""
        return self.matrix.shape(self.features)

    @property
    def work(self) -> int:
        """Multiply-adds of one measurement."""
        return work(*self.shape)

    def rows(self) -> Tensor:
        """The features as they are now."""
        return self.matrix.rows(self.features)


def watched(module: nn.Module, matrices: Mapping[str, Features] | None) -> list[Watched]:
    """The matrices that were declared, or embeddings and output units of linear layers up to `MOST_WORK`."""
    layers = list(module_matrices(module).values())
    if matrices is None:
        return _by_default(layers)
    require(len(matrices) > 0, "matrices", dict(matrices), "a mapping with at least one entry")
    of_layers = {name for matrix in layers for name in matrix.names}
    others = [
        _Parameter(module, (name,))
        for name, parameter in module.named_parameters()
        if parameter.ndim == 2 and name not in of_layers
    ]
    known: list[ModuleMatrix | _Parameter] = [*layers, *others]
    chosen: dict[str, Watched] = {}
    for pattern, features in matrices.items():
        require(features in get_args(Features), f"matrices[{pattern!r}]", features, "'rows' or 'columns'")
        matching = [matrix for matrix in known if any(fnmatchcase(name, pattern) for name in matrix.names)]
        require(len(matching) > 0, "matrices", pattern, f"a name or pattern of {_listed(known)}")
        for matrix in matching:
            found = Watched(matrix, features)
            require(min(found.shape) > 0, found.name, found.shape, "of at least one feature and one dimension")
            chosen.setdefault(found.name, found)
    return list(chosen.values())


def _by_default(layers: list[ModuleMatrix]) -> list[Watched]:
    found = [Watched(matrix, "rows") for matrix in layers if matrix.kind in ("embedding", "linear")]
    large = [one for one in found if one.work > MOST_WORK]
    if large:
        warnings.warn(
            f"not watched: {', '.join(f'{one.name} ({one.work:.0e} multiply-adds)' for one in large)}. Each "
            f"measurement would take more than {MOST_WORK:.0e}; name them in `matrices` to watch them all the same",
            UserWarning,
            stacklevel=4,
        )
    kept = [one for one in found if min(one.shape) > 0 and one.work <= MOST_WORK]
    require(len(kept) > 0, "module", _listed(layers), "a network with embeddings or linear layers, or name `matrices`")
    return kept


def _listed(known: Sequence[ModuleMatrix | _Parameter]) -> str:
    return ", ".join(name for matrix in known for name in matrix.names) or "no matrix"
