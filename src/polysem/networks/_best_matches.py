"""Best matches of latents in another dictionary, beside chance, and what capacity has to do with them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from scipy.special import stdtrit
from scipy.stats import spearmanr, ttest_ind
from torch import Tensor

Kind = Literal["isotropic", "covariance"]
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; NaN where there is too little to estimate it from."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "too few latents to say"
        return f"{self.value:.3f} (95 % interval {self.low:.3f} to {self.high:.3f})"


UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Chance:
    """Best |cosine| of random directions with the latents of a dictionary.

    Attributes:
        kind: `"isotropic"`: directions without preference; `"covariance"`: Gaussian with the second moments of the
            latents whose place they take.
        means: mean best |cosine| of each draw `[n_draws]`.
        cosines: best |cosine| of every direction of every draw, ascending.
        correlations: of each draw, Spearman's correlation of best |cosine| and the capacity that the directions would
            have among the latents `[n_draws]`; NaN where there are too few.
    """

    kind: Kind
    means: Float[Tensor, " n_draws"]
    cosines: Float[Tensor, " n"]
    correlations: Float[Tensor, " n_draws"]

    @property
    def mean(self) -> float:
        """Mean over the draws."""
        return float(self.means.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % prediction interval for the mean of one more draw (Student's t)."""
        n = len(self.means)
        half = float(stdtrit(n - 1, (1 + _CONFIDENCE) / 2)) * float(self.means.std()) * (1 + 1 / n) ** 0.5
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class OneWay:
    """For each latent of one dictionary the nearest of another.

    Attributes:
        latents: its latents that are not dead, as the file numbers them `[n]`.
        index: the nearest latent of the other, as its file numbers them.
        cosine: between the two.
        capacity: of the latents, among their own.
        isotropic, covariance: best cosines by chance.
    """

    latents: Int[Tensor, " n"]
    index: Int[Tensor, " n"]
    cosine: Float[Tensor, " n"]
    capacity: Float[Tensor, " n"]
    isotropic: Chance
    covariance: Chance

    @property
    def mean(self) -> float:
        """Mean over the latents of the best |cosine| (mean max cosine similarity, MMCS)."""
        return float(self.cosine.abs().mean()) if len(self.cosine) else float("nan")

    def shared(self, above: float) -> Tensor:
        """Whether each latent has a counterpart with at least that |cosine|."""
        return self.cosine.abs() >= above

    def capacity_difference(self, above: float) -> Estimate:
        """Mean capacity of shared latents less that of the others (Welch; it takes latents for independent)."""
        shared = self.shared(above)
        one, other = self.capacity[shared], self.capacity[~shared]
        if min(len(one), len(other)) < 2 or not float(one.std() + other.std()):
            return UNKNOWN
        low, high = ttest_ind(one.numpy(), other.numpy(), equal_var=False).confidence_interval(_CONFIDENCE)
        return Estimate(float(one.mean() - other.mean()), float(low), float(high))

    @property
    def capacity_and_cosine(self) -> Estimate:
        """Spearman's correlation of capacity and best |cosine| over the latents.

        Chance alone correlates them: latents in crowded directions have little capacity, and where the other
        dictionary crowds into the same directions, large best cosines. `covariance.correlations` says how much.
        """
        return rank_correlation(self.capacity, self.cosine.abs())


def verdict(ways: Sequence[OneWay], centres: Sequence[float | None]) -> str:
    """What best cosines say beside chance, over one or several comparisons."""
    beyond = [way.mean > way.isotropic.interval[1] for way in ways]
    structured = [way.mean > max(way.isotropic.interval[1], way.covariance.interval[1]) for way in ways]
    if all(structured):
        text = "Latents are found in the other dictionary beyond chance, second moments taken into account."
    elif not any(beyond):
        text = "Latents are found in the other dictionary no better than random directions would be."
    elif not any(structured):
        text = "Latents are found better than random directions, but no better than the second moments explain."
    else:
        text = f"Beyond chance in {sum(structured)} of {len(ways)} directions of comparison."
    known = [abs(centre) for centre in centres if centre is not None]
    if known and not all(structured) and max(known) < 0.5:
        text += (
            " The centres of the activations differ too: probably the dictionaries are of different networks, whose"
            " directions have no common meaning."
        )
    return text


def rank_correlation(first: Tensor, second: Tensor) -> Estimate:
    """Spearman's correlation with Fisher's interval (Bonett and Wright's standard error)."""
    n = len(first)
    if n < 10 or not float(first.std()) or not float(second.std()):
        return UNKNOWN
    value = float(spearmanr(first.numpy(), second.numpy()).statistic)
    half = 1.96 * math.sqrt((1 + value**2 / 2) / (n - 3))
    middle = math.atanh(min(max(value, -0.999999), 0.999999))
    return Estimate(value, math.tanh(middle - half), math.tanh(middle + half))
