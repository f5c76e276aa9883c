"""Polysemanticity where returns do not diminish: ties, features that depend on each other, local minima."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from scipy.special import betainc
from torch import Tensor

from polysem.features import CorrelatedFeatures, SparseGaussian, SparseSign, SparseUniform, geometric
from polysem.measure import FeatureClass, capacity, classify
from polysem.returns import Curves, curve
from polysem.studies._configs_without_diminishing import WithoutDiminishingConfig
from polysem.training import Fit, FitConfig, FitStatus, fit
from polysem.zoo import QuadraticModel, TiedAutoencoder, ToyModel

TIES = ((2, 1), (4, 2), (8, 2))
"""Numbers of features and dimensions of the models with constant returns."""
N_SPLITS = 201
LINEAR_CORRELATIONS, LINEAR_P, LINEAR_IMPORTANCE = (0.0, 0.3, 0.6, -1.0), 0.5, (1.0, 0.8)
QUADRATIC_CORRELATIONS, QUADRATIC_P, QUADRATIC_V = (0.0, -0.2, -0.4, -2 / 3), 0.4, (1.0, 0.9)
N_RISING, D_RISING, RISING_DECAY = 6, 3, 0.9
RELU_P = 0.3


@dataclass(frozen=True)
class Tie:
    """Equally important features of kurtosis 3, trained from many starts.

    Attributes:
        n_features: number of features N.
        d_hidden: dimensions D.
        capacity: of the first feature of every start `[starts]`, ascending.
        expected: share of random D-dimensional subspaces that own no more of an axis, `[starts]`.
        loss: loss of every start `[starts]`, over the optimal one.
        impure: share of all features that are impure.
        moved: largest difference between a capacity and the share of the feature's axis in the span of the columns
            that the start had.
    """

    n_features: int
    d_hidden: int
    capacity: Float[Tensor, " starts"]
    expected: Float[Tensor, " starts"]
    loss: Float[Tensor, " starts"]
    impure: float
    moved: float

    @property
    def distance(self) -> float:
        """Largest difference between the two distributions (Kolmogorov and Smirnov)."""
        n = len(self.capacity)
        steps = torch.arange(n + 1, dtype=self.expected.dtype) / n
        return float(torch.maximum(steps[1:] - self.expected, self.expected - steps[:-1]).max())


@dataclass(frozen=True)
class DependentPair:
    """Two features in one dimension that are active together more, or less, often than by chance.

    Losses are relative to that of ignoring both features.

    Attributes:
        correlation: of the activities, `[n_correlations]`.
        kurtosis: of each feature.
        split: capacity of the first feature `[n_splits]`; the second has the rest.
        least: least loss at each split, `[n_correlations, n_splits]`.
        capacity: capacities `[n_correlations, 2]` of the best trained start.
        loss: its loss `[n_correlations]`.
    """

    correlation: tuple[float, ...]
    kurtosis: float
    split: Float[Tensor, " n_splits"]
    least: Float[Tensor, "n_correlations n_splits"]
    capacity: Float[Tensor, "n_correlations 2"]
    loss: Float[Tensor, " n_correlations"]

    @property
    def saved(self) -> Float[Tensor, " n_correlations"]:
        """By what share the best split has a lower loss than the best with one pure feature."""
        return 1 - self.least.amin(-1) / self.least[:, [0, -1]].amin(-1)

    @property
    def excess(self) -> float:
        """Largest excess of a trained loss over the least one."""
        return float((self.loss - self.least.amin(-1)).max())


@dataclass(frozen=True)
class Ending:
    """A loss at which starts end.

    Attributes:
        setting: what is varied.
        loss: the loss, over that of the best monosemantic configuration.
        impure: whether it is that of a configuration with an impure feature.
        share: share of the starts.
    """

    setting: float
    loss: float
    impure: bool
    share: float


@dataclass(frozen=True)
class Basins:
    """Where many starts end, setting by setting.

    Attributes:
        setting: what is varied `[n_settings]`.
        loss: loss of every start over that of the best monosemantic configuration, `[n_settings, starts]`.
        impure: whether it ended with an impure feature.
        converged: whether it ended at a minimum by gradient and curvature.
    """

    setting: Float[Tensor, " n_settings"]
    loss: Float[Tensor, "n_settings starts"]
    impure: Bool[Tensor, "n_settings starts"]
    converged: Bool[Tensor, "n_settings starts"]

    @property
    def monosemantic(self) -> Bool[Tensor, " n_settings"]:
        """Whether the best start has no impure feature."""
        return ~self.impure.gather(-1, self.loss.argmin(-1, keepdim=True))[:, 0]

    @property
    def above(self) -> Bool[Tensor, "n_settings starts"]:
        """Minima that are not the best, where that is monosemantic."""
        worse = self.loss > self.loss.amin(-1, keepdim=True) * (1 + 1e-6)
        return worse & self.converged & self.monosemantic[:, None]

    @property
    def stuck(self) -> Bool[Tensor, "n_settings starts"]:
        """The polysemantic ones among them."""
        return self.above & self.impure

    @property
    def share_above(self) -> float:
        """Share of the starts that end above the best, where that is monosemantic."""
        return self._share(self.above)

    @property
    def share_stuck(self) -> float:
        """Share of the starts that end at polysemantic minima there."""
        return self._share(self.stuck)

    @property
    def worst(self) -> float:
        """Largest loss of a polysemantic minimum above a monosemantic best, over that; 1 without any."""
        return float(torch.where(self.stuck, self.loss / self.loss.amin(-1, keepdim=True), 1.0).max())

    @property
    def endings(self) -> list[Ending]:
        """Losses that differ by more than 1e-4, and kinds, at which starts end."""
        result = []
        for setting, losses, kinds in zip(self.setting.tolist(), self.loss, self.impure, strict=True):
            found = Counter(zip(losses.mul(1e4).round().div(1e4).tolist(), kinds.tolist(), strict=True))
            result += [
                Ending(setting, loss, impure, count / len(losses)) for (loss, impure), count in sorted(found.items())
            ]
        return result

    def _share(self, which: Tensor) -> float:
        return float(which.sum() / (self.monosemantic.sum().clamp(min=1) * which.shape[-1]))


@dataclass(frozen=True)
class WithoutDiminishing:
    """The three ways.

    Attributes:
        ties: constant returns of quadratic models.
        linear: a pair in a linear autoencoder, which has constant returns for independent features.
        quadratic: a pair in a quadratic model whose returns rise for independent features.
        rising: starts of quadratic models against the kurtosis.
        relu: starts of ReLU autoencoders with three features in two dimensions, against the third's importance.
        relu_curvature: of the loss of such a feature against its capacity, beside an antipodal partner
            (`returns.Curves.curvature`).
    """

    ties: tuple[Tie, ...]
    linear: DependentPair
    quadratic: DependentPair
    rising: Basins
    relu: Basins
    relu_curvature: float


def without_diminishing(config: WithoutDiminishingConfig = WithoutDiminishingConfig()) -> WithoutDiminishing:
    """Train models that become polysemantic although returns to capacity do not diminish.

    Example:
        >>> result = without_diminishing(
        ...     WithoutDiminishingConfig(tie_starts=4, pair_starts=2, pair_steps=50, n_kurtosis=2, n_ratio=2, starts=2)
        ... )
        >>> max(float(tie.loss.max()) for tie in result.ties) < 1 + 1e-9, bool((result.linear.saved[1:] > 0.1).all())
        (True, True)

    Source: ours; ties and correlated features are questions of the discussion of Scherlis et al. 2022.
    """
    return WithoutDiminishing(
        ties=tuple(_tie(n, d, config) for n, d in TIES),
        linear=_linear(config),
        quadratic=_quadratic(config),
        rising=_rising(config),
        relu=_relu(config),
        relu_curvature=float(_relu_curve().curvature[0, 0]),
    )


def _tie(n: int, d: int, config: WithoutDiminishingConfig) -> Tie:
    """L-BFGS alone, which moves along gradients: they lie in the span of the columns, so that it stays."""
    start = QuadraticModel(n, d, n_inst=config.tie_starts, generator=_seeded(config))
    done = fit(
        start,
        SparseGaussian([1.0] * n, standardise=True),
        [1.0] * n,
        FitConfig(adam_steps=0, polish="lbfgs"),
    )
    C = capacity(done.model.embedding.detach())
    columns = torch.linalg.qr(start.W.detach()).Q
    first = C[:, 0].sort().values
    return Tie(
        n_features=n,
        d_hidden=d,
        capacity=first,
        expected=torch.from_numpy(betainc(d / 2, (n - d) / 2, first.numpy())),
        loss=done.loss / (2 * (n - d)),
        impure=float((classify(C) == FeatureClass.IMPURE).double().mean()),
        moved=float((C - columns.square().sum(-1)).abs().max()),
    )


def _linear(config: WithoutDiminishingConfig) -> DependentPair:
    """`L = Σ_j I_j [(1 - G) Σ (1 - G)]_jj` at the best biases, with the covariance `Σ` of the features."""
    alone = SparseUniform([LINEAR_P] * 2)
    both = _together(alone, LINEAR_CORRELATIONS).pair_probability[:, 0, 1]
    shared = alone.slab_moments[0] ** 2 * (both - LINEAR_P**2)
    covariance = torch.diag(alone.variance) + shared[:, None, None] * (1 - torch.eye(2))
    weight = torch.tensor(LINEAR_IMPORTANCE, dtype=torch.float64)

    def loss(w: Tensor) -> Tensor:
        error = torch.eye(2) - w[..., :, None] * w[..., None, :]
        return (weight * (error @ covariance[:, None] @ error).diagonal(dim1=-2, dim2=-1)).sum(-1)

    n_inst = len(LINEAR_CORRELATIONS) * config.pair_starts
    start = TiedAutoencoder(2, 1, n_inst=n_inst, activation="identity", generator=_seeded(config))
    return _pair(start, alone, LINEAR_CORRELATIONS, weight, loss, config)


def _quadratic(config: WithoutDiminishingConfig) -> DependentPair:
    """`L = dᵀ K d + 4 a_1 a_2 E x_1² x_2²` at the best offset, with `d = v - a` and `K` the covariance of squares."""
    alone = SparseSign([QUADRATIC_P] * 2, standardise=True)
    product = _together(alone, QUADRATIC_CORRELATIONS).pair_probability[:, 0, 1] / QUADRATIC_P**2
    K = torch.diag(alone.kurtosis - 1) + (product - 1)[:, None, None] * (1 - torch.eye(2))
    v = torch.tensor(QUADRATIC_V, dtype=torch.float64)

    def loss(w: Tensor) -> Tensor:
        a = w.square()
        return torch.einsum("kmi,kij,kmj->km", v - a, K, v - a) + 4 * a.prod(-1) * product[:, None]

    n_inst = len(QUADRATIC_CORRELATIONS) * config.pair_starts
    start = QuadraticModel(2, 1, n_inst=n_inst, generator=_seeded(config))
    return _pair(start, alone, QUADRATIC_CORRELATIONS, v, loss, config)


def _pair(
    start: ToyModel,
    alone: SparseUniform | SparseSign,
    correlations: tuple[float, ...],
    importance: Tensor,
    loss: Callable[[Tensor], Tensor],
    config: WithoutDiminishingConfig,
) -> DependentPair:
    """Least losses of rows `√s (√C, ±√(1 - C))`, which are quadratic in `s`, and trained ones."""
    n, split = len(correlations), torch.linspace(0, 1, N_SPLITS, dtype=torch.float64)
    nothing = loss(torch.zeros(n, 1, 2, dtype=torch.float64))
    least = []
    for sign in (1, -1):
        rows = torch.stack([split.sqrt(), sign * (1 - split).sqrt()], -1).expand(n, -1, -1)
        one, two = loss(rows), loss(2**0.5 * rows)
        bend = (two - 2 * one + nothing) / 2
        fall = (bend + nothing - one).clamp(min=0) / 2
        least.append(1 - fall.square() / bend / nothing)

    together = _together(alone, tuple(rho for rho in correlations for _ in range(config.pair_starts)))
    settings = FitConfig(loss="sampled", adam_steps=config.pair_steps, batch_size=config.batch_size)
    done = fit(start, together, importance, settings, generator=_seeded(config))
    rows = done.model.embedding.detach().reshape(n, config.pair_starts, 2)
    trained = loss(rows) / nothing
    best = trained.argmin(-1)
    return DependentPair(
        correlation=correlations,
        kurtosis=float(alone.kurtosis[0]),
        split=split,
        least=torch.minimum(*least),
        capacity=capacity(rows[torch.arange(n), best][..., None]),
        loss=trained.amin(-1),
    )


def _together(alone: SparseUniform | SparseSign, correlations: tuple[float, ...]) -> CorrelatedFeatures:
    """A pair at each correlation."""
    p = alone.feature_probability.expand(len(correlations), 2)
    marginals = type(alone)(p, standardise=alone.standardise)
    return CorrelatedFeatures(marginals, [[0, 1]], correlation=torch.tensor(correlations, dtype=torch.float64)[:, None])


def _rising(config: WithoutDiminishingConfig) -> Basins:
    kurtosis = torch.logspace(math.log10(1.2), math.log10(12), config.n_kurtosis, dtype=torch.float64)
    v = geometric(N_RISING, RISING_DECAY)
    start = QuadraticModel(N_RISING, D_RISING, n_inst=config.n_kurtosis * config.starts, generator=_seeded(config))
    F = kurtosis.repeat_interleave(config.starts)[:, None].expand(-1, N_RISING)
    done = fit(start, SparseSign.from_kurtosis(F, standardise=True), v, FitConfig(adam_steps=100))
    return _basins(kurtosis, done, (kurtosis - 1) * v[D_RISING:].square().sum())


def _relu(config: WithoutDiminishingConfig) -> Basins:
    ratio = torch.logspace(math.log10(0.05), math.log10(0.5), config.n_ratio, dtype=torch.float64)
    features = SparseUniform([RELU_P] * 3)
    start = TiedAutoencoder(3, 2, n_inst=config.n_ratio * config.starts, generator=_seeded(config))
    importance = torch.ones(config.n_ratio, 3, dtype=torch.float64)
    importance[:, 2] = ratio
    done = fit(start, features, importance.repeat_interleave(config.starts, 0), FitConfig(adam_steps=60))
    return _basins(ratio, done, ratio * features.variance[2])


def _relu_curve() -> Curves:
    pair = TiedAutoencoder(2, 1, generator=torch.Generator().manual_seed(0))
    return curve(pair, SparseUniform([RELU_P] * 2), [1.0, 1.0], pattern="antipodal")


def _basins(setting: Tensor, done: Fit, monosemantic: Tensor) -> Basins:
    W = done.model.embedding.detach()
    impure = (classify(capacity(W), W.norm(dim=-1)) == FeatureClass.IMPURE).any(-1)
    shape = (len(setting), -1)
    return Basins(
        setting=setting,
        loss=done.loss.reshape(shape) / monosemantic[:, None],
        impure=impure.reshape(shape),
        converged=(done.status == FitStatus.CONVERGED).reshape(shape),
    )


def _seeded(config: WithoutDiminishingConfig) -> torch.Generator:
    return torch.Generator().manual_seed(config.seed)
