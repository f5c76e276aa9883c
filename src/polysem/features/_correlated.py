"""Sparse features that are active together, or never together, in groups."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from polysem import _checks
from polysem.features._independent import IndependentFeatures
from polysem.features._sparse import SparseFeatures, first_event, some_up_to, uniform

ROUNDING = 1e-12


class GroupedFeatures(SparseFeatures):
    r"""Features with the marginal laws of given ones, whose activities depend on each other within groups.

    Groups are independent of each other, a feature in no group is a group of its own, and values of active
    features are independent of everything.

    Args:
        marginals: slab, probabilities and standardisation of each feature, of shape `[*settings, n_features]`.
        groups: which features belong together: disjoint lists of at least two indices each.

    Raises:
        ValueError: a group of fewer than two, an index that is no feature or stands twice.
        TypeError: marginals that are not independent features.

    Source: ours.
    """

    independent = False

    def __init__(self, marginals: IndependentFeatures, groups: Sequence[Sequence[int]]) -> None:
        if not isinstance(marginals, IndependentFeatures):
            raise TypeError(f"marginals must be independent features, got {type(marginals).__name__}")
        super().__init__(marginals.feature_probability, standardise=marginals.standardise)
        self._marginals = marginals
        self.slab_moments = marginals.slab_moments
        if not self._p.ndim:
            raise ValueError("marginals must have a feature axis: [*settings, n_features], got a single probability")
        n = self.n_features
        self._groups = _disjoint(groups, n)
        grouped = {member for group in self._groups for member in group}
        everyone = [*self._groups, *([member] for member in range(n) if member not in grouped)]
        width = max(map(len, everyone))
        padded = torch.tensor([[*group, *[n] * (width - len(group))] for group in everyone], device=self._p.device)
        self._place = padded.flatten().argsort()[:n]
        self._p_in_groups = torch.cat([self._p, torch.zeros_like(self._p[..., :1])], -1)[..., padded]

    @property
    def marginals(self) -> IndependentFeatures:
        """Independent features with the same law of each."""
        return self._marginals

    @property
    def groups(self) -> list[list[int]]:
        """Which features belong together."""
        return [list(group) for group in self._groups]

    @property
    @abstractmethod
    def _group_probability(self) -> Float[Tensor, "*settings n_groups"]:
        """Chance that a group has an active feature."""

    @abstractmethod
    def _members(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n *settings n_groups width"]:
        """Draw who is active in each group."""

    @abstractmethod
    def _some_members(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n *settings n_groups width"]:
        """Draw who is active in each group given that someone is."""

    def _slab(self, shape: torch.Size, generator: torch.Generator) -> Float[Tensor, "..."]:
        return self._marginals._slab(shape, generator)

    def _active(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n ..."]:
        return self._in_order(self._members(n, generator))

    def _some_active(
        self, n: int, generator: torch.Generator
    ) -> tuple[Bool[Tensor, "n ..."], Float[Tensor, "*settings"]]:
        """The first active group is drawn from its law, then its members; those after it independently."""
        some = some_up_to(self._group_probability.to(generator.device))
        first = first_event(some, n, generator)[..., None, None]
        position = torch.arange(some.shape[-1], device=some.device)[:, None]
        members, some_members = self._members(n, generator), self._some_members(n, generator)
        return self._in_order(torch.where(position == first, some_members, members & (position > first))), some[..., -1]

    def _in_order(self, members: Tensor) -> Tensor:
        return members.flatten(-2)[..., self._place.to(members.device)]

    @property
    def _together(self) -> Bool[Tensor, "n_features n_features"]:
        """Which pairs of different features belong to the same group."""
        group_of = torch.arange(self.n_features, device=self._p.device)
        for group in self._groups:
            group_of[group] = group[0]
        same = group_of[:, None] == group_of
        return same & ~torch.eye(len(group_of), dtype=torch.bool, device=same.device)


class CorrelatedFeatures(GroupedFeatures):
    r"""Features whose activities are correlated within groups, at given probabilities.

        P(s_i s_j = 1) = p_i p_j + ρ √(p_i (1 - p_i) p_j (1 - p_j))        i ≠ j in the same group, else p_i p_j

    so that `ρ` is the Pearson correlation of the activities. Each group has a hidden cause `z ~ Bernoulli(π)`, given
    which its members are independent: with odds `o = p / (1 - p)` and `o_π = √(min o_i · max o_i)`,

        P(s_i = 1 | z = 1) = p_i (1 + √ρ / √(o_π o_i)),   P(s_i = 1 | z = 0) = p_i (1 - √ρ √(o_π / o_i))

    This exists for every `ρ` from 0 to `√(min o_i / max o_i)`, beyond which no law at all has these probabilities.
    In a pair `ρ` may be negative: one of the two then sees the opposite cause (`o_j` becomes `1 / o_j` above, and
    so in the limit of `-ρ`). Values are independent of the cause: the covariance of the features themselves is
    `ρ √(p_i (1 - p_i) p_j (1 - p_j)) (E z)²`, 0 for a symmetric slab; that of their squares is not.

    Args:
        marginals: slab, probabilities and standardisation of each feature, of shape `[*settings, n_features]`.
        groups: which features belong together: disjoint lists of at least two indices each.
        correlation: `ρ` of the activities, for all groups or `[*settings, n_groups]`.

    Raises:
        ValueError: a correlation out of the group's reach (which is stated) or negative in a group of more than two,
            a group of fewer than two, an index that is no feature or stands twice.
        TypeError: marginals that are not independent features.

    Example:
        >>> import torch
        >>> from polysem.features import CorrelatedFeatures, SparseUniform
        >>> features = CorrelatedFeatures(SparseUniform([0.5, 0.5, 0.1]), [[0, 1]], correlation=0.6)
        >>> features.pair_probability[0].tolist(), features.independent
        ([0.5, 0.4, 0.05], False)
        >>> _, weight = features.sample_active(1, generator=torch.Generator().manual_seed(0))
        >>> round(weight.item(), 6)  # 1 - (1 - 0.6) (1 - 0.1)
        0.64

    Source: ours; the reach is the bound of Fréchet and Hoeffding.
    """

    def __init__(self, marginals: IndependentFeatures, groups: Sequence[Sequence[int]], *, correlation: object) -> None:
        super().__init__(marginals, groups)
        n_given, p = len(self._groups), self._p_in_groups
        rho = _checks.as_float64("correlation", correlation).to(p.device)
        try:
            self._correlation = rho.expand(*p.shape[:-2], n_given).clone()
        except RuntimeError:
            allowed = f"a number or of shape [*settings, n_groups] = {(*p.shape[:-2], n_given)}"
            raise ValueError(f"correlation must be {allowed}, got shape {tuple(rho.shape)}") from None
        alone = torch.zeros_like(p[..., n_given:, 0])
        rho = torch.cat([self._correlation, alone], -1)[..., None]
        logit, second = torch.logit(p), torch.arange(p.shape[-1], device=p.device) == 1
        opposite = (rho < 0) & second
        side = torch.where(opposite, -logit, logit)
        low = torch.where(p > 0, side, torch.inf).amin(-1, keepdim=True)
        high = torch.where(p > 0, side, -torch.inf).amax(-1, keepdim=True)
        self._check_reach(torch.exp((low - high) / 2).nan_to_num(0))
        cause = (low + high) / 2
        strength = rho.abs().sqrt() * torch.where(opposite, -1.0, 1.0)
        linked = (strength != 0) & (p > 0)
        present = p * (1 + strength * torch.exp(-(cause + logit) / 2))
        absent = p * (1 - strength * torch.exp((cause - logit) / 2))
        self._cause = torch.sigmoid(cause[..., 0])
        self._present = torch.where(linked, present, p).clamp(0, 1)
        self._absent = torch.where(linked, absent, p).clamp(0, 1)

    @property
    def correlation(self) -> Float[Tensor, "*settings n_groups"]:
        """Correlation of the activities in each of the given groups."""
        return self._correlation

    @property
    def pair_probability(self) -> Float[Tensor, "*settings n_features n_features"]:
        """`p_i p_j + ρ √(p_i (1 - p_i) p_j (1 - p_j))` in the same group, else `p_i p_j`; `p_i` on the diagonal."""
        spread = (self._p * (1 - self._p)).sqrt()
        rho = torch.zeros_like(self._p)
        for position, group in enumerate(self._groups):
            rho[..., group] = self._correlation[..., position, None]
        joint = super().pair_probability + rho[..., None] * spread[..., :, None] * spread[..., None, :]
        return torch.where(self._together, joint, super().pair_probability)

    @property
    def _group_probability(self) -> Float[Tensor, "*settings n_groups"]:
        return self._cause * some_up_to(self._present)[..., -1] + (1 - self._cause) * some_up_to(self._absent)[..., -1]

    def _members(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n *settings n_groups width"]:
        cause, present, absent = self._law(generator)
        caused = uniform(torch.Size((n, *cause.shape)), generator) < cause
        chance = torch.where(caused[..., None], present, absent)
        return uniform(chance.shape, generator) < chance

    def _some_members(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n *settings n_groups width"]:
        """The cause is drawn from its law given that someone is active, then the first active member, then the rest."""
        cause, present, absent = self._law(generator)
        some_present, some_absent = some_up_to(present), some_up_to(absent)
        likely = cause * some_present[..., -1]
        likely = likely / (likely + (1 - cause) * some_absent[..., -1])
        caused = (uniform(torch.Size((n, *cause.shape)), generator) < likely)[..., None]
        some = torch.where(caused, some_present, some_absent)
        u = uniform(torch.Size((*some.shape[:-1], 1)), generator)
        first = (some / some[..., -1:] <= u).sum(-1, keepdim=True)
        slot = torch.arange(some.shape[-1], device=some.device)
        later = uniform(some.shape, generator) < torch.where(caused, present, absent)
        return (slot == first) | (later & (slot > first))

    def _law(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        cause, present, absent = (part.to(generator.device) for part in (self._cause, self._present, self._absent))
        return cause, present, absent

    def _check_reach(self, reach: Tensor) -> None:
        for position, group in enumerate(self._groups):
            rho = self._correlation[..., position]
            most = reach[..., position, 0].expand_as(rho)
            if len(group) > 2 and bool((rho < 0).any()):
                raise ValueError(
                    f"correlation must be at least 0 in a group of more than two (see ExclusiveFeatures), got "
                    f"{float(rho.min()):.6g} for group {group}"
                )
            bad = rho.abs() > most * (1 + ROUNDING)
            if bool(bad.any()):
                raise ValueError(
                    f"correlation must be at most {float(most[bad][0]):.6g} in size for the probabilities of group "
                    f"{group}, got {float(rho[bad][0]):.6g}"
                )


class ExclusiveFeatures(GroupedFeatures):
    r"""Features of which at most one in each group is active, at given probabilities.

        P(i alone of its group) = p_i,   P(none of it) = 1 - Σ_j p_j
        P(s_i s_j = 1) = 0        i ≠ j in the same group, else p_i p_j

    The correlation of activities in a group is `-√(p_i p_j / ((1 - p_i)(1 - p_j)))`, the least there can be.

    Args:
        marginals: slab, probabilities and standardisation of each feature, of shape `[*settings, n_features]`.
        groups: which features exclude each other: disjoint lists of at least two indices each, in each of which the
            probabilities sum to at most 1.

    Raises:
        ValueError: probabilities of a group that sum to more than 1, a group of fewer than two, an index that is no
            feature or stands twice.
        TypeError: marginals that are not independent features.

    Example:
        >>> import torch
        >>> from polysem.features import ExclusiveFeatures, SparseSign
        >>> features = ExclusiveFeatures(SparseSign([0.5, 0.25, 0.25]), [[0, 1, 2]])
        >>> x, weight = features.sample_active(1000, generator=torch.Generator().manual_seed(0))
        >>> x.abs().sum(-1).unique().tolist(), weight.item()
        ([1.0], 1.0)

    Source: ours.
    """

    def __init__(self, marginals: IndependentFeatures, groups: Sequence[Sequence[int]]) -> None:
        super().__init__(marginals, groups)
        self._up_to = self._p_in_groups.cumsum(-1)
        for position, group in enumerate(self._groups):
            total = float(self._up_to[..., position, -1].max())
            allowed = f"of sum at most 1 in group {group}"
            _checks.require(total <= 1 + ROUNDING, "feature_probability", total, allowed)

    @property
    def pair_probability(self) -> Float[Tensor, "*settings n_features n_features"]:
        """0 in the same group, else `p_i p_j`; `p_i` on the diagonal."""
        return torch.where(self._together, 0.0, super().pair_probability)

    @property
    def _group_probability(self) -> Float[Tensor, "*settings n_groups"]:
        return self._up_to[..., -1].clamp(max=1)

    def _members(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n *settings n_groups width"]:
        return self._whose(self._up_to, n, generator)

    def _some_members(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n *settings n_groups width"]:
        return self._whose(self._up_to / self._up_to[..., -1:], n, generator)

    def _whose(self, up_to: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """In whose part of the unit interval a uniform number falls."""
        edges = up_to.to(generator.device)
        u = uniform(torch.Size((n, *edges.shape[:-1], 1)), generator)
        below = u < edges
        return below & ~torch.nn.functional.pad(below, (1, 0))[..., :-1]


def _disjoint(groups: Sequence[Sequence[int]], n_features: int) -> list[list[int]]:
    """The groups as lists of ints, checked."""
    seen: set[int] = set()
    result = []
    for group in groups:
        members = [_checks.whole("an index in groups", member, minimum=0) for member in group]
        _checks.require(len(members) >= 2, "each of groups", members, "of at least two features")
        for member in members:
            _checks.require(member < n_features, "an index in groups", member, f"below n_features = {n_features}")
            _checks.require(member not in seen, "an index in groups", member, "in one group only, and once")
            seen.add(member)
        result.append(members)
    return result
