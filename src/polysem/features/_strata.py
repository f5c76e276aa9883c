"""Samples of independent features spread evenly over the number of active ones."""

import torch
from jaxtyping import Float
from torch import Tensor

from polysem.features._independent import IndependentFeatures
from polysem.features._sparse import SparseFeatures, check_draw, uniform

BELOW_ONE = 1 - 2**-53
GOLDEN, SILVER = (5**0.5 - 1) / 2, 2**0.5 - 1
"""Steps modulo 1 whose multiples fill the unit interval evenly, and in pairs the unit square."""
REPEATS = 4
"""Samples of a support from which on the decoding alone spreads the values of its first feature."""


class StratifiedSampler:
    r"""Draws samples with an active feature, the larger supports more often, each with its exact weight.

        E f(x) = E[(1/n) Σ_s weight_s f(x_s)] + P(no feature active) f(inactive_value)
        weight_s = Σ_k k² P(K = k) / K_s²

    The support size `K` of independent features has a Poisson-binomial law; here it is drawn with chances in
    proportion to `k² P(K = k)`, since the spread of losses and gradients grows with the number of active features.
    Equal steps of `1/n` from one random start are decoded into size, first active feature, the others, and the value
    of the first, so that every support comes as often as it should to within one sample. The values of each feature
    follow each other in steps of the golden ratio from a random start of its own; where it comes first, steps of the
    silver ratio (or what the decoding left, if the support comes often) keep them apart from the others'. The samples
    are exchangeable only as a whole: means are unbiased, but the spread within one draw overstates their error.

    Args:
        features: independent features of shape `[*shape]`, the last axis being the features.

    Raises:
        ValueError: features that are not independent.

    Example:
        >>> import torch
        >>> from polysem.features import SparseSign, StratifiedSampler
        >>> sampler = StratifiedSampler(SparseSign([0.5, 0.5]))
        >>> x, weight = sampler.sample(6, generator=torch.Generator().manual_seed(0))
        >>> x.abs().sum(-1).tolist(), weight.tolist()
        ([1.0, 1.0, 2.0, 2.0, 2.0, 2.0], [1.5, 1.5, 0.375, 0.375, 0.375, 0.375])

    Source: ours, from systematic sampling and Kronecker sequences; the recursion for the Poisson-binomial law is
    standard.
    """

    def __init__(self, features: SparseFeatures) -> None:
        if not isinstance(features, IndependentFeatures):
            raise ValueError(f"features must be independent for stratified samples, got {type(features).__name__}")
        self._features = features
        p = features.feature_probability
        p = p if p.ndim else p[None]
        n = p.shape[-1]
        sizes = _sizes_from(p)
        quiet = torch.cat([torch.ones_like(p[..., :1]), (1 - p).cumprod(-1)[..., :-1]], -1)
        # Size k with first active feature i: nothing before i, i itself, and k - 1 of those after it.
        cells = (quiet * p)[..., None, :] * sizes[1:, ..., :n].movedim(0, -1)
        size = torch.arange(1, n + 1, dtype=p.dtype, device=p.device)
        self._cells = (cells * size[:, None] ** 2).flatten(-2)
        # With k more to come from i on, i is active with this chance.
        one_less = torch.cat([torch.zeros_like(sizes[1:, ..., :1]), sizes[1:, ..., :-1]], -1)
        chance = p.movedim(-1, 0)[..., None] * one_less / sizes[:-1].clamp(min=torch.finfo(p.dtype).tiny)
        self._chance = chance.clamp(max=1)

    def sample(
        self, n: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> tuple[Float[Tensor, "n ..."], Float[Tensor, " n *settings"]]:
        """Draw samples and the weight of each.

        Args:
            n: number of samples, and of steps.
            generator: source of randomness; its device is the device of the result.
            dtype: floating-point dtype of the samples.

        Returns:
            Samples `[n, *shape]` in the order of their support sizes, and float64 weights `[n, *shape[:-1]]`.

        Raises:
            ValueError: `n` below 1.
            TypeError: no generator, or a dtype that is not floating-point.
        """
        n = check_draw(n, generator, dtype)
        device = generator.device
        cells, chances = self._cells.to(device), self._chance.to(device)
        settings, n_features = cells.shape[:-1], len(chances)
        cumulative = cells.cumsum(-1)
        total = cumulative[..., -1:]
        steps = torch.arange(n, dtype=cells.dtype, device=device)
        level = ((steps + uniform(torch.Size((*settings, 1)), generator)) / n).clamp(max=BELOW_ONE) * total
        cell = torch.searchsorted(cumulative, level, right=True)
        width = cells.gather(-1, cell)
        rest = (level - cumulative.gather(-1, cell)) / width + 1
        rest, cell, repeats = (t.movedim(-1, 0) for t in (rest.clamp(0, BELOW_ONE), cell, n * width / total))
        first, others = cell % n_features, cell // n_features
        weight = total[..., 0] / (others + 1).square()

        position = torch.arange(n_features, device=device)
        columns = []
        for i, chance_of_size in enumerate(chances.expand(n, *chances.shape).unbind(1)):
            chance = chance_of_size.gather(-1, others[..., None])[..., 0] * (first < i)
            chosen = rest < chance
            repeats = repeats * torch.where(chosen, chance, 1 - chance)
            rest = torch.where(chosen, rest / chance, (rest - chance) / (1 - chance)).clamp(0, BELOW_ONE)
            others = others - chosen.long()
            columns.append(chosen)
        is_first = position == first[..., None]
        active = torch.stack(columns, -1) | is_first

        start = uniform(torch.Size((*settings, n_features)), generator)
        along = (steps.reshape(n, *[1] * (active.ndim - 1)) * SILVER + start) % 1
        lead = torch.where((repeats >= REPEATS)[..., None], rest[..., None], along)
        quantile = torch.where(is_first, lead, (active.cumsum(0) * GOLDEN + start) % 1)
        shape = torch.Size((n, *self._features.feature_probability.shape))
        slab = self._features._slab_quantile(quantile.clamp(1 - BELOW_ONE, BELOW_ONE))
        raw = torch.where(active, slab, torch.zeros_like(slab)).reshape(shape)
        return self._features._finish(raw).to(dtype), weight


def _sizes_from(p: Float[Tensor, "*settings n"]) -> Float[Tensor, "n_after *settings n_sizes"]:
    """Chance that exactly k of the features from i on are active, `[n + 1, *settings, n + 1]` over i and k.

    P(k of i on) = p_i P(k - 1 of i + 1 on) + (1 - p_i) P(k of i + 1 on)
    """
    rows = [torch.cat([torch.ones_like(p[..., :1]), torch.zeros_like(p)], -1)]
    for chance in p.flip(-1).unsqueeze(-1).unbind(-2):
        after = rows[-1]
        one_more = torch.cat([torch.zeros_like(chance), after[..., :-1]], -1)
        rows.append(chance * one_more + (1 - chance) * after)
    return torch.stack(rows[::-1])
