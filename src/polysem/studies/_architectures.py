"""The architectures that are compared: how each is built and trained, what its inputs are, what it does with them."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks
from polysem.features import SparseUniform
from polysem.measure import response_capacity
from polysem.training import FitConfig
from polysem.zoo import (
    HiddenLayerModel,
    NeuronModel,
    QuadraticModel,
    ResidualMLP,
    TiedAutoencoder,
    TopK,
    ToyModel,
    UntiedAutoencoder,
    sampled_response,
)

OUTPUTS = ("identity", "relu", "gelu", "softplus", "abs", "square", "tanh")
NEURONS = ("relu", "gelu", "square", "bilinear", "solu", "topk")
RESIDUAL = ("relu", "gelu", "bilinear")
CLOSED_FORM = ("identity", "square")
RESPONSE_SAMPLES = 20_000


@dataclass(frozen=True)
class Architecture:
    """One kind of network, for any number of features and dimensions.

    Attributes:
        family: "quadratic", "tied" or "untied" autoencoder, "hidden" layer, "residual" network of two blocks.
        activation: of the outputs of autoencoders, of the neurons of the others; "square" for the quadratic model.
            "topk" keeps half of the neurons.
        target: what output i should be: `x_i`, `|x_i|` or `x_i²`. The quadratic model has one output, `Σ_i v_i x_i²`.
    """

    family: Literal["quadratic", "tied", "untied", "hidden", "residual"]
    activation: str
    target: Literal["identity", "abs", "square"] = "identity"

    @property
    def name(self) -> str:
        """What the comparison calls it: "tied relu", "hidden gelu |x|", ..."""
        shown = {"identity": "", "abs": " |x|", "square": " x²"}[self.target]
        return "quadratic" if self.family == "quadratic" else f"{self.family} {self.activation}{shown}"

    @property
    def exact(self) -> bool:
        """Whether it is trained on its exact loss: where that has a closed form, and a quick one."""
        closed = self.family in ("tied", "untied") and self.activation in CLOSED_FORM
        return self.family == "quadratic" or closed

    def features(self, p: Float[Tensor, "*n_inst n_features"]) -> SparseUniform:
        """Its inputs: uniform on [0, 1] for the target `x`, else signed; of variance 1 for the quadratic model."""
        return SparseUniform(p, signed=self.target != "identity", standardise=self.family == "quadratic")

    def model(self, n_features: int, d_hidden: int, n_inst: int, generator: torch.Generator) -> ToyModel:
        """A stack at a random start, float32 where its loss is sampled."""
        dtype = torch.float64 if self.exact else torch.float32
        if self.family == "quadratic":
            return QuadraticModel(n_features, d_hidden, n_inst=n_inst, generator=generator, dtype=dtype)
        if self.family in ("tied", "untied"):
            family = TiedAutoencoder if self.family == "tied" else UntiedAutoencoder
            return family(
                n_features, d_hidden, n_inst=n_inst, activation=self.activation, generator=generator, dtype=dtype
            )
        activation = TopK(max(1, d_hidden // 2)) if self.activation == "topk" else self.activation
        if self.family == "hidden":
            return HiddenLayerModel(
                n_features,
                d_hidden,
                n_inst=n_inst,
                activation=activation,
                target=self.target,
                generator=generator,
                dtype=dtype,
            )
        return ResidualMLP(
            n_features,
            d_hidden,
            n_layers=2,
            d_mlp=d_hidden,
            n_inst=n_inst,
            activation=activation,
            target=self.target,
            generator=generator,
            dtype=dtype,
        )

    def fit_config(self, adam_steps: int, batch_size: int) -> FitConfig:
        """How it is trained."""
        if self.exact:
            return FitConfig(adam_steps=300, polish="newton" if self.family == "quadratic" else "lbfgs")
        return FitConfig(
            loss="sampled", stratified=True, adam_steps=adam_steps, batch_size=batch_size, learning_rate=0.03
        )

    def importance(self, importance: Float[Tensor, "*batch n_features"]) -> Float[Tensor, "*batch n_features"]:
        """What its loss takes for importances `I`: the quadratic model's goes with `v²`, so `v = √I`."""
        return importance.sqrt() if self.family == "quadratic" else importance

    def target_variance(self, features: SparseUniform) -> Float[Tensor, "*n_inst n_features"]:
        """`Var t(x_i)`, the loss per importance of a feature that is ignored."""
        if self.target == "identity":
            return features.variance
        if self.target == "abs":
            return SparseUniform(features.feature_probability).variance
        return (features.kurtosis - 1) * features.variance.square()

    def capacity(
        self, model: ToyModel, features: SparseUniform, generator: torch.Generator
    ) -> tuple[Float[Tensor, "n_inst n_features"], Float[Tensor, "n_inst n_features"]]:
        """Capacity of every feature, and the square root of its response to itself (`|W_i|` where weights are tied).

            C_i = R_ii² / Σ_j R_ij²

        `R = readout embeddingᵀ` where that is linear up to the output's activation; for neurons
        `R_ij = Cov(x̂_i, t(x_j)) / Var t(x_j)` over samples.
        """
        if isinstance(model, NeuronModel):
            R = sampled_response(model, features, n_samples=RESPONSE_SAMPLES, generator=generator).value
        else:
            R = model.response().detach()
        one = torch.eye(R.shape[-1], dtype=R.dtype).expand_as(R)
        return response_capacity(one, R).double(), R.diagonal(dim1=-2, dim2=-1).abs().sqrt().double()


ARCHITECTURES: dict[str, Architecture] = {
    one.name: one
    for one in (
        Architecture("quadratic", "square", "square"),
        *(Architecture("tied", activation) for activation in OUTPUTS),
        *(Architecture("untied", activation) for activation in OUTPUTS),
        *(
            Architecture("hidden", activation, target)
            for target in ("identity", "abs", "square")
            for activation in NEURONS
        ),
        *(Architecture("residual", activation, "abs") for activation in RESIDUAL),
    )
}
"""Every architecture of the zoo that is compared, by name."""


def architecture(name: str) -> Architecture:
    """The architecture of this name; a ValueError that lists the names for any other."""
    _checks.require(name in ARCHITECTURES, "architecture", name, " or ".join(f'"{known}"' for known in ARCHITECTURES))
    return ARCHITECTURES[name]
