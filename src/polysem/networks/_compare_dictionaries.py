"""Two dictionaries held against each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from polysem._checks import require, whole
from polysem.measure import CapacityStream, ChosenRows, Norm, RowBlocks, nearest, streamed_response_capacity
from polysem.networks._analyze_dictionary import find_dead
from polysem.networks._best_matches import UNKNOWN, Chance, Estimate, Kind, OneWay, rank_correlation, verdict
from polysem.networks._dictionary import Dictionary, dictionary

SHARED_ABOVE = 0.7
"""A latent is shared with another dictionary whose nearest latent has at least this |cosine|."""

MOST_MATCHED = 8192
"""Latents of either dictionary up to which pairs are matched one to one."""

_PROBES = 2048
"""Random directions a draw at most: their best |cosine| does not depend on how many others are drawn."""


@dataclass(frozen=True)
class DictionaryComparison:
    """Two dictionaries of one space.

    Attributes:
        first, second: the dictionaries.
        norm: policy under which capacities were measured; cosines do not depend on it.
        forward: of each latent of the first the nearest in the second; `backward`: the other way round.
        matched: pairs of the one-to-one matching with the largest sum of |cosine|: latent of the first, of the second
            `[n_pairs, 2]`; None beyond `MOST_MATCHED` latents. `matched_cosine`: of each pair.
        shared_above: |cosine| from which a latent counts as shared.
        centres: correlation over the dimensions of the activation means that both files carry, else of their decoder
            biases; None without. Dictionaries of one space have similar ones; near 0 it says that they may be of
            different networks.
    """

    first: Dictionary
    second: Dictionary
    norm: Norm
    forward: OneWay
    backward: OneWay
    matched: Int[Tensor, "n_pairs 2"] | None
    matched_cosine: Float[Tensor, " n_pairs"] | None
    shared_above: float
    centres: float | None

    @property
    def shared(self) -> tuple[float, float]:
        """Share of the latents of the first that are found in the second, and the other way round."""
        one, other = (way.shared(self.shared_above).double().mean() for way in (self.forward, self.backward))
        return float(one), float(other)

    @property
    def matched_capacities(self) -> Estimate:
        """Spearman's correlation of the capacities of matched pairs that are shared."""
        if self.matched is None or self.matched_cosine is None:
            return UNKNOWN
        pairs = self.matched[self.matched_cosine.abs() >= self.shared_above]
        one = self.forward.capacity[torch.searchsorted(self.forward.latents, pairs[:, 0].contiguous())]
        other = self.backward.capacity[torch.searchsorted(self.backward.latents, pairs[:, 1].contiguous())]
        return rank_correlation(one, other)

    @property
    def verdict(self) -> str:
        """What the best cosines say beside chance."""
        return verdict([self.forward, self.backward], [self.centres])

    @property
    def header(self) -> tuple[str, str, str]:
        """What the columns of `table` are."""
        return "quantity", "first in second", "second in first"

    def table(self) -> list[tuple[str, str, str]]:
        """The comparison as labelled lines, both ways."""
        ways = (self.forward, self.backward)

        def chance(which: Chance) -> str:
            low, high = which.interval
            return f"{which.mean:.4f} (95 % interval {low:.4f} to {high:.4f}, {len(which.means)} draws)"

        def spread(draws: Tensor) -> str:
            return f"{float(draws.mean()):.3f} (from {float(draws.min()):.3f} to {float(draws.max()):.3f})"

        def line(label: str, *values: str) -> tuple[str, str, str]:
            return label, values[0], values[-1]

        share = [f"{value:.1%}" for value in self.shared]
        rows = [
            line("latents", *(f"{len(way.latents):,}" for way in ways)),
            line("mean best |cosine| (MMCS)", *(f"{way.mean:.4f}" for way in ways)),
            line("null, random directions", *(chance(way.isotropic) for way in ways)),
            line("null, same second moments", *(chance(way.covariance) for way in ways)),
            line(f"shared (|cosine| ≥ {self.shared_above:g})", *share),
            line("capacity, shared less others", *(str(way.capacity_difference(self.shared_above)) for way in ways)),
            line("rank correlation of capacity and best |cosine|", *(str(way.capacity_and_cosine) for way in ways)),
            line("the same, null of same second moments", *(spread(way.covariance.correlations) for way in ways)),
        ]
        if self.matched_cosine is not None:
            n = int((self.matched_cosine.abs() >= self.shared_above).sum())
            rows += [
                line("matched one to one, shared", f"{n:,} of {len(self.matched_cosine):,} pairs"),
                line("rank correlation of their capacities", str(self.matched_capacities)),
            ]
        if self.centres is not None:
            rows.append(line("correlation of the centres", f"{self.centres:.3f}"))
        return rows

    def to_dict(self) -> dict[str, object]:
        """The numbers, unrounded, for JSON; per-latent tensors are left out."""

        def way(one: OneWay) -> dict[str, object]:
            nulls = {c.kind: {"mean": c.mean, "interval": list(c.interval)} for c in (one.isotropic, one.covariance)}
            return {
                "n_latents": len(one.latents),
                "mean_best_cosine": one.mean,
                "null": nulls,
                "shared": float(one.shared(self.shared_above).double().mean()),
                "capacity_difference": vars(one.capacity_difference(self.shared_above)),
                "capacity_and_cosine": vars(one.capacity_and_cosine),
                "capacity_and_cosine_by_chance": one.covariance.correlations.tolist(),
            }

        cosine = self.matched_cosine
        return {
            "first": str(self.first.path),
            "second": str(self.second.path),
            "norm": self.norm,
            "shared_above": self.shared_above,
            "forward": way(self.forward),
            "backward": way(self.backward),
            "n_pairs_shared": None if cosine is None else int((cosine.abs() >= self.shared_above).sum()),
            "matched_capacities": vars(self.matched_capacities),
            "centres": self.centres,
            "verdict": self.verdict,
        }


