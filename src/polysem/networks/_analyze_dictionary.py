"""What a dictionary does with the dimensions that it writes to."""

from dataclasses import dataclass
from os import PathLike

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysem._checks import as_float64, finite_rows, require, whole
from polysem.measure import (
    CapacityReport,
    ChosenRows,
    Nearest,
    Norm,
    RowBlocks,
    nearest,
    report,
    row_cosines,
    streamed_response_capacity,
)
from polysem.networks._dictionary import Dictionary, dictionary

DUPLICATE_ABOVE = 0.95
"""Two latents whose decoder rows have at least this |cosine| count as duplicates of each other."""


@dataclass(frozen=True)
class Dead:
    """Latents that are left out of all measurements, and how they were told.

    Attributes:
        zero_decoder, zero_encoder: latents that write nothing, or read nothing.
        silent: latents that were active no more often than asked for; None where no frequencies are known.
        firing_known_from: where the frequencies come from, in words; empty where there are none.
    """

    zero_decoder: Int[Tensor, " n_zero_decoder"]
    zero_encoder: Int[Tensor, " n_zero_encoder"]
    silent: Int[Tensor, " n_silent"] | None
    firing_known_from: str

    @property
    def all(self) -> Int[Tensor, " n_dead"]:
        """Every dead latent once, ascending."""
        groups = (self.zero_decoder, self.zero_encoder, self.silent)
        known = {latent for group in groups if group is not None for latent in group.tolist()}
        return torch.tensor(sorted(known), dtype=torch.int64)

    @property
    def says(self) -> str:
        """How many there are, and what is not known, in a sentence."""
        zero = f"{len(self.zero_decoder):,} with a zero decoder row, {len(self.zero_encoder):,} with a zero encoder row"
        if self.silent is None:
            return f"{zero}; silent ones cannot be told from weights"
        return f"{zero}, {len(self.silent):,} silent by the frequencies {self.firing_known_from}"


@dataclass(frozen=True)
class DictionaryAnalysis:
    """A dictionary measured; every number a latent belongs to `latents`, those that are not dead.

    Attributes:
        dictionary: what was measured.
        latents: the latents that were measured, ascending `[n]`; `dead`: the others.
        report: capacity of what the latents write, beside its nulls.
        response: response capacity of encoder against decoder `[n]`; None without an encoder, and for a transcoder,
            whose encoder reads another space than its decoder writes.
        alignment: cosine between encoder and decoder row `[n]`; None in the same cases.
        encoder_norm: norm of each encoder row `[n]`; None without an encoder.
        nearest: for each latent (or a sample of `searched`), the latent with the largest |cosine| to it; its fields
            number latents as the file does.
        duplicate_above: |cosine| from which a latent counts as duplicated.
    """

    dictionary: Dictionary
    latents: Int[Tensor, " n"]
    dead: Dead
    report: CapacityReport
    response: Float[Tensor, " n"] | None
    alignment: Float[Tensor, " n"] | None
    encoder_norm: Float[Tensor, " n"] | None
    nearest: Nearest
    duplicate_above: float

    @property
    def searched(self) -> int:
        """For how many latents the nearest was searched."""
        return len(self.nearest.feature)

    @property
    def duplicated(self) -> Int[Tensor, " n_duplicated"]:
        """The latents, among those searched for, that have a duplicate."""
        return self.nearest.feature[self.nearest.cosine.abs() >= self.duplicate_above]

    @property
    def of_searched(self) -> Int[Tensor, " n_searched"]:
        """Where the latents searched for stand among `latents`."""
        return torch.searchsorted(self.latents, self.nearest.feature)

    def table(self) -> list[tuple[str, str]]:
        """What is beside the capacity report, as labelled lines."""
        rows = [
            ("latents", f"{self.dictionary.d_sae:,}, of which {len(self.latents):,} were measured"),
            ("dead", self.dead.says),
            ("decoder norms", _spread(self.report.row_norm, ".3g")),
        ]
        if self.encoder_norm is not None:
            rows.append(("encoder norms", _spread(self.encoder_norm, ".3g")))
        if self.response is not None and self.alignment is not None:
            total, best = float(self.response.sum()), float(self.report.leverage.sum())
            rows += [
                ("total capacity read by its own rows (V = W)", f"{self.report.total:.4f}"),
                ("total response capacity of the encoder", f"{total:.4f}"),
                ("total of the best linear readout (leverage)", f"{best:.4f}"),
                ("cosine of encoder and decoder", _spread(self.alignment, ".3f")),
            ]
        elif self.dictionary.transcoder:
            rows.append(("response capacity", "none: the encoder reads another space than the decoder writes"))
        if self.searched:
            cosine = self.nearest.cosine.abs()
            share = len(self.duplicated) / self.searched
            rows += [
                ("nearest other latent, |cosine|", _spread(cosine, ".3f")),
                (
                    f"duplicated (|cosine| ≥ {self.duplicate_above:g})",
                    f"{len(self.duplicated):,} of {self.searched:,} searched ({share:.1%})",
                ),
            ]
        return rows

    def to_dict(self) -> dict[str, object]:
        """The numbers, unrounded, for JSON; per-latent tensors are left out."""
        return {
            "layout": self.dictionary.layout.name,
            "reading": self.dictionary.layout.reading,
            "checked": list(self.dictionary.checked),
            "d_in": self.dictionary.d_in,
            "d_out": self.dictionary.d_out,
            "d_sae": self.dictionary.d_sae,
            "transcoder": self.dictionary.transcoder,
            "n_measured": len(self.latents),
            "n_zero_decoder": len(self.dead.zero_decoder),
            "n_zero_encoder": len(self.dead.zero_encoder),
            "n_silent": None if self.dead.silent is None else len(self.dead.silent),
            "total_response": None if self.response is None else float(self.response.sum()),
            "total_leverage": float(self.report.leverage.sum()),
            "mean_alignment": None if self.alignment is None else float(self.alignment.mean()),
            "n_searched": self.searched,
            "n_duplicated": len(self.duplicated),
            "duplicate_above": self.duplicate_above,
            "report": self.report.to_dict(),
        }


