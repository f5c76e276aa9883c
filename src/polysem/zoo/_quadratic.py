"""The quadratic model of the capacity paper, and its exact loss with gradient and Hessian."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from polysem.features import SparseFeatures
from polysem.zoo._model import ToyModel, initial_rows, require_independent


class QuadraticModel(ToyModel):
    r"""A stack of quadratic models, which embed their inputs and add up the squares.

        y = Σ_i v_i x_i²          target
        ŷ = Σ_d (x · W_{:,d})² + b

    Args:
        n_features: number of inputs `N`.
        d_hidden: embedding dimension `D`.
        n_inst: number of independent instances.
        generator: source of the random start; by default torch's global one.
        device: where the parameters live; by default where the generator does.
        dtype: of the parameters; float64 by default. Exact losses are computed in float64 whatever it is.

    Attributes:
        W: rows `[n_inst, n_features, d_hidden]`, normal with expected squared norm 1/4 at the start.
        b: offsets `[n_inst]`, 0 at the start.

    Raises:
        ValueError: a size that is not a whole number of at least 1.

    Example:
        >>> import torch
        >>> from polysem.zoo import QuadraticModel
        >>> model = QuadraticModel(3, d_hidden=2, n_inst=4, generator=torch.Generator().manual_seed(0))
        >>> model.response().shape, model(torch.ones(5, 1, 3, dtype=torch.float64)).shape
        (torch.Size([4, 3, 3]), torch.Size([5, 4]))

    Source: Scherlis et al. 2022, section 2.
    """

    W: nn.Parameter
    b: nn.Parameter

    def __init__(
        self,
        n_features: int,
        d_hidden: int,
        *,
        n_inst: int = 1,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(n_features, d_hidden, n_inst)
        self.W = initial_rows(self.n_inst, self.n_features, self.d_hidden, generator, device, dtype)
        self.b = nn.Parameter(torch.zeros_like(self.W.detach()[:, 0, 0]))

    @property
    def embedding(self) -> Float[Tensor, "n_inst n_features d_hidden"]:
        """`W`."""
        return self.W

    @property
    def readout(self) -> Float[Tensor, "n_inst n_features d_hidden"]:
        """`W`: what is embedded along a row is read along it."""
        return self.W

    def forward(self, x: Float[Tensor, " n_samples #n_inst n_features"]) -> Float[Tensor, "n_samples n_inst"]:
        """Outputs `ŷ` for inputs `x`; an instance axis of length 1 serves all instances."""
        return torch.einsum("sif,ifd->sid", x, self.W).square().sum(-1) + self.b

    def exact_loss(self, features: SparseFeatures, importance: object) -> Float[Tensor, " n_inst"]:
        """Expected squared error of each instance in closed form, differentiable by `W` and `b`.

            E (y - ŷ)² = Σ_i (F_i - 1)(v_i - a_i)² + 2 Σ_{i≠j} (W_i·W_j)² + (Σ_i (v_i - a_i) - b)²

        with `a_i = |W_i|²` and kurtosis `F_i`; the last term is 0 at the best `b`.

        Args:
            features: inputs of mean 0 and variance 1, of shape `[n_features]` or `[n_inst, n_features]`.
            importance: coefficients `v` `[n_features]` or `[n_inst, n_features]`, none negative.

        Returns:
            Loss `[n_inst]`, float64.

        Raises:
            ValueError: features with another mean or variance, a wrong shape, a negative importance.

        Source: ours; the loss of Scherlis et al. 2022, section 2, from independence alone.
        """
        objective = self.objective(features, importance)
        W, b = self.W.double(), self.b.double()
        missing = (objective.importance - W.square().sum(-1)).sum(-1)
        return objective.loss(W.flatten(1)) + (missing - b).square()

    def unchecked_loss(
        self, x: Float[Tensor, " n_samples #n_inst n_features"], importance: Float[Tensor, "n_inst n_features"]
    ) -> Float[Tensor, "n_samples n_inst"]:
        """Squared error `(y - ŷ)²` of each instance on each sample."""
        error: Tensor = torch.einsum("sif,if->si", x.square(), importance.to(x.dtype)) - self(x)
        return error.square()

    def objective(self, features: SparseFeatures, importance: object) -> "QuadraticObjective":
        """The exact loss over the entries of `W`, `b` at its best value. Arguments as in `exact_loss`."""
        self.check_features(features)
        require_independent(features)
        v = self.importance_per_instance(importance)
        centred = bool((features.mean.abs() <= 1e-12).all())
        scaled = bool(((features.variance - 1).abs() <= 1e-12).all())
        if not (centred and scaled):
            raise ValueError(
                "features must have mean 0 and variance 1 for the exact loss (pass standardise=True), got "
                f"mean up to {features.mean.abs().max():.3g} and variance {features.variance.min():.3g} to "
                f"{features.variance.max():.3g}"
            )
        return QuadraticObjective(v, features.kurtosis.to(v.device).expand_as(v), self.d_hidden)


@dataclass(frozen=True)
class QuadraticObjective:
    r"""The exact loss of quadratic models at the best `b`, over the flattened rows `[n_inst, N·D]` of `W`.

        L(W) = Σ_i (F_i - 1)(v_i - a_i)² + 2 Σ_{i≠j} (W_i·W_j)²

    Attributes:
        importance: `v`, float64.
        kurtosis: `F`, float64.
        d_hidden: embedding dimension `D`.

    Source: ours.
    """

    importance: Float[Tensor, "n_inst n_features"]
    kurtosis: Float[Tensor, "n_inst n_features"]
    d_hidden: int

    def loss(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, " n_inst"]:
        """`L(W)`; the interference is summed from the Gram matrix, so that small losses keep their digits."""
        W, a, miss = self._parts(theta)
        gram = W @ W.mT
        others = gram - torch.diag_embed(a)
        return ((self.kurtosis - 1) * miss.square()).sum(-1) + 2 * others.square().sum((-2, -1))

    def gradient(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, "n_inst n_parameters"]:
        """`∂L/∂W = -4 diag((F - 1)(v - a)) W + 8 (W M - diag(a) W)`."""
        W, a, miss = self._parts(theta)
        own = -4 * (self.kurtosis - 1) * miss - 8 * a
        return (8 * W @ (W.mT @ W) + own[..., None] * W).flatten(1)

    def hessian(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, "n_inst n_parameters n_parameters"]:
        r"""Second derivatives `H[(i,α),(j,β)]`.

        8 [W_iβ W_jα + δ_ij M_αβ + δ_αβ G_ij] + δ_ij δ_αβ [-4 (F_i-1)(v_i-a_i) - 8 a_i]
            + δ_ij W_iα W_iβ [8 (F_i-1) - 16]
        """
        W, a, miss = self._parts(theta)
        excess = self.kurtosis - 1
        H = 8 * torch.einsum("nib,nja->niajb", W, W)
        same_feature = H.diagonal(dim1=1, dim2=3)  # a view [n, α, β, i]
        same_feature += 8 * (W.mT @ W)[..., None]
        same_feature += torch.einsum("ni,nia,nib->nabi", 8 * excess - 16, W, W)
        H.diagonal(dim1=2, dim2=4).add_(8 * (W @ W.mT)[..., None])
        same_feature.diagonal(dim1=1, dim2=2).add_((-4 * excess * miss - 8 * a)[..., None])
        return H.reshape(*theta.shape, theta.shape[-1])

    def select(self, instances: Int[Tensor, " n_selected"]) -> "QuadraticObjective":
        """The objective of the chosen instances alone."""
        return QuadraticObjective(self.importance[instances], self.kurtosis[instances], self.d_hidden)

    def pack(self, state: dict[str, Tensor]) -> Float[Tensor, "n_inst n_parameters"]:
        """The entries of `W` in float64."""
        return state["W"].double().flatten(1)

    def unpack(self, theta: Float[Tensor, "n_inst n_parameters"]) -> dict[str, Tensor]:
        """`W`, and the best `b = Σ_i (v_i - a_i)`."""
        W, _, miss = self._parts(theta)
        return {"W": W, "b": miss.sum(-1)}

    def _parts(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        W = theta.reshape(len(theta), -1, self.d_hidden)
        a = W.square().sum(-1)
        return W, a, self.importance - a