def compare_dictionaries(
    first: Dictionary | str | PathLike[str],
    second: Dictionary | str | PathLike[str],
    *,
    norm: Norm = "raw",
    firing: Sequence[Tensor | None] = (None, None),
    silent_below: float = 0.0,
    shared_above: float = SHARED_ABOVE,
    draws: int = 8,
    seed: int = 0,
) -> DictionaryComparison:
    """Find the latents of one dictionary in another, beside what chance would find.

        best_i = max_j |cos(W_i, W'_j)|

    Best cosines of random directions grow with the number of latents and fall with the number of dimensions, and both
    dictionaries crowd into the directions in which activations vary: hence two nulls, isotropic directions and Gaussian
    ones with the same second moments.

    Costs: `O(N N' D)` for each way, and `O(2048 N' D)` a draw of each null; memory `O(D²)`, and `O(N N')` for the
    matching, which is left out beyond 8,192 latents.

    Args:
        first: a dictionary, or the path of one.
        second: another, whose decoder writes the same space.
        norm: policy under which capacities are measured, as in `analyze_dictionary`.
        firing: how often the latents of each are active, where known; dead latents are left out.
        silent_below: latents active no more often than this are dead.
        shared_above: |cosine| from which a latent counts as shared.
        draws: random sets of directions per null, at least 2.
        seed: seeds them.

    Returns:
        Best matches both ways with their nulls, the one-to-one matching, and what capacity has to do with it.

    Raises:
        WeightFileError: a dictionary cannot be read.
        ValueError: decoders of different lengths, or an argument out of range.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> W = np.random.default_rng(0).normal(size=(30, 8))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name, rows in (("a", W), ("b", W[:20])):
        ...         np.savez(f"{folder}/{name}.npz", W_enc=rows.T, W_dec=rows, b_dec=np.zeros(8))
        ...     found = compare_dictionaries(f"{folder}/a.npz", f"{folder}/b.npz")
        >>> round(found.backward.mean, 6), int(found.forward.shared(0.999).sum()), len(found.matched)
        (1.0, 20, 20)

    Source: ours; the mean of best cosines (MMCS) after Sharkey et al. 2022.
    """
    one, other = (s if isinstance(s, Dictionary) else dictionary(s) for s in (first, second))
    require(one.d_out == other.d_out, "second", other.d_out, f"of the first's length of decoder rows, {one.d_out}")
    require(0 < shared_above <= 1, "shared_above", shared_above, "above 0 and at most 1")
    draws, seed = whole("draws", draws, 2), whole("seed", seed, 0)
    require(len(firing) == 2, "firing", len(firing), "one entry a dictionary")
    kept = [_Kept.of(sae, frequency, silent_below, norm) for sae, frequency in zip((one, other), firing, strict=True)]
    matched, cosine = _match(*kept)
    return DictionaryComparison(
        first=one,
        second=other,
        norm=norm,
        forward=_one_way(kept[0], kept[1], draws, seed),
        backward=_one_way(kept[1], kept[0], draws, seed),
        matched=matched,
        matched_cosine=cosine,
        shared_above=shared_above,
        centres=_centres(one, other),
    )


