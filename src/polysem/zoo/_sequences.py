"""Sequences of sparse features, and what is to be said of them at every position."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from polysem import _checks
from polysem.features import SparseUniform

KINDS = ("value here", "magnitude here", "value before", "magnitude before")
"""What can be known of a feature at a position: of its own value, and of the one at the previous position."""


@dataclass(frozen=True)
class SequenceTask:
    r"""At every position, to say how large each feature is there, and how large it was at the position before.

        x_ti = s_ti z_ti,   s_ti ~ Bernoulli(p_i),   z_ti uniform on [-1, 1],   independent of all else
        y_t  = (|x_t1|, ..., |x_tN|, |x_{t-1,1}|, ..., |x_{t-1,N}|)             0 before the first position
        loss = mean_t Σ_i I_i ((ŷ_ti - y_ti)² + (ŷ_{t,N+i} - y_{t,N+i})²)

    The magnitudes need neurons (no linear map says anything about `|x|`), those of the previous position attention.

    Args:
        feature_probability: `p` `[n_features]`, in (0, 1].
        n_positions: length of the sequences, at least 2.

    Attributes:
        features: the law of one position.

    Raises:
        ValueError: a probability outside (0, 1], not one for each feature, a length below 2.

    Example:
        >>> import torch
        >>> from polysem.zoo import SequenceTask
        >>> task = SequenceTask([0.3], n_positions=2)
        >>> task.targets(torch.tensor([[[-0.5], [0.25]]])).tolist()
        [[[0.5, 0.0], [0.25, 0.5]]]
        >>> round(task.ignored_loss([1.0]).sum().item(), 6)
        0.121875

    Source: ours; |x| from neurons is the task of Elhage et al. 2022 (Toy Models of Superposition), section 8.
    """

    feature_probability: object
    n_positions: int
    features: SparseUniform = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check the sizes, and make the law of a position."""
        object.__setattr__(self, "features", SparseUniform(self.feature_probability, signed=True))
        shape = tuple(self.features.feature_probability.shape)
        _checks.require(len(shape) == 1, "shape of feature_probability", shape, "[n_features]")
        _checks.whole("n_positions", self.n_positions, 2)

    @property
    def n_features(self) -> int:
        """Number of features of a position."""
        return self.features.n_features

    def sample(
        self, n: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> Float[Tensor, "n n_positions n_features"]:
        """Draw independent sequences; arguments as in `SparseFeatures.sample`."""
        drawn = self.features.sample(n * self.n_positions, generator=generator, dtype=dtype)
        return drawn.reshape(n, self.n_positions, self.n_features)

    def targets(
        self, x: Float[Tensor, "*batch n_positions n_features"]
    ) -> Float[Tensor, "*batch n_positions n_targets"]:
        """The magnitudes `y`, those of the position itself first."""
        size = x.abs()
        return torch.cat([size, _previous(size)], -1)

    def variables(
        self, x: Float[Tensor, "*batch n_positions n_features"]
    ) -> Float[Tensor, "*batch n_positions n_variables"]:
        """What a state at a position may hold of the features, less its mean at that position.

        These are `x_t`, `|x_t|`, `x_{t-1}` and `|x_{t-1}|` (0 before the first position), which are uncorrelated with
        each other and with the position.

        Returns:
            `n_features` of each kind, in the order of `KINDS`.
        """
        size = x.abs() - self._mean_size.to(x)
        return torch.cat([x, size, _previous(x), _previous(size)], -1)

    def losses(
        self,
        outputs: Float[Tensor, "*batch n_positions n_targets"],
        x: Float[Tensor, "*batch n_positions n_features"],
        importance: Float[Tensor, " n_features"],
    ) -> Float[Tensor, "*batch n_targets"]:
        """Weighted squared errors of a network's outputs for each sequence and target, meaned over positions."""
        weight = torch.cat([importance, importance]).to(outputs)
        return weight * (outputs - self.targets(x)).square().mean(-2)

    def own_losses(
        self,
        outputs: Float[Tensor, "*batch n_positions n_targets"],
        x: Float[Tensor, "*batch n_positions n_features"],
        importance: Float[Tensor, " n_features"],
    ) -> Float[Tensor, "*batch n_positions n_variables"]:
        """What the loss says of each variable at each position: errors about its own feature, wherever it is told.

        Of `x_t` and `|x_t|` that is at positions t and t + 1, of `x_{t-1}` and `|x_{t-1}|` at position t: all that a
        state at position t can still move. Variables of one feature share its errors: these are no parts of a sum.
        """
        weight = torch.cat([importance, importance]).to(outputs) / self.n_positions
        errors = weight * (outputs - self.targets(x)).square()
        here, before = errors[..., : self.n_features], errors[..., self.n_features :]
        both = here + functional.pad(before, (0, 0, 0, 1))[..., 1:, :]
        return torch.cat([both, both, before, before], -1)

    def ignored_loss(self, importance: object) -> Float[Tensor, " n_targets"]:
        """Exact least loss of each target for outputs that do not depend on the inputs, nor on the position.

            I_i (p_i / 3 - p_i² / 4),   I_i (r p_i / 3 - r² p_i² / 4),   r = (n_positions - 1) / n_positions

        Args:
            importance: `I` `[n_features]`.

        Returns:
            `[2 n_features]`, float64, in the order of the targets.

        Raises:
            ValueError: importances of another number.
        """
        weight = _checks.as_float64("importance", importance)
        _checks.require(weight.shape == (self.n_features,), "shape of importance", tuple(weight.shape), "[n_features]")
        second, mean = self.features.variance, self._mean_size
        r = (self.n_positions - 1) / self.n_positions
        return torch.cat([weight * (part * second - (part * mean).square()) for part in (1.0, r)])

    @property
    def _mean_size(self) -> Tensor:
        """`E|x|` of a feature."""
        return self.features.feature_probability / 2


def _previous(values: Tensor) -> Tensor:
    """What was one position before, 0 at the first."""
    return functional.pad(values, (0, 0, 1, 0))[..., :-1, :]
