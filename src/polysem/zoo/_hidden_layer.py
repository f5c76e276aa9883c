"""A model with one hidden layer, whose neurons are a privileged basis."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polysem.features import SparseFeatures
from polysem.zoo._activations import Activation
from polysem.zoo._hidden_objective import FACTORS, TARGET_DEGREES, HiddenLayerObjective
from polysem.zoo._model import initial_rows, no_exact_loss, require_independent
from polysem.zoo._neurons import NeuronModel


class HiddenLayerModel(NeuronModel):
    r"""A stack of models with one hidden layer of neurons.

        h = act(x W_in + b_in)        h = (x W_in + b_in) * (x W_gate) where activation="bilinear"
        x̂ = h W_out + b_out
        loss = Σ_j I_j (x̂_j - t(x_j))²

    The nonlinearity acts on the hidden layer, so that its neurons are a privileged basis:
    `measure.features_per_neuron(model.embedding)` counts what each answers to.

    Args:
        n_features: number of inputs and of outputs.
        d_hidden: number of neurons.
        n_inst: number of independent instances.
        activation: "identity", "relu", "gelu", "softplus", "abs", "square", "tanh", "solu" (without layer norm),
            "bilinear", a `TopK`, or any callable on `[..., d_hidden]`.
        target: what output j should be, "identity", "abs", "square", or an elementwise callable of `x_j`.
        generator: source of the random start; by default torch's global one.
        device: where the parameters live; by default where the generator does.
        dtype: of the parameters; float64 by default. Exact losses are computed in float64 whatever it is.

    Attributes:
        W_in: what features write, rows `[n_inst, n_features, d_hidden]`, normal with expected squared norm 1/4 at the
            start.
        b_in: biases of the neurons `[n_inst, d_hidden]`, 0 at the start.
        W_gate: the other factor `[n_inst, n_features, d_hidden]` where activation="bilinear", drawn like `W_in`; else
            None.
        W_out: what neurons write `[n_inst, d_hidden, n_features]`; its columns are drawn like the rows of `W_in`.
        b_out: biases of the outputs `[n_inst, n_features]`, 0 at the start.

    Raises:
        ValueError: a size that is not a whole number of at least 1, an unknown activation or target, a `TopK` of more
            neurons than there are.

    Example:
        `|x|` from two ReLU neurons:

        >>> import torch
        >>> from polysem.zoo import HiddenLayerModel
        >>> model = HiddenLayerModel(1, d_hidden=2, target="abs")
        >>> state = {"W_in": torch.tensor([[[1.0, -1.0]]]), "W_out": torch.ones(1, 2, 1)}
        >>> _ = model.load_state_dict(state, strict=False)
        >>> x = torch.tensor([-2.0, 0.5], dtype=torch.float64).reshape(2, 1, 1)
        >>> model(x).flatten().tolist(), model.per_sample_loss(x, [1.0]).flatten().tolist()
        ([2.0, 0.5], [0.0, 0.0])

    Source: Elhage et al. 2022, section 8 (|x| from a ReLU layer); gates, further targets and exact losses are ours.
    """

    W_in: nn.Parameter
    b_in: nn.Parameter
    W_gate: nn.Parameter | None
    W_out: nn.Parameter
    b_out: nn.Parameter

    def __init__(
        self,
        n_features: int,
        d_hidden: int,
        *,
        n_inst: int = 1,
        activation: str | Activation = "relu",
        target: str | Activation = "identity",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(n_features, d_hidden, n_inst, d_hidden, activation, target)

        def rows() -> nn.Parameter:
            return initial_rows(self.n_inst, self.n_features, self.d_hidden, generator, device, dtype)

        self.W_in = rows()
        self.W_gate = rows() if self.gated else None
        self.W_out = nn.Parameter(rows().detach().mT.contiguous())
        self.b_in = nn.Parameter(torch.zeros_like(self.W_in.detach()[:, 0]))
        self.b_out = nn.Parameter(torch.zeros_like(self.W_out.detach()[:, 0]))

    @property
    def embedding(self) -> Float[Tensor, "n_inst n_features d_hidden"]:
        """`W_in`; where activation="bilinear" the gate `W_gate` is not in it."""
        return self.W_in

    @property
    def readout(self) -> Float[Tensor, "n_inst n_features d_hidden"]:
        """`W_outᵀ`: the neurons that each output reads."""
        return self.W_out.mT

    def neurons(self, x: Float[Tensor, " n_samples #n_inst n_features"]) -> Float[Tensor, "n_samples n_inst d_hidden"]:
        """Activations `h` of the neurons for inputs `x`."""
        return self._neurons(x, self.W_in, self.b_in, self.W_gate)

    def forward(
        self, x: Float[Tensor, " n_samples #n_inst n_features"]
    ) -> Float[Tensor, "n_samples n_inst n_features"]:
        """Outputs `x̂` for inputs `x`; an instance axis of length 1 serves all instances."""
        return torch.einsum("sik,ikj->sij", self.neurons(x), self.W_out) + self.b_out

    def exact_loss(self, features: SparseFeatures, importance: object) -> Float[Tensor, " n_inst"]:
        """Expected loss of each instance in closed form, differentiable by the parameters.

        It exists for the activations "identity", "square" and "bilinear" with the targets "identity" and "square":
        the error is then a polynomial of degree two in independent inputs, of which four moments suffice.

        Args:
            features: independent inputs of shape `[n_features]` or `[n_inst, n_features]`.
            importance: `I` `[n_features]` or `[n_inst, n_features]`, none negative.

        Returns:
            Loss `[n_inst]`, float64.

        Raises:
            ValueError: another activation or target, features that depend on each other, a wrong shape, a negative
                importance.

        Example:
            >>> import torch
            >>> from polysem.features import SparseSign
            >>> from polysem.zoo import HiddenLayerModel
            >>> model = HiddenLayerModel(1, d_hidden=1, activation="square", target="square")
            >>> state = {"W_in": torch.ones(1, 1, 1), "W_out": torch.full((1, 1, 1), 0.5)}
            >>> _ = model.load_state_dict(state, strict=False)
            >>> model.exact_loss(SparseSign([0.2]), [1.0]).item()  # (x² / 2 - x²)² is 1/4 with chance 0.2
            0.05

        Source: ours.
        """
        objective = self.objective(features, importance)
        parts = {name: value.double() for name, value in self.named_parameters()}
        spread, mean = objective.errors(parts)
        return (objective.importance * (spread + (mean + parts["b_out"]).square())).sum(-1)

    def objective(self, features: SparseFeatures, importance: object) -> HiddenLayerObjective:
        """The exact loss over all parameters but `b_out`, that at its best value. Arguments as in `exact_loss`."""
        self.check_features(features)
        if self.activation not in FACTORS or self.target not in list(TARGET_DEGREES):
            raise no_exact_loss(self)
        require_independent(features)
        weight = self.importance_per_instance(importance)
        variance = features.variance
        third, fourth = features.skewness * variance.pow(1.5), features.kurtosis * variance.square()
        moments = (features.mean, variance, third, fourth)
        stacked = torch.stack([moment.to(weight).expand_as(weight) for moment in moments])
        return HiddenLayerObjective(weight, stacked, self.d_hidden, str(self.activation), str(self.target))