@dataclass(frozen=True)
class _Kept:
    """The latents of a dictionary that are not dead."""

    latents: Tensor
    decoder: RowBlocks
    capacity: Tensor
    operator: Tensor

    @classmethod
    def of(cls, sae: Dictionary, firing: Tensor | None, silent_below: float, norm: Norm) -> "_Kept":
        _, keep, _ = find_dead(sae, firing, silent_below)
        decoder = ChosenRows(sae.decoder, keep)
        capacity = streamed_response_capacity(decoder, decoder, norm=norm)
        stream = CapacityStream(sae.d_out, norm="unit")  # of directions, which is what cosines are of
        for block in decoder.blocks():
            stream.update(block.double())
        return cls(keep.nonzero()[:, 0], decoder, capacity, stream.frame_operator)


def _one_way(own: _Kept, others: _Kept, draws: int, seed: int) -> OneWay:
    found = nearest(own.decoder, others.decoder)
    there = found.index >= 0
    numbered = others.latents[found.index.clamp(min=0)] if len(others.latents) else found.index
    index = torch.where(there, numbered, -1)
    isotropic = _chance("isotropic", torch.eye(len(own.operator)), own, others, draws, seed)
    covariance = _chance("covariance", _root(own.operator).float(), own, others, draws, seed)
    return OneWay(own.latents, index, found.cosine, own.capacity, isotropic, covariance)


def _chance(kind: Kind, root: Tensor, own: _Kept, others: _Kept, draws: int, seed: int) -> Chance:
    """Best |cosine| of Gaussian directions `z root` with the latents of the other dictionary, draw by draw."""
    n = max(1, min(len(own.latents), _PROBES))
    cosines, correlations = [], []
    for draw in range(draws):
        state = int(np.random.SeedSequence([seed, kind == "isotropic", draw]).generate_state(1, np.uint64)[0])
        directions = torch.randn(n, len(root), generator=torch.Generator().manual_seed(state)) @ root
        cosines.append(nearest(directions, others.decoder).cosine.abs())
        units = torch.nn.functional.normalize(directions.double(), dim=1)
        capacity = 1 / torch.linalg.vecdot(units @ own.operator, units).clamp(min=1e-300)
        correlations.append(rank_correlation(capacity, cosines[-1]).value)
    means = torch.stack([drawn.mean() for drawn in cosines])
    return Chance(kind, means, torch.cat(cosines).sort().values, torch.tensor(correlations, dtype=torch.float64))


def _root(moments: Tensor) -> Tensor:
    """A matrix that makes Gaussian rows into ones whose directions have these second moments `Σ u uᵀ`.

    Dividing rows by their norms evens moments out, so the variances of the Gaussian must be more unequal than the
    moments: they are scaled until the moments of its directions, over a fixed sample, are those asked for.
    """
    values, vectors = torch.linalg.eigh(moments)
    wanted = values.clamp(min=0)
    sample = torch.randn(_PROBES, len(wanted), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    squares, variances = sample.square_(), wanted.clone()
    for _ in range(100):
        shares = squares * variances
        mean = (shares / shares.sum(-1, keepdim=True).clamp(min=1e-300)).mean(0) * wanted.sum()
        ratio = torch.where(mean > 0, wanted / mean, 1.0)
        variances = variances * ratio
        if float((ratio - 1).abs().max()) < 1e-3:
            break
    root: Tensor = (variances.sqrt() * vectors).mT
    return root


def _match(one: _Kept, other: _Kept) -> tuple[Tensor | None, Tensor | None]:
    """The one-to-one matching with the largest sum of |cosine|."""
    if max(len(one.latents), len(other.latents)) > MOST_MATCHED or not min(len(one.latents), len(other.latents)):
        return None, None
    rows = [
        torch.nn.functional.normalize(torch.cat(list(kept.decoder.blocks())).float(), dim=1) for kept in (one, other)
    ]
    cosine = rows[0] @ rows[1].mT
    first, second = linear_sum_assignment(cosine.abs().numpy(), maximize=True)
    pairs = torch.stack([one.latents[torch.from_numpy(first)], other.latents[torch.from_numpy(second)]], -1)
    return pairs, cosine[first, second].clamp(-1, 1).double()


def _centres(one: Dictionary, other: Dictionary) -> float | None:
    """Correlation of the activation means of both files, else of their decoder biases."""
    for name in ("mean", "decoder_bias"):
        first, second = getattr(one, name), getattr(other, name)
        if first is None or second is None or len(first) != len(second) or len(first) < 3:
            continue
        if float(first.std()) and float(second.std()):
            return float(torch.corrcoef(torch.stack([first.double(), second.double()]))[0, 1])
    return None
