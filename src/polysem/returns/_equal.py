"""The equal-returns test: does a network divide its capacity as the theory says it should?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysem import _checks
from polysem.measure import IGNORED_BELOW, FeatureClass
from polysem.returns._dispersion import NORMAL_95, Dispersion, dispersion
from polysem.returns._prices import Prices
from polysem.returns._result import Curves

CHUNK_ELEMENTS = 2**20
"""So many dealt-out capacities are held at once."""


class Verdict(IntEnum):
    """What the equal-returns test says of an allocation."""

    EQUAL = 0
    """Equal returns, as at an optimum: nothing speaks against the theory."""
    UNEQUAL = 1
    """Some feature would gain more from the next bit of capacity than another that has it."""
    UNDECIDED = 2
    """The errors are too large to tell (measure on more samples), or there is nothing to compare: a dead network."""


@dataclass(frozen=True)
class EqualReturns:
    """How nearly a network's marginal returns to capacity are equal.

    Attributes:
        verdict: a `Verdict` for each network `[*batch]`.
        prices: dispersion of the impure features' prices; its mean is the common benefit `μ`, minus the price.
        curves: dispersion of the slopes of their curves at the capacities they have; None without curves.
        benefit: `-dL/dC_i` `[*batch, n_features]`: of impure features minus their price, of pure and ignored ones from
            their curves (0 without).
        stderr: standard error of `benefit`.
        violation: by how much a pure feature benefits less, or an ignored one more, than the impure ones, in units of
            `|μ|`; 0 for all others.
        null: dispersion of the curves' slopes where the capacities are dealt out at random, `[*batch, n_permutations]`;
            None without curves.
        p_value: chance of a dispersion of the curves' slopes as small as the network's under random dealing; None
            without curves.
        capacity: `C_i`.
        feature_class: a `measure.FeatureClass` for each feature.
        tolerance: dispersion and violation up to which returns count as equal.
    """

    verdict: Int[Tensor, "*batch"]
    prices: Dispersion
    curves: Dispersion | None
    benefit: Float[Tensor, "*batch n_features"]
    stderr: Float[Tensor, "*batch n_features"]
    violation: Float[Tensor, "*batch n_features"]
    null: Float[Tensor, "*batch n_permutations"] | None
    p_value: Float[Tensor, "*batch"] | None
    capacity: Float[Tensor, "*batch n_features"]
    feature_class: Int[Tensor, "*batch n_features"]
    tolerance: float

    def select(self, at: int | tuple[int, ...]) -> "EqualReturns":
        """The result of one network of a stack, by its place on the batch axes."""
        per_network: dict[str, Any] = {
            name: value[at] if isinstance(value, Tensor) else value.select(at) if value is not None else None
            for name in ("verdict", "prices", "curves", "benefit", "stderr", "violation", "null", "p_value")
            for value in (getattr(self, name),)
        }
        return replace(self, **per_network, capacity=self.capacity[at], feature_class=self.feature_class[at])

    @property
    def n_impure(self) -> Int[Tensor, "*batch"]:
        """How many features the dispersion is over."""
        return (self.feature_class == FeatureClass.IMPURE).sum(-1)

    @property
    def says(self) -> str:
        """The outcome in a line, of one network; of several how many have each verdict."""
        if self.verdict.numel() > 1:
            counts = [(one.name.lower(), int((self.verdict == one).sum())) for one in Verdict]
            return ", ".join(f"{count} {name}" for name, count in counts if count)
        name, value = Verdict(int(self.verdict)).name.lower(), float(self.prices.value)
        low, high = float(self.prices.low), float(self.prices.high)
        text = f"{name}: prices of {int(self.n_impure)} impure features scatter by {value:.0%}"
        text += f" (95 % interval {low:.0%} to {high:.0%})" if high > low else ""
        if self.curves is None:
            return text
        n = int((self.violation > self.tolerance).sum())
        return f"{text}, slopes of their curves by {float(self.curves.value):.0%}, {n} violations at the ends"


def equal_returns(
    prices: Prices,
    curves: Curves | Sequence[Curves] | None = None,
    *,
    tolerance: float = 0.05,
    n_permutations: int = 200,
    seed: int = 0,
) -> EqualReturns:
    r"""Test whether marginal returns to capacity are equal, as at the optimum of a continuous budget.

    At the optimum of `Σ L_i(C_i)` under `Σ C_i ≤ D` there is a price `μ` with

        -L_i'(C_i) = μ  if 0 < C_i < 1,     -L_i'(1) ≥ μ  if C_i = 1,     -L_i'(0) ≤ μ  if C_i = 0.

    Marginal returns are measured twice. The *prices* say what the network as it is would gain if a readout saw less
    interference. The slopes of the *curves* at `C_i` say what a readout with the best scale and offset would gain.
    They agree at an optimum; elsewhere either may be equal by accident: rows of a trained quadratic model, dealt out
    to the wrong features, keep their prices. So the dispersion of both over the impure features must be small. Pure
    and ignored features are held against the mean slope by their curves, at the capacities they have.

    The verdict is `EQUAL` where both intervals of the dispersion end at most at the tolerance and at most a tolerance's
    share of the pure and ignored features violate their side by more than a tolerance; `UNEQUAL` where one interval
    begins above it or more features violate; else `UNDECIDED`, as it is where no feature is represented or impure ones
    have no benefit at all. With equal curves and equal capacities the test has
    nothing to refute. The null says how much of equality any network would show: capacities are dealt out to the
    features at random, and each feature's benefit read off its own curve.

    Args:
        prices: of one network or of a stack, as `returns.prices` measures them.
        curves: of the same features, as `returns.curve` measures them, the finer the better: benefits are interpolated
            in `1/√b`, in which curves of the quadratic model are straight. Several, from independent samples, give
            standard errors; one counts as exact. Without curves only prices are compared.
        tolerance: dispersion and violation up to which returns count as equal.
        n_permutations: how often capacities are dealt out.
        seed: of the dealing.

    Returns:
        `EqualReturns`, with the batch axes of `prices`.

    Raises:
        ValueError: curves of other features, of different grids, or not from C = 0 to C = 1; a tolerance outside
            (0, 1).

    Example:
        A trained quadratic model spends its budget at equal returns; from its start it did not:

        >>> import torch
        >>> from polysem.features import SparseSign
        >>> from polysem.returns import curve, equal_returns, prices
        >>> from polysem.training import fit
        >>> from polysem.zoo import QuadraticModel
        >>> features, v = SparseSign([0.1] * 6, standardise=True), [0.9**i for i in range(6)]
        >>> start = QuadraticModel(6, d_hidden=3, generator=torch.Generator().manual_seed(0))
        >>> for model in (start, fit(start, features, v).model):
        ...     found = prices(model, features, v)
        ...     print(equal_returns(found, curve(model, features, v)).says)
        unequal: prices of 6 impure features scatter by 35%, slopes of their curves by 73%, 0 violations at the ends
        equal: prices of 6 impure features scatter by 0%, slopes of their curves by 0%, 0 violations at the ends

    Source: ours.
    """
    _checks.require(0 < tolerance < 1, "tolerance", tolerance, "in (0, 1)")
    n_permutations = _checks.whole("n_permutations", n_permutations)
    C, kind = prices.capacity, prices.feature_class
    impure = kind == FeatureClass.IMPURE
    of_prices = dispersion(-prices.price, prices.stderr, impure)
    benefit, stderr, violation = -prices.price, prices.stderr, torch.zeros_like(C)
    of_curves, null, p_value = None, None, None
    if curves is not None:
        measured = _checked([curves] if isinstance(curves, Curves) else curves, C)
        slope, error = _slopes(measured, torch.where((kind == FeatureClass.IGNORED) & (C > IGNORED_BELOW), 0.0, C))
        of_curves = dispersion(slope, error, impure)
        violation = _violation(slope, error, kind, of_curves.mean)
        benefit, stderr = torch.where(impure, benefit, slope), torch.where(impure, stderr, error)
        null = _null(measured, C, impure, n_permutations, seed)
        p_value = (1 + (null <= of_curves.value[..., None]).sum(-1)).to(C) / (1 + n_permutations)
    return EqualReturns(
        verdict=_verdict([of_prices] if of_curves is None else [of_prices, of_curves], violation, kind, tolerance),
        prices=of_prices,
        curves=of_curves,
        benefit=benefit,
        stderr=stderr,
        violation=violation,
        null=null,
        p_value=p_value,
        capacity=C,
        feature_class=kind,
        tolerance=tolerance,
    )


def _checked(curves: Sequence[Curves], C: Tensor) -> Sequence[Curves]:
    _checks.require(len(curves) > 0, "curves", curves, "at least one")
    for each in curves:
        shape = tuple(each.losses.shape[:-1])
        _checks.require(shape == tuple(C.shape), "shape of curves", shape, f"that of the prices, {tuple(C.shape)}")
        each.require_ends()
    return curves


def _slopes(curves: Sequence[Curves], C: Tensor) -> tuple[Tensor, Tensor]:
    """Mean benefit at given capacities over independent measurements, and its standard error."""
    found = torch.stack([each.benefit_at(C) for each in curves])
    error = found.std(0) / len(found) ** 0.5 if len(found) > 1 else torch.zeros_like(C)
    return found.mean(0), error


def _violation(slope: Tensor, error: Tensor, kind: Tensor, mean: Tensor) -> Tensor:
    """How far beyond its error each pure or ignored feature is on the wrong side of the impure ones."""
    pure, ignored = kind == FeatureClass.PURE, kind == FeatureClass.IGNORED
    impure = (kind == FeatureClass.IMPURE).any(-1)
    least = torch.where(pure, slope, torch.inf).amin(-1)
    most = torch.where(ignored, slope, -torch.inf).amax(-1)
    # Without an impure feature any price between the ends will do; the nearest to both is half-way.
    between = torch.where(least.isinf(), most, torch.where(most.isinf(), least, (least + most) / 2))
    common = torch.where(impure, mean, between)[..., None]
    excess = torch.where(pure, common - slope, torch.where(ignored, slope - common, 0.0)) - NORMAL_95 * error
    return excess.clamp(min=0) / torch.where(common == 0, 1.0, common.abs())


def _null(curves: Sequence[Curves], C: Tensor, impure: Tensor, n: int, seed: int) -> Tensor:
    """Dispersions where the capacities, and with them the classes, are dealt out to the features at random."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(C.shape[-1], generator=generator) for _ in range(n)]).to(C.device)
    found = []
    for deals in torch.split(order, max(1, CHUNK_ELEMENTS // C.numel())):
        slope, error = _slopes(curves, C[..., deals])
        found.append(dispersion(slope, error, impure[..., deals]).value)
    return torch.cat(found, -1)


def _verdict(measured: Sequence[Dispersion], violation: Tensor, kind: Tensor, tolerance: float) -> Tensor:
    impure = kind == FeatureClass.IMPURE
    dead = (kind == FeatureClass.IGNORED).all(-1) | (impure.any(-1) & (measured[0].mean == 0))
    violating = (violation > tolerance).sum(-1) > tolerance * (~impure).sum(-1)
    unequal = torch.stack([one.low > tolerance for one in measured]).any(0) | violating
    equal = torch.stack([one.high <= tolerance for one in measured]).all(0) & ~violating
    verdict = torch.full_like(violating, Verdict.UNDECIDED, dtype=torch.int64)
    verdict[equal & ~dead] = Verdict.EQUAL
    verdict[unequal] = Verdict.UNEQUAL
    return verdict