def analyze_dictionary(
    source: Dictionary | str | PathLike[str],
    *,
    norm: Norm = "raw",
    scale: Tensor | None = None,
    firing: Tensor | None = None,
    silent_below: float = 0.0,
    duplicate_above: float = DUPLICATE_ABOVE,
    search: int = 8192,
    draws: int = 8,
    seed: int = 0,
) -> DictionaryAnalysis:
    """Measure a dictionary without holding it in memory: capacity, responses, duplicates, dead latents.

        C_i = |W_i|⁴ / Σ_j (W_i·W_j)²          response: C_i = R_ii² / Σ_j R_ij², R = V Wᵀ

    with what latent i writes in `W_i` and what it reads in `V_i`. A latent that occurs twice has half a capacity, at
    most: where `c` is the cosine to another of the same norm, `C_i ≤ 1 / (1 + c²)`.

    Dead latents are left out, as far as they are known: those with a zero row, and those that `firing` says were active
    no more often than `silent_below`. Without frequencies nothing in the weights tells a latent that is never active.

    Costs: two passes over the decoder and two products of its size a draw (`measure.report`), a pass over both
    matrices, and `O(search · d_sae · d_out)` for nearest latents; memory `O(d_out²)` beyond the results.

    Args:
        source: a dictionary, or the path of one.
        norm: `"raw"` takes decoder rows as they are, `"unit"` divides each by its norm first: norms are a convention
            of the library that trained it.
        scale: activation scale of each latent `[d_sae]`, multiplied to its decoder row after `norm`.
        firing: how often each latent is active `[d_sae]`; by default what the dictionary carries.
        silent_below: latents active no more often than this are dead.
        duplicate_above: |cosine| from which two latents count as duplicates.
        search: for at most so many latents, evenly spaced, the nearest other latent is searched (among all); 0: for
            none.
        draws: random matrices per null.
        seed: seeds them.

    Returns:
        The measurements of the latents that are not dead.

    Raises:
        WeightFileError: the dictionary cannot be read.
        ValueError: an argument out of range, or a NaN or infinity in the weights.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> W = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/params.npz", W_enc=W.T, W_dec=W, b_dec=np.zeros(2))
        ...     found = analyze_dictionary(folder)
        >>> [round(C, 12) for C in found.report.capacity.tolist()], found.duplicated.tolist()
        ([0.5, 0.5, 1.0], [0, 1])

    Source: ours; capacity after Scherlis et al. 2022.
    """
    sae = source if isinstance(source, Dictionary) else dictionary(source)
    require(0 < duplicate_above <= 1, "duplicate_above", duplicate_above, "above 0 and at most 1")
    search = whole("search", search, 0)
    scale = _per_latent("scale", scale, sae.d_sae)
    dead, keep, encoder_norm = find_dead(sae, firing, silent_below)
    latents = keep.nonzero()[:, 0]
    decoder = ChosenRows(sae.decoder, keep)
    kept_scale = None if scale is None else scale[keep]
    measured = report(decoder, norm=norm, scale=kept_scale, draws=draws, seed=seed)
    response = alignment = None
    if sae.encoder is not None and not sae.transcoder:
        encoder = ChosenRows(sae.encoder, keep)
        response = streamed_response_capacity(decoder, encoder, norm=norm, scale=kept_scale)
        alignment = row_cosines(encoder, decoder)
    return DictionaryAnalysis(
        dictionary=sae,
        latents=latents,
        dead=dead,
        report=measured,
        response=response,
        alignment=alignment,
        encoder_norm=None if encoder_norm is None else encoder_norm[keep],
        nearest=_nearest(decoder, latents, search),
        duplicate_above=duplicate_above,
    )


