"""Which matrices of features a transformer holds, once its names have told its family."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from polysem.measure import RowBlocks
from polysem.networks._families import FAMILIES, Family, Reading
from polysem.networks._heads import HeadRows, Stream
from polysem.networks._stored import StoredMatrix


@dataclass(frozen=True, eq=False)
class Place:
    """A matrix of features and where in its network it stands, not yet read.

    Attributes:
        name: of the matrix as stored; of heads, the stored matrix on that side of them.
        layer: number of its layer, from 0; `None` outside of layers.
        kind: what it is to the network.
        stream: whether its features read from the residual stream or write to it.
        stored_shape: shape as stored.
        features: whether stored `"rows"` or `"columns"` are features, or directions of `"heads"`.
        rows: the features.
        n_heads: number of heads, of equally many features each, where features belong to heads.
    """

    name: str
    layer: int | None
    kind: str
    stream: Stream | None
    stored_shape: tuple[int, ...]
    features: Literal["rows", "columns", "heads"]
    rows: RowBlocks
    n_heads: int | None = None


@dataclass(frozen=True)
class Layout:
    """A network whose names are those of a family.

    Attributes:
        family: the family.
        prefix: what stands before its names.
        n_layers: number of its layers.
        d_model: width of the residual stream.
        unembedding: name of the matrix of the outputs, if there is one apart from the token embedding.
    """

    family: Family
    prefix: str
    n_layers: int
    d_model: int
    unembedding: str | None

    def layer(self, number: int) -> str:
        """What stands before the names of a layer."""
        return f"{self.prefix}{self.family.layer}{number}."


def recognise_family(matrices: Mapping[str, StoredMatrix]) -> Layout | str:
    """The family whose names all matrices of the first layer have, or why it is none.

    Raises:
        ValueError: a matrix of a recognised network is missing, or has another shape than its place asks for.
    """
    close, found = [], []
    for family in FAMILIES:
        for name in matrices:
            if name != family.embedding and not name.endswith(f".{family.embedding}"):
                continue
            prefix = name.removesuffix(family.embedding)
            missing = [part for part in _names(family, f"{prefix}{family.layer}0.") if part not in matrices]
            if missing:
                close.append(f"{name!r} is that of a {family.name} network, but there is no {missing[0]!r}")
            else:
                found.append((family, prefix))
    if len(found) > 1:
        return f"{len(found)} networks in one, with the prefixes " + ", ".join(repr(prefix) for _, prefix in found)
    if not found:
        return "; ".join(close) or "its names are of no family of networks that is known"
    return _checked(matrices, *found[0])


def _names(family: Family, layer: str) -> list[str]:
    attention = family.attention
    return [f"{layer}{name}" for name in (*(part.name for part in family.parts), attention.value, attention.output)]


def _checked(matrices: Mapping[str, StoredMatrix], family: Family, prefix: str) -> Layout:
    """The layout, once every matrix is there and shares the width of the residual stream."""
    embedding = f"{prefix}{family.embedding}"
    d_model = matrices[embedding].shape[1]
    number = re.compile(re.escape(f"{prefix}{family.layer}") + r"(\d{1,6})\.")
    layers = {int(match[1]) for name in matrices if (match := number.match(name))}
    outputs = [name for name in matrices if any(name == u or name.endswith(f".{u}") for u in family.unembedding)]
    if len(outputs) > 1:
        raise ValueError(f"one unembedding is expected in a {family.name} network, got {', '.join(outputs)}")
    layout = Layout(family, prefix, len(layers), d_model, outputs[0] if outputs else None)

    def check(name: str, *, stream: Reading, other: int | None = None) -> None:
        """The stream must lie along the stored rows or columns; with `other` features beside it, if that is known."""
        if name not in matrices:
            raise ValueError(f"the network has {len(layers)} layers, and no matrix {name!r}")
        n_rows, n_columns = matrices[name].shape
        width, features = (n_columns, n_rows) if stream == "columns" else (n_rows, n_columns)
        if width != d_model or (other is not None and features != other):
            side = "columns" if stream == "columns" else "rows"
            beside = "" if other is None else f" and {other} {'rows' if stream == 'columns' else 'columns'}"
            raise ValueError(
                f"{name} must have {d_model} {side}{beside}, as {embedding} is {d_model} wide, "
                f"got shape {(n_rows, n_columns)}"
            )

    if family.position and f"{prefix}{family.position}" in matrices:
        check(f"{prefix}{family.position}", stream="columns")
    if layout.unembedding:
        check(layout.unembedding, stream="columns", other=matrices[embedding].shape[0])
    attention = family.attention
    for layer in map(layout.layer, range(len(layers))):
        for part in family.parts:
            check(f"{layer}{part.name}", stream=_other(part.features))
        check(f"{layer}{attention.output}", stream=_other(attention.output_features))
        check(f"{layer}{attention.value}", stream=attention.value_shape)
        values = matrices[f"{layer}{attention.value}"].shape[attention.value_shape == "rows"]
        outputs_of_heads = matrices[f"{layer}{attention.output}"].shape[attention.output_features == "columns"]
        if attention.fused and values != 3 * outputs_of_heads:
            raise ValueError(
                f"{layer}{attention.value} must hold queries, keys and values of {outputs_of_heads} coordinates each, "
                f"as {layer}{attention.output} does, got {values}"
            )
    return layout


def _other(side: Reading) -> Reading:
    return "columns" if side == "rows" else "rows"


def places_of(
    layout: Layout, matrices: Mapping[str, StoredMatrix], n_heads: int | None
) -> tuple[tuple[Place, ...], tuple[str, ...]]:
    """Every matrix of a recognised network in the order of its layers, and what was left out and why."""
    family, notes = layout.family, []

    def place(name: str, layer: int | None, kind: str, stream: Stream, features: Reading) -> Place:
        matrix = matrices[name]
        return Place(name, layer, kind, stream, matrix.shape, features, matrix.rows_of(features))

    embedding = f"{layout.prefix}{family.embedding}"
    places = [place(embedding, None, "token embedding", "writes", "rows")]
    position = f"{layout.prefix}{family.position}"
    if position in matrices:
        places.append(place(position, None, "position embedding", "writes", "rows"))
    if n_heads is None:
        notes.append(
            "Attention is left out: its number of heads is in no config.json beside the weights. n_heads= says it."
        )
    for layer in range(layout.n_layers):
        before = layout.layer(layer)
        if n_heads is not None:
            places += _heads(layout, matrices, layer, n_heads)
        for part in family.parts:
            places.append(place(f"{before}{part.name}", layer, part.kind, part.stream, part.features))
    if layout.unembedding is None:
        notes.append("There is no unembedding apart from the token embedding: tied to it, or absent.")
    elif _same(matrices[layout.unembedding], matrices[embedding]):
        notes.append(f"The unembedding {layout.unembedding} is tied to the token embedding: measured once.")
    else:
        places.append(place(layout.unembedding, None, "unembedding", "reads", "rows"))
    return tuple(places), tuple(notes)


def _heads(layout: Layout, matrices: Mapping[str, StoredMatrix], layer: int, n_heads: int) -> list[Place]:
    """What the heads of a layer read and write."""
    attention, before = layout.family.attention, layout.layer(layer)
    value, output = matrices[f"{before}{attention.value}"], matrices[f"{before}{attention.output}"]
    n_outputs = output.shape[attention.output_features == "columns"]
    n_values = value.shape[attention.value_shape == "rows"] // (3 if attention.fused else 1)
    d_head, rest = divmod(n_outputs, n_heads)
    if rest or n_values % d_head or n_heads % (n_values // d_head):
        raise ValueError(
            f"n_heads must divide the {n_outputs} inner coordinates of {output.name} into heads, and be a multiple of "
            f"the heads in the {n_values} of {value.name}, got {n_heads}"
        )

    def rows(stream: Stream) -> HeadRows:
        return HeadRows(
            value, output, attention.value_rows, attention.output_features, n_heads, d_head, layout.d_model, stream
        )

    return [
        Place(value.name, layer, "attention in", "reads", value.shape, "heads", rows("reads"), n_heads),
        Place(output.name, layer, "attention out", "writes", output.shape, "heads", rows("writes"), n_heads),
    ]


def _same(one: StoredMatrix, other: StoredMatrix) -> bool:
    """Whether two matrices hold the same numbers."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    blocks = zip(one.rows_of("rows").blocks(), other.rows_of("rows").blocks(), strict=True)
    return all(torch.equal(a, b) for a, b in blocks)
