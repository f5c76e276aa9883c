"""Which features are active together: exact chances of small supports, and samples of the large ones."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def small_supports(
    p: Float[Tensor, "*settings n"],
) -> tuple[Float[Tensor, "*settings"], Float[Tensor, "*settings n"], Float[Tensor, "*settings n n"]]:
    """Chances that no feature is active, that i alone is, and that i and k alone are (0 on the diagonal).

        P(S) = Π_{i in S} p_i Π_{i not in S} (1 - p_i)

    Args:
        p: chance of each feature to be active, in (0, 1].

    Returns:
        Chances `[*settings]`, `[*settings, n]`, `[*settings, n, n]`, each to full relative accuracy.

    Source: ours.
    """
    certain = (p == 1).double()
    log_quiet = torch.log1p(-torch.where(p == 1, 0.0, p))
    quiet, n_certain = log_quiet.sum(-1), certain.sum(-1)
    none = quiet.exp() * (n_certain == 0)
    one = p * (quiet[..., None] - log_quiet).exp() * (n_certain[..., None] == certain)
    others = quiet[..., None, None] - log_quiet[..., None] - log_quiet[..., None, :]
    allowed = n_certain[..., None, None] == certain[..., None] + certain[..., None, :]
    two = p[..., None] * p[..., None, :] * others.exp() * allowed
    two = two * (1 - torch.eye(p.shape[-1], dtype=p.dtype, device=p.device))
    return none, one, two


def all_supports(
    p: Float[Tensor, "*settings n"],
) -> tuple[Bool[Tensor, "n_supports n"], Float[Tensor, "*settings n_supports"]]:
    """Every set of active features, and its chance."""
    n = p.shape[-1]
    masks = (torch.arange(2**n, device=p.device)[:, None] >> torch.arange(n, device=p.device)) % 2 == 1
    return masks, torch.where(masks, p[..., None, :], 1 - p[..., None, :]).prod(-1)


def up_to_two(
    p: Float[Tensor, "*settings n"],
) -> tuple[Bool[Tensor, "n_supports n"], Float[Tensor, "*settings n_supports"]]:
    """Every set of at most two active features, and its chance."""
    n = p.shape[-1]
    none, one, two = small_supports(p)
    i, k = torch.triu_indices(n, n, 1, device=p.device)
    single = torch.eye(n, dtype=torch.bool, device=p.device)
    masks = torch.cat([torch.zeros_like(single[:1]), single, single[i] | single[k]])
    return masks, torch.cat([none[..., None], one, two[..., i, k]], -1)


def at_least(p: Float[Tensor, "*settings n"], count: int) -> Float[Tensor, "n_after *settings n_needed"]:
    """Chances that at least `0 ... count` of the features from i on are active, for `i = 0 ... n`.

        P(k of i on) = p_i P(k - 1 of i + 1 on) + (1 - p_i) P(k of i + 1 on)

    All terms are positive, so that even tiny chances keep their digits.

    Args:
        p: chance of each feature to be active.
        count: the largest number asked for.

    Returns:
        Chances `[n + 1, *settings, count + 1]`.

    Source: ours; the recursion for the Poisson-binomial law.
    """
    rows = [p.new_zeros(*p.shape[:-1], count + 1)]
    rows[0][..., 0] = 1
    for chance in p.flip(-1).unsqueeze(-1).unbind(-2):
        after = rows[-1]
        rows.append(torch.cat([after[..., :1], chance * after[..., :-1] + (1 - chance) * after[..., 1:]], -1))
    return torch.stack(rows[::-1])


def sample_at_least(
    p: Float[Tensor, "*settings n"], count: int, n_samples: int, generator: torch.Generator
) -> Bool[Tensor, "n_samples *settings n"]:
    """Draw sets of active features given that they have at least `count` members, without rejection.

    Feature by feature: with k members still needed, i is active with chance
    `p_i P(k - 1 of i + 1 on) / P(k of i on)`.

    Args:
        p: chance of each feature to be active.
        count: least number of active features, at most `n`.
        n_samples: number of draws.
        generator: source of randomness; its device is the device of the result.

    Returns:
        Whether each feature is active `[n_samples, *settings, n]`.

    Source: ours.
    """
    p = p.to(generator.device)
    reach = at_least(p, count)
    shape = (n_samples, *p.shape[:-1])
    needed = torch.full((*shape, 1), count, device=p.device)
    columns = []
    for i in range(p.shape[-1]):
        here, after = (reach[at].expand(*shape, count + 1) for at in (i, i + 1))
        if_active = after.gather(-1, (needed - 1).clamp(min=0))
        chance = p[..., i, None] * if_active / here.gather(-1, needed)
        draw = torch.rand((*shape, 1), generator=generator, dtype=torch.float64, device=p.device) < chance
        needed = (needed - draw.long()).clamp(min=0)
        columns.append(draw)
    return torch.cat(columns, -1)
