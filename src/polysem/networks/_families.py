"""Families of transformers by the names of their matrices: which are read or written, and how they are stored.

To add a family, add an entry to `FAMILIES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from polysem.networks._heads import Stream

Reading = Literal["rows", "columns"]


@dataclass(frozen=True)
class Part:
    """A matrix of a family.

    Attributes:
        kind: what it is to the network.
        stream: whether its features read from the residual stream or write to it.
        features: whether they are the stored rows or columns; the other side is the residual stream.
        name: its name in a file, below the prefix and the layer.
    """

    kind: str
    stream: Stream
    features: Reading
    name: str


@dataclass(frozen=True)
class Attention:
    """Where a family keeps the values and outputs of its heads.

    Attributes:
        value: name of the matrix that holds the values, alone or among queries and keys.
        value_shape: which side of it is the residual stream: `"columns"` as `nn.Linear` stores it, else `"rows"`.
        fused: whether it holds queries and keys of the same number of heads too.
        value_rows: from the stored matrix and the size of a head to values as rows, head below head.
        output: name of the output matrix.
        output_features: whether its stored rows or columns belong to the heads.
    """

    value: str
    value_shape: Reading
    fused: bool
    value_rows: Callable[[Tensor, int], Tensor]
    output: str
    output_features: Reading


@dataclass(frozen=True)
class Family:
    """Names and orientations that several networks share.

    Attributes:
        name: what networks of that kind are called.
        embedding: name of the token embedding, rows as tokens.
        position: name of the learned position embedding, where there is one.
        unembedding: names that the matrix of the outputs can have, rows as tokens.
        layer: what stands before the number of a layer.
        parts: matrices of each layer.
        attention: its heads.
    """

    name: str
    embedding: str
    position: str | None
    unembedding: tuple[str, ...]
    layer: str
    parts: tuple[Part, ...]
    attention: Attention


def _as_stored(stored: Tensor, d_head: int) -> Tensor:
    """Values alone, as `nn.Linear` stores them."""
    return stored


def _last_third_of_columns(stored: Tensor, d_head: int) -> Tensor:
    """Queries, keys and values side by side, transposed."""
    return stored[:, 2 * stored.shape[1] // 3 :].mT


def _third_of_each_head(stored: Tensor, d_head: int) -> Tensor:
    """Query, key and value of the first head, then those of the next."""
    return stored.view(-1, 3, d_head, stored.shape[1])[:, 2].reshape(-1, stored.shape[1])


FAMILIES = (
    Family(
        "BERT",
        embedding="embeddings.word_embeddings.weight",
        position="embeddings.position_embeddings.weight",
        unembedding=("cls.predictions.decoder.weight", "lm_head.decoder.weight"),
        layer="encoder.layer.",
        parts=(
            Part("MLP in", "reads", "rows", "intermediate.dense.weight"),
            Part("MLP out", "writes", "columns", "output.dense.weight"),
        ),
        attention=Attention(
            "attention.self.value.weight", "columns", False, _as_stored, "attention.output.dense.weight", "columns"
        ),
    ),
    Family(
        "GPT-2",
        embedding="wte.weight",
        position="wpe.weight",
        unembedding=("lm_head.weight",),
        layer="h.",
        parts=(
            Part("MLP in", "reads", "columns", "mlp.c_fc.weight"),
            Part("MLP out", "writes", "rows", "mlp.c_proj.weight"),
        ),
        attention=Attention("attn.c_attn.weight", "rows", True, _last_third_of_columns, "attn.c_proj.weight", "rows"),
    ),
    Family(
        "Llama, Mistral or Gemma",
        embedding="embed_tokens.weight",
        position=None,
        unembedding=("lm_head.weight",),
        layer="layers.",
        parts=(
            Part("MLP gate", "reads", "rows", "mlp.gate_proj.weight"),
            Part("MLP up", "reads", "rows", "mlp.up_proj.weight"),
            Part("MLP out", "writes", "columns", "mlp.down_proj.weight"),
        ),
        attention=Attention(
            "self_attn.v_proj.weight", "columns", False, _as_stored, "self_attn.o_proj.weight", "columns"
        ),
    ),
    Family(
        "GPT-NeoX (Pythia)",
        embedding="embed_in.weight",
        position=None,
        unembedding=("embed_out.weight", "lm_head.weight"),
        layer="layers.",
        parts=(
            Part("MLP in", "reads", "rows", "mlp.dense_h_to_4h.weight"),
            Part("MLP out", "writes", "columns", "mlp.dense_4h_to_h.weight"),
        ),
        attention=Attention(
            "attention.query_key_value.weight",
            "columns",
            True,
            _third_of_each_head,
            "attention.dense.weight",
            "columns",
        ),
    ),
)
