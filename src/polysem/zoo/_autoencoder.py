"""Autoencoders, linear up to the activation of their outputs: tied, or with a readout of their own."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polysem.features import SparseFeatures, SparseGaussian, SparseUniform
from polysem.zoo._activations import SLOPES, Activation, as_function
from polysem.zoo._autoencoder_objective import AutoencoderObjective, differentiable_loss
from polysem.zoo._exact import ExactPart, draw_gaussian_losses, draw_uniform, exact_part
from polysem.zoo._model import PartialLoss, ToyModel, initial_rows


class Autoencoder(ToyModel):
    """What tied and untied autoencoders share: `x̂ = act(x W Vᵀ + b)` and its losses, for rows `W` and readout `V`."""

    W: nn.Parameter
    b: nn.Parameter
    tied: ClassVar[bool]

    def __init__(
        self,
        n_features: int,
        d_hidden: int,
        *,
        n_inst: int = 1,
        activation: str | Activation = "relu",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(n_features, d_hidden, n_inst)
        self._act = as_function(activation)
        self.activation = activation
        self.W = initial_rows(self.n_inst, self.n_features, self.d_hidden, generator, device, dtype)
        self.b = nn.Parameter(torch.zeros_like(self.W.detach()[:, :, 0]))

    @property
    def embedding(self) -> Float[Tensor, "n_inst n_features d_hidden"]:
        """`W`."""
        return self.W

    def forward(
        self, x: Float[Tensor, " n_samples #n_inst n_features"]
    ) -> Float[Tensor, "n_samples n_inst n_features"]:
        """Outputs `x̂` for inputs `x`; an instance axis of length 1 serves all instances."""
        hidden = torch.einsum("sif,ifd->sid", x.expand(-1, self.n_inst, -1), self.W)
        return self._act(torch.einsum("sid,ifd->sif", hidden, self.readout) + self.b)

    def exact_loss(self, features: SparseFeatures, importance: object) -> Float[Tensor, " n_inst"]:
        """Expected loss `Σ_j I_j E (x̂_j - x_j)²` of each instance in closed form, differentiable twice.

        Identity and square: from moments, for all features. ReLU and abs: `SparseUniform` (signed or raw) for up to
        three features, `SparseGaussian` for up to ten, over all sets of active features.

        Args:
            features: inputs of shape `[n_features]` or `[n_inst, n_features]`.
            importance: `I` `[n_features]` or `[n_inst, n_features]`, none negative.

        Returns:
            Loss `[n_inst]`, float64.

        Raises:
            ValueError: an activation or features without a closed form, a wrong shape, a negative importance.

        Source: ours.
        """
        parameters = [self.W, self.b] if self.tied else [self.W, self.readout, self.b]
        theta = torch.cat([parameter.double().flatten(1) for parameter in parameters], -1)
        return differentiable_loss(self.objective(features, importance), theta)

    def partial_loss(self, features: SparseFeatures, importance: object) -> PartialLoss | None:
        """The exact loss over inputs with up to two active features, where those with more have none."""
        part = self._exact_part(features)
        if part.rest is None:
            return None
        G, b, rest = self.response().double(), self.b.double(), part.rest
        weight = self.importance_per_instance(importance)

        def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            if isinstance(features, SparseUniform):
                x = draw_uniform(features, n, generator).to(self.W)
                losses = self.per_sample_loss(x if x.ndim == 3 else x[:, None], importance)
            else:
                assert isinstance(features, SparseGaussian)
                slopes = SLOPES[str(self.activation)]
                losses = (draw_gaussian_losses(slopes, features, G, b, n, generator) * weight).sum(-1)
            return losses.double(), rest

        return PartialLoss((weight * part.outputs.value(G, b)).sum(-1), draw)

    def unchecked_loss(
        self, x: Float[Tensor, " n_samples #n_inst n_features"], importance: Float[Tensor, "n_inst n_features"]
    ) -> Float[Tensor, "n_samples n_inst"]:
        """Loss `Σ_j I_j (x̂_j - x_j)²` of each instance on each sample."""
        error: Tensor = self(x) - x
        return (importance.to(x.dtype) * error.square()).sum(-1)

    def objective(self, features: SparseFeatures, importance: object) -> AutoencoderObjective:
        """The exact loss over all parameters. Arguments as in `exact_loss`."""
        part = self._exact_part(features)
        if part.rest is not None:
            raise ValueError(
                f"features must be at most 3 of SparseUniform or 10 of SparseGaussian for an exact loss of activation "
                f'"{self.activation}" (expected_loss with n_samples draws the rest; pass FitConfig(loss="sampled") '
                f"to fit), got {self.n_features} of {type(features).__name__}"
            )
        return AutoencoderObjective(part.outputs, self.importance_per_instance(importance), self.d_hidden, self.tied)

    def _exact_part(self, features: SparseFeatures) -> ExactPart:
        self.check_features(features)
        return exact_part(self.activation, features, self.n_inst, self.W.device)


class TiedAutoencoder(Autoencoder):
    r"""A stack of autoencoders that read every feature along the row that embeds it.

        x̂ = act(x W Wᵀ + b)
        loss = Σ_j I_j (x̂_j - x_j)²

    Args:
        n_features: number of inputs.
        d_hidden: embedding dimension.
        n_inst: number of independent instances.
        activation: "identity", "relu", "gelu", "softplus", "abs", "square", "tanh", or an elementwise callable.
        generator: source of the random start; by default torch's global one.
        device: where the parameters live; by default where the generator does.
        dtype: of the parameters; float64 by default. Exact losses are computed in float64 whatever it is.

    Attributes:
        W: rows `[n_inst, n_features, d_hidden]`, normal with expected squared norm 1/4 at the start.
        b: biases `[n_inst, n_features]`, 0 at the start.

    Raises:
        ValueError: a size that is not a whole number of at least 1, an unknown activation.

    Example:
        >>> import torch
        >>> from polysem.features import SparseUniform
        >>> from polysem.zoo import TiedAutoencoder, expected_loss
        >>> pair = TiedAutoencoder(2, d_hidden=1)  # an antipodal pair
        >>> state = {"W": torch.tensor([[[1.0], [-1.0]]]), "b": torch.zeros(1, 2)}
        >>> _ = pair.load_state_dict(state)
        >>> round(expected_loss(pair, SparseUniform([0.1, 0.1]), [1.0, 1.0]).value.item(), 9)
        0.003333333

    Source: Elhage et al. 2022, section 2 (ReLU); its exact losses are ours.
    """

    tied = True

    @property
    def readout(self) -> Float[Tensor, "n_inst n_features d_hidden"]:
        """`W`: what is embedded along a row is read along it."""
        return self.W


class UntiedAutoencoder(Autoencoder):
    r"""A stack of autoencoders that read features along rows of their own.

        x̂ = act(x W Vᵀ + b)
        loss = Σ_j I_j (x̂_j - x_j)²

    Arguments as in `TiedAutoencoder`.

    Attributes:
        W: embedding rows `[n_inst, n_features, d_hidden]`, normal with expected squared norm 1/4 at the start.
        V: readout rows `[n_inst, n_features, d_hidden]`, drawn like `W`.
        b: biases `[n_inst, n_features]`, 0 at the start.

    Example:
        >>> import torch
        >>> from polysem.zoo import UntiedAutoencoder
        >>> model = UntiedAutoencoder(3, 2, n_inst=4, activation="tanh", generator=torch.Generator().manual_seed(0))
        >>> sorted(model.state_dict()), model.response().shape
        (['V', 'W', 'b'], torch.Size([4, 3, 3]))

    Source: ours.
    """

    V: nn.Parameter
    tied = False

    def __init__(
        self,
        n_features: int,
        d_hidden: int,
        *,
        n_inst: int = 1,
        activation: str | Activation = "relu",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            n_features,
            d_hidden,
            n_inst=n_inst,
            activation=activation,
            generator=generator,
            device=device,
            dtype=dtype,
        )
        self.V = initial_rows(self.n_inst, self.n_features, self.d_hidden, generator, device, dtype)

    @property
    def readout(self) -> Float[Tensor, "n_inst n_features d_hidden"]:
        """`V`."""
        return self.V