def find_dead(sae: Dictionary, firing: Tensor | None, silent_below: float) -> tuple[Dead, Tensor, Tensor | None]:
    """Which latents are dead, which are kept (bool), and the norms of the encoder's rows."""
    given = _per_latent("firing", firing, sae.d_sae)
    origin = "in the file or beside it" if given is None else "given"
    known = sae.firing if given is None else given
    encoder_norm = None if sae.encoder is None else _norms("encoder", sae.encoder)
    dead = Dead(
        zero_decoder=(_norms("decoder", sae.decoder) == 0).nonzero()[:, 0],
        zero_encoder=torch.zeros(0, dtype=torch.int64) if encoder_norm is None else (encoder_norm == 0).nonzero()[:, 0],
        silent=None if known is None else (known <= silent_below).nonzero()[:, 0],
        firing_known_from="" if known is None else origin,
    )
    keep = torch.ones(sae.d_sae, dtype=torch.bool)
    keep[dead.all] = False
    return dead, keep, encoder_norm


def _nearest(decoder: ChosenRows, latents: Tensor, search: int) -> Nearest:
    """The nearest other latent of evenly spaced ones, numbered as in the file."""
    n = len(latents)
    count = min(search, n)
    rows = torch.arange(count) * n // max(count, 1)
    found = nearest(decoder, features=rows)
    index = torch.where(found.index < 0, -1, latents[found.index.clamp(min=0)]) if n else found.index
    return Nearest(latents[found.feature], index, found.cosine)


def _norms(name: str, rows: RowBlocks) -> Tensor:
    """Norm of each row, checked."""
    norms, start = [torch.zeros(0, dtype=torch.float64)], 0
    for block in rows.blocks():
        finite_rows(name, block, start)
        norms.append(torch.linalg.vector_norm(block.double(), dim=-1))
        start += len(block)
    return torch.cat(norms)


def _per_latent(name: str, values: Tensor | None, d_sae: int) -> Tensor | None:
    if values is None:
        return None
    result = as_float64(name, values)
    require(tuple(result.shape) == (d_sae,), name, tuple(result.shape), f"one number a latent, of shape ({d_sae},)")
    return result


def _spread(values: Tensor, form: str) -> str:
    """Median and extremes."""
    if not len(values):
        return "none"
    low, middle, high = (format(float(q), form) for q in (values.min(), values.median(), values.max()))
    return f"median {middle} (from {low} to {high})"
