"""The table of published layouts of sparse autoencoders: what their matrices are called, and which way they lie."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Latents = Literal["rows", "columns"]
"""Whether the latents are the stored rows or the stored columns of a matrix."""

Config = Mapping[str, Any]
Shapes = Mapping[str, tuple[int, int]]
Dimensions = dict[str, int]
"""What a configuration declares of `d_in`, `d_out` and `d_sae`."""

ENCODER_BIASES = ("b_enc", "encoder.bias", "encoder_linear.bias", "latent_bias", "b_gate", "gate_bias")
DECODER_BIASES = ("b_dec", "decoder.bias", "decoder_linear.bias", "pre_bias", "bias", "decoder_bias")
PER_LATENT = (*ENCODER_BIASES, "threshold", "log_threshold", "r_mag", "b_mag", "mag_bias")
"""Vectors with one number a latent; the encoder's bias is the first of `ENCODER_BIASES` that a file has."""


@dataclass(frozen=True)
class DictionaryLayout:
    """How one library stores a sparse autoencoder; names are compared without regard to case, after any prefix.

    Attributes:
        name: what `layout=` calls it.
        encoder: name of the encoder's matrix, None where there is none.
        encoder_latents: whether latents are its rows or its columns.
        decoder: name of the decoder's matrix.
        decoder_latents: whether latents are its rows or its columns.
        suffixes: of the weight files it occurs in; none: of any.
        also: entries that must be there too, `lacks`: entries that must not.
        config: name of the JSON file beside the weights, and what reads the dimensions off it (None where it is
            the configuration of something else).

    Example:
        >>> mine = DictionaryLayout("mine", "enc.W", "rows", "dec.W", "columns")
        >>> mine.reading
        'latents are the rows of enc.W and the columns of dec.W'
    """

    name: str
    encoder: str | None
    encoder_latents: Latents
    decoder: str
    decoder_latents: Latents
    suffixes: tuple[str, ...] = ()
    config: tuple[str, Callable[[Config], Dimensions | None]] | None = None
    also: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    @property
    def reading(self) -> str:
        """Which way the matrices lie, in words."""
        encoder = f"the {self.encoder_latents} of {self.encoder} and " if self.encoder else ""
        return f"latents are {encoder}the {self.decoder_latents} of {self.decoder}"

    @property
    def matrices(self) -> tuple[str, ...]:
        """Names of the matrices, in lower case."""
        return tuple(name.lower() for name in (self.encoder, self.decoder) if name)

    def names(self, shapes: Shapes, others: Collection[str]) -> bool:
        """Whether these matrices and these other entries, all in lower case, are called as in this layout."""
        there = {*shapes, *others}
        needed = set(self.matrices) <= set(shapes) and {name.lower() for name in self.also} <= there
        return needed and not {name.lower() for name in self.lacks} & there

    def declared(self, configs: Mapping[str, Config]) -> Dimensions | None:
        """The dimensions that this library's own configuration declares, if it lies beside the weights."""
        if self.config is None or self.config[0] not in configs:
            return None
        return self.config[1](configs[self.config[0]])


def _saelens(config: Config) -> Dimensions | None:
    found = _numbers(config, "d_in", "d_sae")
    return found and found | (_numbers(config, "d_out") or {})


def _dictionary_learning(config: Config) -> Dimensions | None:
    trainer = config.get("trainer")
    found = _numbers(trainer, "activation_dim", "dict_size") if isinstance(trainer, dict) else None
    return found and {"d_in": found["activation_dim"], "d_sae": found["dict_size"]}


def _sparsify(config: Config) -> Dimensions | None:
    found = _numbers(config, "d_in", "expansion_factor")
    given = _numbers(config, "num_latents")
    if found is None:
        return None
    latents = (given or {}).get("num_latents") or found["d_in"] * found["expansion_factor"]
    return {"d_in": found["d_in"], "d_sae": latents}


def _numbers(config: Config, *names: str) -> Dimensions | None:
    """The whole numbers of these names, if all are there."""
    found = {name: config[name] for name in names if type(config.get(name)) is int}
    return found if len(found) == len(names) else None


_SAELENS = ("cfg.json", _saelens)
_LEARNING = ("config.json", _dictionary_learning)
_SPARSIFY = ("cfg.json", _sparsify)
_SAFE, _TORCH = (".safetensors",), (".pt", ".pth", ".bin")

DICTIONARY_LAYOUTS: tuple[DictionaryLayout, ...] = (
    DictionaryLayout("saelens", "W_enc", "columns", "W_dec", "rows", _SAFE, _SAELENS),
    DictionaryLayout("saelens", None, "columns", "W_dec", "rows", _SAFE, _SAELENS, lacks=("W_enc", "encoder.weight")),
    DictionaryLayout(
        "openai", "encoder.weight", "rows", "decoder.weight", "columns", _TORCH, also=("pre_bias", "latent_bias")
    ),
    DictionaryLayout("openai", None, "rows", "decoder.linear.weight", "rows", _TORCH, also=("encoder.weight",)),
    DictionaryLayout("linear", "encoder.weight", "rows", "decoder.weight", "columns"),
    DictionaryLayout("linear", "encoder_linear.weight", "rows", "decoder_linear.weight", "columns"),
    DictionaryLayout("dictionary-learning", "encoder.weight", "rows", "decoder.weight", "columns", _TORCH, _LEARNING),
    DictionaryLayout("dictionary-learning", "W_enc", "columns", "W_dec", "rows", _TORCH, _LEARNING),
    DictionaryLayout("sparsify", "encoder.weight", "rows", "W_dec", "rows", _SAFE, _SPARSIFY),
    DictionaryLayout("gemma-scope", "W_enc", "columns", "W_dec", "rows", (".npz", ".safetensors")),
    DictionaryLayout("circuit-tracer", "W_enc", "rows", "W_dec", "rows", _SAFE),
    DictionaryLayout("qwen-scope", "W_enc", "rows", "W_dec", "columns", (*_SAFE, *_TORCH)),
)
"""The layouts that are known. Of those that fit, a library's own configuration decides, else the first gives its name.
"""
