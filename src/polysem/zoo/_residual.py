"""Residual blocks of neurons on one stream, for measurements layer by layer."""

from collections import OrderedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polysem import _checks
from polysem.zoo._activations import Activation, as_function
from polysem.zoo._model import initial_rows
from polysem.zoo._neurons import NeuronModel


class ResidualBlock(nn.Module):
    """One block of one residual network: `r + act(r W_in + b_in) W_out`.

    Attributes:
        W_in: `[d_hidden, d_mlp]`, what each neuron reads.
        b_in: biases of the neurons `[d_mlp]`.
        W_gate: the other factor of neurons that are products; else None.
        W_out: `[d_mlp, d_hidden]`, what each neuron writes.

    Source: ours.
    """

    def __init__(self, W_in: Tensor, b_in: Tensor, W_gate: Tensor | None, W_out: Tensor, act: Activation) -> None:
        super().__init__()
        self.W_in, self.b_in, self.W_out = nn.Parameter(W_in), nn.Parameter(b_in), nn.Parameter(W_out)
        self.W_gate = None if W_gate is None else nn.Parameter(W_gate)
        self._act = act

    def forward(self, r: Float[Tensor, "*batch d_hidden"]) -> Float[Tensor, "*batch d_hidden"]:
        """The stream after the block."""
        linear = r @ self.W_in + self.b_in
        neurons = self._act(linear) if self.W_gate is None else linear * (r @ self.W_gate)
        return r + neurons @ self.W_out


class Elementwise(nn.Module):
    """An activation as a module.

    Source: ours.
    """

    def __init__(self, act: Activation) -> None:
        super().__init__()
        self._act = act

    def forward(self, z: Float[Tensor, "*batch n_features"]) -> Float[Tensor, "*batch n_features"]:
        """Activations of the same shape."""
        return self._act(z)


