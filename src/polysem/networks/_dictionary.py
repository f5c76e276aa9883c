"""Opening a published sparse autoencoder: its layout is recognised by names and checked against known dimensions."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from polysem._checks import require, whole
from polysem.measure import RowBlocks
from polysem.networks._bytes import WeightFileError
from polysem.networks._files import load
from polysem.networks._sae_checks import Fact, choose
from polysem.networks._sae_files import WEIGHTS, Entries, configurations, frequencies, weight_file
from polysem.networks._sae_layouts import DECODER_BIASES, DICTIONARY_LAYOUTS, ENCODER_BIASES, Config, DictionaryLayout


@dataclass(frozen=True, eq=False, repr=False)
class Dictionary:
    """A sparse autoencoder or transcoder in a file, none of its matrices in memory.

    Attributes:
        path: the weight file.
        layout: how it is stored.
        d_in, d_out, d_sae: length of what it reads, length of what it writes, number of latents.
        decoder: what each latent writes, `[d_sae, d_out]`, block by block.
        encoder: what each latent reads, `[d_sae, d_in]`; None where the decoder serves as encoder too.
        transcoder: whether it reads one space and writes another.
        encoder_bias, decoder_bias: `[d_sae]` and `[d_out]`, where the file has them.
        mean: of the activations, subtracted before encoding `[d_in]`, where the file has it.
        firing: how often each latent was active in training `[d_sae]`, where the file or one beside it says so.
        config: the library's configuration, where it lies beside the weights.
        checked: the known dimensions that the orientation was checked against, in words.
    """

    path: Path
    layout: DictionaryLayout
    d_in: int
    d_out: int
    d_sae: int
    decoder: RowBlocks
    encoder: RowBlocks | None
    transcoder: bool
    encoder_bias: Tensor | None
    decoder_bias: Tensor | None
    mean: Tensor | None
    firing: Tensor | None
    config: Config
    checked: tuple[str, ...]

    @property
    def name(self) -> str:
        """A short name: the file's, with its folder's where the file is called as in every such folder."""
        return f"{self.path.parent.name}/{self.path.name}" if self.path.name in WEIGHTS else self.path.name

    @property
    def says(self) -> str:
        """What was read, in a sentence."""
        kind = "transcoder" if self.transcoder else "sparse autoencoder"
        width = (
            f"from {self.d_in:,} dimensions to {self.d_out:,}" if self.transcoder else f"in {self.d_in:,} dimensions"
        )
        checks = " and ".join(self.checked) or "nothing: the layout was given"
        return (
            f"{kind} of {self.d_sae:,} latents {width}, layout {self.layout.name} ({self.layout.reading}), "
            f"checked against {checks}"
        )

    def __repr__(self) -> str:
        return f"Dictionary({str(self.path)!r}: {self.says})"


def dictionary(
    path: str | PathLike[str],
    *,
    layout: str | DictionaryLayout | None = None,
    prefix: str | None = None,
    d_in: int | None = None,
    d_sae: int | None = None,
    transcoder: bool | None = None,
) -> Dictionary:
    """Open a published sparse autoencoder without holding it in memory.

        encoder: what latent i reads, V_i          decoder: what latent i writes, W_i

    The layout is recognised by the names of its matrices, and by the configuration of the library that wrote it. Which
    way the matrices lie is then checked against a dimension that is known from elsewhere: that configuration, the
    lengths of biases and thresholds, or `d_in` and `d_sae`. A file that contradicts it is refused, and one that leaves
    it open too: the error names the possible readings.

    Args:
        path: the folder that a library wrote, or the weight file; or where either is on the Hugging Face hub,
            `hf://owner/name/path@revision`, as in `load`.
        layout: the layout's name, one of `DICTIONARY_LAYOUTS`, or a `DictionaryLayout` of your own. A layout that is
            given declares the orientation of square matrices too.
        prefix: what stands before the names of the layout, where the file holds several dictionaries.
        d_in: length of what the encoder reads (of what the decoder writes, without an encoder).
        d_sae: number of latents.
        transcoder: whether it writes another space than it reads; by default as the configuration says, and
            certainly where the two lengths differ.

    Returns:
        The dictionary, with encoder and decoder as sources of row blocks.

    Raises:
        WeightFileError: no file or no known layout, a matrix that lies the other way round, or an orientation that
            nothing decides.
        ValueError: an unknown `layout`, or dimensions below 1.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/params.npz", W_enc=np.ones((4, 9)), W_dec=np.ones((9, 4)), b_dec=np.zeros(4))
        ...     found = dictionary(folder)
        >>> found.says
        'sparse autoencoder of 9 latents in 4 dimensions, layout gemma-scope (latents are the columns of W_enc and the
        rows of W_dec), checked against b_dec[4]'

    Source: ours; layouts as published by SAELens, dictionary_learning, Gemma Scope, sparsify, OpenAI, circuit-tracer.
    """
    given = {name: whole(name, value) for name, value in (("d_in", d_in), ("d_sae", d_sae)) if value is not None}
    known = _named(layout)
    weights = weight_file(path)
    file, configs = load(weights), configurations(weights.parent)
    entries = Entries(file, prefix)
    facts = [Fact(f"{name}={value} as given", name, value) for name, value in given.items()]
    facts += [Fact(f"{label}[{n}]", dim, n) for label, dim, n in entries.lengths()]
    chosen = choose(entries.shapes, entries.others, known, configs, facts, weights, given=layout is not None)
    config = configs.get(chosen.layout.config[0], {}) if chosen.layout.config and chosen.declared else {}
    encoder, same = chosen.layout.encoder, chosen.d_in == chosen.d_out
    return Dictionary(
        path=weights,
        layout=chosen.layout,
        d_in=chosen.d_in,
        d_out=chosen.d_out,
        d_sae=chosen.d_sae,
        decoder=entries.matrix(chosen.layout.decoder).rows_of(chosen.layout.decoder_latents),
        encoder=entries.matrix(encoder).rows_of(chosen.layout.encoder_latents) if encoder else None,
        transcoder=not same or (_says_transcoder(config) or entries.skips if transcoder is None else transcoder),
        encoder_bias=entries.vector(ENCODER_BIASES),
        decoder_bias=entries.vector(DECODER_BIASES),
        mean=entries.vector(("mean",)),
        firing=frequencies(entries, weights.parent, chosen.d_sae),
        config=config,
        checked=chosen.checked,
    )


def holds_dictionary(path: str | PathLike[str]) -> bool:
    """Whether a folder or file holds a dictionary of a known layout, by its names, and no other matrices.

    Args:
        path: a folder or a weight file.

    Returns:
        True where `dictionary` knows the names (it may still refuse the orientation); False for anything else, readable
        or not.

    Source: ours.
    """
    try:
        entries = Entries(load(weight_file(path)), None)
    except WeightFileError:
        return False
    fitting = [known for known in DICTIONARY_LAYOUTS if known.names(entries.shapes, entries.others)]
    return any(entries.hold_only((*known.matrices, *known.also)) for known in fitting)


def _named(layout: str | DictionaryLayout | None) -> tuple[DictionaryLayout, ...]:
    if layout is None:
        return DICTIONARY_LAYOUTS
    if isinstance(layout, DictionaryLayout):
        return (layout,)
    names = tuple(dict.fromkeys(known.name for known in DICTIONARY_LAYOUTS))
    require(layout in names, "layout", layout, f"one of {', '.join(names)}, or a DictionaryLayout")
    return tuple(known for known in DICTIONARY_LAYOUTS if known.name == layout)


def _says_transcoder(config: Mapping[str, Any]) -> bool:
    return bool(config.get("transcode")) or "transcoder" in str(config.get("architecture", ""))
