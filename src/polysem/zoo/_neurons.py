"""What models with a nonlinearity on neurons share: activations, targets, the loss over outputs, one per feature."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks
from polysem.zoo._activations import ACTIVATIONS, Activation, as_function
from polysem.zoo._model import ToyModel

GATED = "bilinear"
TARGETS: dict[str, Activation] = {"identity": torch.positive, "abs": torch.abs, "square": torch.square}


def solu(z: Float[Tensor, "*batch n_neurons"]) -> Float[Tensor, "*batch n_neurons"]:
    """Softmax linear units `z_k exp(z_k) / Σ_l exp(z_l)`, without the layer norm that may follow them.

    Args:
        z: pre-activations; the softmax is over the last axis.

    Returns:
        Activations of the same shape.

    Example:
        >>> import torch
        >>> [round(h, 3) for h in solu(torch.tensor([1.0, 1.0, 0.0])).tolist()]
        [0.422, 0.422, 0.0]

    Source: Elhage et al. 2022 (Softmax Linear Units).
    """
    return z * z.softmax(-1)


NEURONS = ACTIVATIONS | {"solu": solu, GATED: torch.positive}
"""The activations that neurons know by name; those of gated ones act on one of two factors."""


@dataclass(frozen=True)
class TopK:
    """An activation that keeps the `k` largest pre-activations of a layer as they are and sets all others to 0.

    Attributes:
        k: how many neurons stay, at least 1.

    Raises:
        ValueError: a `k` that is not a whole number of at least 1, or more than there are neurons.

    Example:
        >>> import torch
        >>> from polysem.zoo import TopK
        >>> TopK(2)(torch.tensor([0.5, -3.0, 2.0])).tolist()
        [0.5, 0.0, 2.0]

    Source: Makhzani and Frey 2013 (k-sparse autoencoders).
    """

    k: int

    def __post_init__(self) -> None:
        """Check `k`."""
        _checks.whole("k", self.k)

    def __call__(self, z: Float[Tensor, "*batch n_neurons"]) -> Float[Tensor, "*batch n_neurons"]:
        """Activations of the same shape; ties go to one of the equals."""
        _checks.require(self.k <= z.shape[-1], "k", self.k, f"at most the number of neurons, {z.shape[-1]}")
        largest = z.topk(self.k, dim=-1)
        return torch.zeros_like(z).scatter(-1, largest.indices, largest.values)


class NeuronModel(ToyModel):
    r"""A stack of models that compute with neurons and have one output for each feature.

        loss = Σ_j I_j (x̂_j - t(x_j))²

    Args:
        n_features: number of inputs and of outputs.
        d_hidden: dimension in which features are embedded.
        n_inst: number of independent instances.
        n_neurons: number of neurons of a layer.
        activation: "identity", "relu", "gelu", "softplus", "abs", "square", "tanh", "solu", "bilinear" (a product of
            two linear maps), a `TopK`, or any callable on `[..., n_neurons]`.
        target: what output j should be, "identity", "abs", "square", or an elementwise callable of `x_j`.

    Raises:
        ValueError: a size that is not a whole number of at least 1, an unknown activation or target, a `TopK` of more
            neurons than there are.

    Source: ours.
    """

    def __init__(
        self,
        n_features: int,
        d_hidden: int,
        n_inst: int,
        n_neurons: int,
        activation: str | Activation,
        target: str | Activation,
    ) -> None:
        super().__init__(n_features, d_hidden, n_inst)
        self._act, self._target = as_function(activation, NEURONS), as_function(target, TARGETS, "target")
        self.activation, self.target = activation, target
        if isinstance(activation, TopK):
            _checks.require(activation.k <= n_neurons, "k", activation.k, f"at most the number of neurons, {n_neurons}")

    @property
    def gated(self) -> bool:
        """Whether neurons are products of two linear maps."""
        return self.activation == GATED

    @abstractmethod
    def forward(
        self, x: Float[Tensor, " n_samples #n_inst n_features"]
    ) -> Float[Tensor, "n_samples n_inst n_features"]:
        """Outputs `x̂` for inputs `x`; an instance axis of length 1 serves all instances."""

    def targets(
        self, x: Float[Tensor, " n_samples #n_inst n_features"]
    ) -> Float[Tensor, " n_samples #n_inst n_features"]:
        """What the outputs should be, `t(x_j)`."""
        return self._target(x)

    def unchecked_loss(
        self, x: Float[Tensor, " n_samples #n_inst n_features"], importance: Float[Tensor, "n_inst n_features"]
    ) -> Float[Tensor, "n_samples n_inst"]:
        """Loss `Σ_j I_j (x̂_j - t(x_j))²` of each instance on each sample."""
        error: Tensor = self(x) - self.targets(x)
        return (importance.to(x.dtype) * error.square()).sum(-1)

    def response(self) -> Float[Tensor, "n_inst n_features n_features"]:
        """How far output i moves per unit of feature j, where that does not depend on the inputs.

        Returns:
            `R_ij = x̂_i(e_j) - x̂_i(0)`.

        Raises:
            ValueError: an activation or a target that is not the identity; `sampled_response` serves those.
        """
        if (self.activation, self.target) != ("identity", "identity"):
            raise ValueError(
                f"activation and target must both be 'identity' for a response without inputs (sampled_response takes "
                f"them), got {self.activation!r} and {self.target!r}"
            )
        unit = torch.eye(self.n_features, dtype=self.embedding.dtype, device=self.embedding.device)[:, None]
        outputs: Tensor = self(unit) - self(torch.zeros_like(unit[:1]))
        return outputs.permute(1, 2, 0)

    def extra_repr(self) -> str:
        """Sizes, activation and target."""
        return f"{super().extra_repr()}, activation={self.activation!r}, target={self.target!r}"

    def _neurons(self, x: Tensor, W_in: Tensor, b_in: Tensor, W_gate: Tensor | None) -> Tensor:
        """`act(x W_in + b_in)`, or `(x W_in + b_in) * (x W_gate)` where the neurons are gated."""
        linear = torch.einsum("sid,idk->sik", x, W_in) + b_in
        return self._act(linear) if W_gate is None else linear * torch.einsum("sid,idk->sik", x, W_gate)
