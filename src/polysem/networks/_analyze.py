"""Capacity of the features of a network, or of one matrix in a file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Literal

import torch
from torch import Tensor, nn

from polysem._checks import require
from polysem.measure import Norm, RowBlocks, block_rows, report
from polysem.networks._config import heads_of, read_config
from polysem.networks._files import WeightFile, load
from polysem.networks._heads import HeadRows
from polysem.networks._measured import Measured
from polysem.networks._modules import ModuleMatrix, module_matrices
from polysem.networks._places import Layout, Place, places_of, recognise_family
from polysem.networks._result import Analysis
from polysem.networks._stored import StoredMatrix

Labels = Sequence[str] | Mapping[str, Sequence[str]]
"""Labels of features: of all tokens, or by the names of matrices."""

Progress = Callable[[str, float, int], None]
"""Told the name of the matrix that is measured, how many are done (with the share of this one), how many there are."""

_TOKENS = ("token embedding", "unembedding")


def analyze(
    path_or_module: str | PathLike[str] | nn.Module,
    tensor: str | None = None,
    *,
    features: Literal["rows", "columns"] | None = None,
    n_heads: int | None = None,
    labels: Labels | None = None,
    norm: Norm = "raw",
    draws: int = 8,
    seed: int = 0,
    progress: Progress | None = None,
) -> Analysis:
    """Measure the capacity of every feature of a network's matrices, without holding the network in memory.

    `C_i = |W_i|⁴ / (W_iᵀ M W_i)` with the null baselines of `polysem.measure.report`, matrix by matrix; rows of a file
    are read block by block, twice.

    - A transformer whose names are those of a known family (BERT, GPT-2, Llama, Mistral, Gemma, GPT-NeoX and Pythia, as
      Hugging Face stores them), in a file, a folder or as a module: token and position embedding, what every neuron of
      every MLP reads and writes, what the heads of attention read and write, and the unembedding. Features are vectors
      of the residual stream, whose width all matrices must share.
    - Any other module: each `nn.Embedding`, and the reads and writes of every linear and convolutional layer.
    - One matrix, named by `tensor`.

    Heads have no basis of their own: their features are the singular directions of `W_Oᵀ W_V`, scaled by the singular
    values, `d_head` for each head.

    Weights are taken as stored. Networks that normalise before they read multiply the stream by a gain first (Llama by
    the stored `weight`, Gemma by `1 + weight`), which is not folded in: where gains are unequal, directions that the
    network amplifies count less here than they do for it. The same holds for the gains that Gemma 2 puts on what is
    written, and BERT on the whole stream after it is written to.

    Args:
        path_or_module: a file or folder that `load` reads, or a module.
        tensor: name of one matrix, to measure it alone.
        features: with `tensor`: whether its stored rows (as if not given) or columns are features. It is never
            inferred: rows are the convention of embeddings and of SAE decoders `W_dec[d_sae, d_in]`, columns that of
            `nn.Linear` decoders.
        n_heads: heads of attention; as if not given, what `config.json` beside the weights says, or the module's
            `config`. Where nothing does, attention is left out, and `notes` says so.
        labels: of the tokens of a transformer, or of the features of `tensor`, as many as there are; or a mapping
            from names of measured matrices to labels.
        norm: `"raw"` takes features as they are, `"unit"` divides each by its norm first.
        draws: random matrices per null.
        seed: seeds them.
        progress: is told what is measured, again and again; what it raises ends the measurement.

    Returns:
        The measurements of each matrix.

    Raises:
        WeightFileError: the file or the matrix cannot be read.
        ValueError: an argument out of range; a file whose names are of no known family, without `tensor`; matrices
            whose shapes contradict each other; labels that do not fit; or a NaN or infinity (the first bad row is
            named).

    Example:
        >>> import tempfile, numpy as np
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "W.npy"
        ...     np.save(path, np.array([[1.0, -1.0, 0.0], [0.0, 0.0, 2.0]]))
        ...     (found,) = analyze(path, "W", features="columns")
        >>> [round(c, 6) for c in found.report.capacity.tolist()]
        [0.5, 0.5, 1.0]

    Source: ours; capacity after Scherlis et al. 2022.
    """
    require(features in (None, "rows", "columns"), "features", features, "'rows' or 'columns'")
    require(features is None or tensor is not None, "features", features, "left out unless tensor names a matrix")
    if isinstance(path_or_module, nn.Module):
        network = _of_module(path_or_module, n_heads)
        require(tensor is None, "tensor", tensor, "left out where a module is given")
    else:
        file = load(path_or_module)
        network = _of_file(file, n_heads) if tensor is None else _of_tensor(file, tensor, features or "rows")
    named = _labels_by_name(network, labels)
    measured = []
    for done, place in enumerate(network.places):
        rows: Tensor | RowBlocks = place.rows.tensor() if isinstance(place.rows, HeadRows) else place.rows
        measured.append(
            Measured(
                name=place.name,
                layer=place.layer,
                kind=place.kind,
                stream=place.stream,
                stored_shape=place.stored_shape,
                features=place.features,
                report=report(
                    rows,
                    norm=norm,
                    draws=draws,
                    seed=seed,
                    watch=_watch(progress, place.name, done, len(network.places)),
                ),
                labels=named.get(place.name),
                n_heads=place.n_heads,
                rows=place.rows,
            )
        )
    return Analysis(network.source, network.family, tuple(measured), network.notes)


def _watch(progress: Progress | None, name: str, done: int, n: int) -> Callable[[float], None] | None:
    """What the measurement of one of `n` matrices tells, said of all of them."""
    if progress is None:
        return None
    progress(name, done, n)
    return lambda share: progress(name, done + share, n)


def family_of(file: WeightFile) -> tuple[str | None, str]:
    """The family of transformers whose names a file has.

    Args:
        file: as loaded.

    Returns:
        The name of the family and an empty text, or `None` and why it is of none.

    Raises:
        ValueError: a network of that family must have other matrices.

    Source: ours.
    """
    layout = recognise_family(file.matrices)
    return (None, layout) if isinstance(layout, str) else (layout.family.name, "")


@dataclass(frozen=True)
class _Network:
    """What is to be measured."""

    source: str
    family: str | None
    places: tuple[Place, ...]
    notes: tuple[str, ...] = ()


def _of_tensor(file: WeightFile, tensor: str, features: Literal["rows", "columns"]) -> _Network:
    matrix = file.matrix(tensor)
    place = Place(tensor, None, "matrix", None, matrix.shape, features, matrix.rows_of(features))
    return _Network(str(file.path), None, (place,))


def _of_file(file: WeightFile, n_heads: int | None) -> _Network:
    layout = recognise_family(file.matrices)
    if isinstance(layout, str):
        raise ValueError(f"{file.path}: not a transformer of a known family: {layout}; tensor= names one matrix")
    config = read_config(file.path if file.path.is_dir() else file.path.parent)
    return _of_layout(str(file.path), layout, file.matrices, n_heads or heads_of(config))


def _of_module(module: nn.Module, n_heads: int | None) -> _Network:
    held: dict[str, StoredMatrix] = {
        name: _ModuleMatrix(name, (value.shape[0], value.shape[1]), value.dtype, value)
        for name, value in module.state_dict().items()
        if value.ndim == 2 and value.is_floating_point()
    }
    layout = recognise_family(held)
    source = type(module).__name__
    if isinstance(layout, str):
        places = tuple(_places_of_layers(module))
        if not places:
            raise ValueError(
                f"path_or_module must have linear, convolutional or embedding layers, got {source}: no matrix"
            )
        return _Network(source, None, places)
    to_dict = getattr(getattr(module, "config", None), "to_dict", dict)
    return _of_layout(source, layout, held, n_heads or heads_of(to_dict()))


def _places_of_layers(module: nn.Module) -> Iterator[Place]:
    """Both readings of every layer, in the order of the layers; embeddings have one."""
    for number, (name, matrix) in enumerate(module_matrices(module).items()):
        kind, shape = type(matrix.layer).__name__, matrix.stored_shape
        rows, columns = _LayerRows(matrix, "rows"), _LayerRows(matrix, "columns")
        if matrix.kind == "embedding":
            yield Place(name, number, kind, "writes", shape, "rows", rows)
        else:
            yield Place(f"{name} (reads)", number, kind, "reads", shape, "rows", rows)
            yield Place(f"{name} (writes)", number, kind, "writes", shape, "columns", columns)


@dataclass(frozen=True, eq=False)
class _LayerRows:
    """Features of a layer in memory, laid out as rows when they are read."""

    matrix: ModuleMatrix
    features: Literal["rows", "columns"]

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n_features, d_hidden)`."""
        return self.matrix.shape(self.features)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weight."""
        return self.matrix.weight.dtype

    def blocks(self) -> Iterator[Tensor]:
        """Yield consecutive blocks of rows `[n_rows, d_hidden]` from the first row to the last."""
        yield from torch.split(self.matrix.rows(self.features).detach(), block_rows(self.shape[1], self.shape[1]))


@dataclass(frozen=True, eq=False)
class _ModuleMatrix(StoredMatrix):
    """A matrix of a module, in memory already."""

    held: Tensor

    def tensor(self) -> Tensor:
        """The matrix itself."""
        return self.held

    def _pieces(self, across: bool, step: int) -> Iterator[Tensor]:
        yield from torch.split(self.held.mT if across else self.held, step)


def _of_layout(source: str, layout: Layout, matrices: Mapping[str, StoredMatrix], n_heads: int | None) -> _Network:
    return _Network(source, layout.family.name, *places_of(layout, matrices, n_heads))


def _labels_by_name(network: _Network, labels: Labels | None) -> dict[str, tuple[str, ...]]:
    """Labels of each matrix that has some, once they fit."""
    if labels is None:
        return {}
    places = {place.name: place for place in network.places}
    if not isinstance(labels, Mapping):
        named = [place.name for place in network.places if place.kind in _TOKENS or place.kind == "matrix"]
        if not named:
            raise ValueError(f"labels must be a mapping from names of matrices: {network.source} has no tokens")
        labels = dict.fromkeys(named, labels)
    for name, given in labels.items():
        require(name in places, "labels", name, f"of measured matrices, {', '.join(list(places)[:5])} ...")
        n = places[name].rows.shape[0]
        if len(given) != n:
            raise ValueError(f"labels must be as many as the {n:,} features of {name}, got {len(given):,}")
    return {name: tuple(given) for name, given in labels.items()}