class ResidualMLP(NeuronModel):
    r"""A stack of residual networks: features are embedded in a stream, to which every block adds, and read from it.

        r = x W_E
        r ← r + act(r W_in + b_in) W_out        for each layer; r + ((r W_in + b_in) * (r W_gate)) W_out if "bilinear"
        x̂ = r W_U                                      act_out(r W_U + b_out) where output is not "identity"
        loss = Σ_j I_j (x̂_j - t(x_j))²

    Its expected loss is sampled: there is no closed form.

    Args:
        n_features: number of inputs and of outputs.
        d_hidden: dimension of the residual stream.
        n_layers: number of blocks.
        d_mlp: neurons of each block.
        n_inst: number of independent instances.
        activation: as in `HiddenLayerModel`.
        target: what output j should be, "identity", "abs", "square", or an elementwise callable of `x_j`.
        output: activation of the outputs, "identity", "relu", "gelu", "softplus", "abs", "square", "tanh", or any
            elementwise callable. Without one the outputs of all samples lie in `d_hidden` dimensions.
        train_embedding: whether `W_E` is a parameter; otherwise it stays as drawn (a buffer).
        generator: source of the random start; by default torch's global one.
        device: where the parameters live; by default where the generator does.
        dtype: of the parameters; float64 by default.

    Attributes:
        W_E: embedding rows `[n_inst, n_features, d_hidden]`, of norm 1 and random direction at the start.
        W_in: `[n_inst, n_layers, d_hidden, d_mlp]`, what each neuron reads, of expected squared norm 1/4 at the start.
        b_in: biases of the neurons `[n_inst, n_layers, d_mlp]`, 0 at the start.
        W_gate: the other factor where activation="bilinear", drawn like `W_in`; else None.
        W_out: `[n_inst, n_layers, d_mlp, d_hidden]`, what each neuron writes, drawn like `W_in`.
        W_U: `[n_inst, d_hidden, n_features]`, `W_Eᵀ` at the start.
        b_out: biases of the outputs `[n_inst, n_features]`, 0 at the start; None where output is "identity".

    Raises:
        ValueError: a size that is not a whole number of at least 1, an unknown activation, target or output, a `TopK`
            of more neurons than there are.

    Example:
        >>> import torch
        >>> from polysem.zoo import ResidualMLP
        >>> model = ResidualMLP(3, 2, n_layers=4, d_mlp=5, target="abs", generator=torch.Generator().manual_seed(0))
        >>> x = torch.eye(3, dtype=torch.float64)[:, None]
        >>> streams = model.streams(x)
        >>> len(streams), streams[0].shape, bool((streams[0][:, 0] == model.W_E[0]).all())
        (5, torch.Size([3, 1, 2]), True)

    Source: residual MLPs as toy models of computation in superposition; this form is ours.
    """

    W_E: Tensor
    W_in: nn.Parameter
    b_in: nn.Parameter
    W_gate: nn.Parameter | None
    W_out: nn.Parameter
    W_U: nn.Parameter
    b_out: nn.Parameter | None

    def __init__(
        self,
        n_features: int,
        d_hidden: int,
        *,
        n_layers: int,
        d_mlp: int,
        n_inst: int = 1,
        activation: str | Activation = "relu",
        target: str | Activation = "identity",
        output: str | Activation = "identity",
        train_embedding: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        d_mlp = _checks.whole("d_mlp", d_mlp)
        super().__init__(n_features, d_hidden, n_inst, d_mlp, activation, target)
        self.n_layers, self.d_mlp = _checks.whole("n_layers", n_layers), d_mlp
        self.output, self._act_out = output, as_function(output, argument="output")

        def rows(per_instance: int) -> Tensor:
            return initial_rows(self.n_inst, per_instance, self.d_hidden, generator, device, dtype).detach()

        def blocks() -> Tensor:
            return rows(self.n_layers * d_mlp).reshape(self.n_inst, self.n_layers, d_mlp, self.d_hidden)

        W_E = nn.functional.normalize(rows(self.n_features), dim=-1)
        if train_embedding:
            self.W_E = nn.Parameter(W_E)
        else:
            self.register_buffer("W_E", W_E)
        self.W_U = nn.Parameter(W_E.mT.contiguous())
        self.W_in = nn.Parameter(blocks().mT.contiguous())
        self.W_gate = nn.Parameter(blocks().mT.contiguous()) if self.gated else None
        self.W_out = nn.Parameter(blocks())
        self.b_in = nn.Parameter(torch.zeros_like(self.W_out.detach()[..., 0]))
        self.b_out = None if output == "identity" else nn.Parameter(torch.zeros_like(W_E[..., 0]))

    @property
    def embedding(self) -> Float[Tensor, "n_inst n_features d_hidden"]:
        """`W_E`."""
        return self.W_E

    @property
    def readout(self) -> Float[Tensor, "n_inst n_features d_hidden"]:
        """`W_Uᵀ`: the directions of the last residual stream that outputs read."""
        return self.W_U.mT

    def streams(
        self, x: Float[Tensor, " n_samples #n_inst n_features"]
    ) -> list[Float[Tensor, "n_samples n_inst d_hidden"]]:
        """The residual stream as embedded, and after each block: `n_layers + 1` states."""
        states = [torch.einsum("sif,ifd->sid", x, self.W_E)]
        for layer in range(self.n_layers):
            gate = None if self.W_gate is None else self.W_gate[:, layer]
            h = self._neurons(states[-1], self.W_in[:, layer], self.b_in[:, layer], gate)
            states.append(states[-1] + torch.einsum("sik,ikd->sid", h, self.W_out[:, layer]))
        return states

    def forward(
        self, x: Float[Tensor, " n_samples #n_inst n_features"]
    ) -> Float[Tensor, "n_samples n_inst n_features"]:
        """Outputs `x̂` for inputs `x`; an instance axis of length 1 serves all instances."""
        z = torch.einsum("sid,idf->sif", self.streams(x)[-1], self.W_U)
        return self.outputs(z)

    def outputs(self, z: Float[Tensor, "n_samples n_inst n_features"]) -> Float[Tensor, "n_samples n_inst n_features"]:
        """Outputs from what `W_U` reads."""
        return self._act_out(z if self.b_out is None else z + self.b_out)

    def response(self) -> Float[Tensor, "n_inst n_features n_features"]:
        """As `NeuronModel.response`, where output is "identity" too; else a ValueError."""
        allowed = "'identity' for a response without inputs (sampled_response takes others)"
        _checks.require(self.output == "identity", "output", self.output, allowed)
        return super().response()

    def network(self, instance: int = 0) -> nn.Sequential:
        """A copy of one instance as a plain network, whose submodules return the residual streams.

        Args:
            instance: which one, from 0.

        Returns:
            "embed", whose output is `streams(x)[0]` of the instance; "block_1", ..., "block_{n_layers}", whose outputs
            are the streams after each block; "outputs", with weight `W_Uᵀ` and bias `b_out`; and "act" where there is
            one. It takes `x` `[..., n_features]`.

        Raises:
            ValueError: an instance that there is not.

        Example:
            >>> from polysem.zoo import ResidualMLP
            >>> list(dict(ResidualMLP(3, 2, n_layers=2, d_mlp=5).network().named_children()))
            ['embed', 'block_1', 'block_2', 'outputs']
        """
        there = _checks.whole("instance", instance, 0) < self.n_inst
        _checks.require(there, "instance", instance, f"below n_inst = {self.n_inst}")
        at = {name: value.detach()[instance].clone() for name, value in self.state_dict().items()}
        parts: OrderedDict[str, nn.Module] = OrderedDict(embed=_linear(at["W_E"].mT))
        for layer in range(self.n_layers):
            gate = at["W_gate"][layer] if self.gated else None
            block = ResidualBlock(at["W_in"][layer], at["b_in"][layer], gate, at["W_out"][layer], self._act)
            parts[f"block_{layer + 1}"] = block
        parts["outputs"] = _linear(at["W_U"].mT, at.get("b_out"))
        if self.b_out is not None:
            parts["act"] = Elementwise(self._act_out)
        return nn.Sequential(parts)

    def extra_repr(self) -> str:
        """Sizes, activation, target and output."""
        shown = f"{super().extra_repr()}, n_layers={self.n_layers}, d_mlp={self.d_mlp}"
        return shown if self.output == "identity" else f"{shown}, output={self.output!r}"


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    n_in, n_out = weight.mT.shape
    made = nn.Linear(n_in, n_out, bias=False, device="meta")
    made.weight = nn.Parameter(weight.contiguous())
    if bias is not None:
        made.bias = nn.Parameter(bias)
    return made
