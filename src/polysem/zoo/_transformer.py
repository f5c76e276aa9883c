"""A small causal transformer on sequences of features, with a name for every place where it can be read."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polysem import _checks
from polysem.zoo._activations import Activation, as_function
from polysem.zoo._neurons import GATED, NEURONS

SOLU = "solu"
SHARP = 4.0
"""How much larger than others the input weights of SoLU start: between small numbers its softmax would not choose."""


class _Weights:
    """Draws weights in float64, on the generator's device."""

    def __init__(
        self, generator: torch.Generator | None, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        source = torch.device("cpu") if generator is None else generator.device
        self._generator, self._source = generator, source
        self._device, self._dtype = (source if device is None else device), dtype or torch.float64

    def directions(self, *shape: int) -> nn.Parameter:
        return self.given(nn.functional.normalize(self._draw(shape), dim=-1))

    def normal(self, *shape: int, variance: float) -> nn.Parameter:
        return self.given(self._draw(shape) * variance**0.5)

    def given(self, values: Tensor) -> nn.Parameter:
        return nn.Parameter(values.to(device=self._device, dtype=self._dtype))

    def _draw(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self._generator, dtype=torch.float64, device=self._source)


class CausalAttention(nn.Module):
    r"""Attention of several heads, in which no position sees a later one.

        A_h = softmax(mask(u W_Q (u W_K)ᵀ / √d_head)),   Σ_h A_h u W_V W_O

    Without biases: those of queries are all that would change the pattern, and positional embeddings serve as them.

    Attributes:
        W_Q, W_K, W_V: `[n_heads, d_model, d_head]`.
        W_O: `[n_heads, d_head, d_model]`.
        hook_pattern: passes `A` `[n_samples, n_heads, n_positions, n_positions]` on; rows are queries.
    """

    def __init__(self, d_model: int, n_heads: int, depth: int, weights: _Weights) -> None:
        super().__init__()
        d_head = d_model // n_heads
        self.W_Q, self.W_K, self.W_V = (weights.normal(n_heads, d_model, d_head, variance=1 / d_model) for _ in "QKV")
        self.W_O = weights.normal(n_heads, d_head, d_model, variance=1 / (depth * d_model))
        self.hook_pattern = nn.Identity()

    def forward(
        self, u: Float[Tensor, "n_samples n_positions d_model"]
    ) -> Float[Tensor, "n_samples n_positions d_model"]:
        """What the heads together write to each position."""
        q, k, v = (self._per_head(u, W) for W in (self.W_Q, self.W_K, self.W_V))
        later = torch.ones(2 * u.shape[1:2], dtype=torch.bool, device=u.device).triu(1)
        scores = (q @ k.mT / self.W_Q.shape[-1] ** 0.5).masked_fill(later, -torch.inf)
        z = self.hook_pattern(scores.softmax(-1)) @ v
        written: Tensor = z.transpose(1, 2).flatten(2) @ self.W_O.flatten(0, 1)
        return written

    @staticmethod
    def _per_head(u: Tensor, W: Tensor) -> Tensor:
        """`u W` of each head, `[n_samples, n_heads, n_positions, d_head]`: one product for all heads is faster."""
        together = u @ W.transpose(0, 1).flatten(1)
        return together.reshape(*u.shape[:-1], *W.shape[::2]).transpose(1, 2)


class Neurons(nn.Module):
    r"""The MLP of a block.

        n = act(u W_in + b_in)                  "solu": n = LayerNorm(z softmax(z)), z = u W_in + b_in
        n = (u W_in + b_in) * (u W_gate)        "bilinear"
        n W_out

    Attributes:
        W_in: `[d_model, d_mlp]`.
        b_in: `[d_mlp]`.
        W_gate: `[d_model, d_mlp]` where activation="bilinear", else None.
        ln: the layer norm, with its scales and offsets, where activation="solu", else None.
        W_out: `[d_mlp, d_model]`.
        hook_pre: passes `u W_in + b_in` on.
        hook_mid: passes what comes before the layer norm on, without one the same as `hook_post`.
        hook_post: passes `n` `[n_samples, n_positions, d_mlp]` on.

    Source: SoLU and its layer norm: Elhage et al. 2022 (Softmax Linear Units).
    """

    W_gate: nn.Parameter | None
    ln: nn.LayerNorm | None

    def __init__(self, d_model: int, d_mlp: int, activation: str | Activation, depth: int, weights: _Weights) -> None:
        super().__init__()
        sharp = SHARP**2 if activation == SOLU else 1.0
        self._act = as_function(activation, NEURONS)
        self.W_in = weights.normal(d_model, d_mlp, variance=sharp / d_model)
        self.b_in = weights.given(torch.zeros(d_mlp))
        self.W_gate = weights.normal(d_model, d_mlp, variance=1 / d_model) if activation == GATED else None
        self.ln = nn.LayerNorm(d_mlp).to(self.W_in) if activation == SOLU else None
        self.W_out = weights.normal(d_mlp, d_model, variance=1 / (depth * d_mlp))
        self.hook_pre, self.hook_mid, self.hook_post = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(
        self, u: Float[Tensor, "n_samples n_positions d_model"]
    ) -> Float[Tensor, "n_samples n_positions d_model"]:
        """What the neurons together write to each position."""
        n = self._act(self.hook_pre(u @ self.W_in + self.b_in))
        n = self.hook_mid(n if self.W_gate is None else n * (u @ self.W_gate))
        written: Tensor = self.hook_post(n if self.ln is None else self.ln(n)) @ self.W_out
        return written


class TransformerBlock(nn.Module):
    """Attention, then neurons, each of which adds to the residual stream; hooks as TransformerLens names them."""

    def __init__(
        self, d_model: int, n_heads: int, d_mlp: int, activation: str | Activation, depth: int, weights: _Weights
    ) -> None:
        super().__init__()
        self.attn = CausalAttention(d_model, n_heads, depth, weights)
        self.mlp = Neurons(d_model, d_mlp, activation, depth, weights)
        self.hook_resid_pre, self.hook_attn_out, self.hook_resid_mid = nn.Identity(), nn.Identity(), nn.Identity()
        self.hook_mlp_out, self.hook_resid_post = nn.Identity(), nn.Identity()

    def forward(
        self, r: Float[Tensor, "n_samples n_positions d_model"]
    ) -> Float[Tensor, "n_samples n_positions d_model"]:
        """The residual stream after the block."""
        r = self.hook_resid_pre(r)
        r = self.hook_resid_mid(r + self.hook_attn_out(self.attn(r)))
        after: Tensor = self.hook_resid_post(r + self.hook_mlp_out(self.mlp(r)))
        return after


class SequenceTransformer(nn.Module):
    r"""A causal transformer from sequences of feature vectors to magnitudes, with one residual stream.

        r = x W_E + W_pos
        r ← r + Σ_h A_h r W_V W_O           then       r ← r + act(r W_in + b_in) W_out       for each layer
        ŷ = ReLU(r W_U + b_U)

    No layer norm stands on the stream, so that features are directions in it; "solu" has the one of its neurons. A
    single network, without the axis of instances that other toy models have: every value inside it can be read or
    replaced by the name of a submodule, `hook_embed`, `hook_pos_embed`, `blocks.0.hook_resid_mid`,
    `blocks.0.attn.hook_pattern`, `blocks.1.mlp.hook_post`, ..., as TransformerLens names them.

    Args:
        n_features: number of features of a position.
        d_model: dimension of the residual stream.
        n_positions: longest sequence.
        n_outputs: numbers to predict at each position.
        d_mlp: neurons of each block.
        n_layers: number of blocks.
        n_heads: attention heads of each block; they divide `d_model`.
        activation: "relu", "gelu", "solu" (with its layer norm), "bilinear" (products of two linear maps: half as many
            weights again for a neuron), or another activation as in `HiddenLayerModel`.
        start: outputs at the start, where the stream is still hardly read: where they begin to learn. An output that
            falls below 0 on all inputs cannot return.
        generator: source of the random start; by default torch's global one.
        device: where the parameters live; by default where the generator does.
        dtype: of the parameters; float64 by default.

    Attributes:
        W_E: embedding rows `[n_features, d_model]`, of norm 1 and random direction at the start.
        W_pos: `[n_positions, d_model]`.
        blocks: the layers.
        W_U: `[d_model, n_outputs]`.
        b_U: `[n_outputs]`.

    Raises:
        ValueError: a size that is not a whole number of at least 1, heads that do not divide `d_model`, an unknown
            activation, a start that is not positive.

    Example:
        >>> import torch
        >>> from polysem.zoo import SequenceTransformer
        >>> model = SequenceTransformer(6, 4, n_positions=3, n_outputs=2, d_mlp=5, n_heads=2, activation="solu")
        >>> model(torch.zeros(1, 3, 6, dtype=torch.float64)).shape
        torch.Size([1, 3, 2])
        >>> model.residual_hooks[1:], model.neuron_hooks[0]
        (('blocks.0.hook_resid_mid', 'blocks.0.hook_resid_post', 'blocks.1.hook_resid_mid',
        'blocks.1.hook_resid_post'), 'blocks.0.mlp.hook_post')

    Source: Elhage et al. 2021 (the residual stream) and 2022 (SoLU); on features of known law, ours.
    """

    def __init__(
        self,
        n_features: int,
        d_model: int,
        *,
        n_positions: int,
        n_outputs: int,
        d_mlp: int,
        n_layers: int = 2,
        n_heads: int = 4,
        activation: str | Activation = "relu",
        start: float = 0.05,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.n_features, self.d_model = _checks.whole("n_features", n_features), _checks.whole("d_model", d_model)
        self.n_positions, self.n_outputs = (
            _checks.whole("n_positions", n_positions),
            _checks.whole("n_outputs", n_outputs),
        )
        self.n_layers, self.d_mlp = _checks.whole("n_layers", n_layers), _checks.whole("d_mlp", d_mlp)
        divides = self.d_model % _checks.whole("n_heads", n_heads) == 0
        _checks.require(divides, "n_heads", n_heads, f"a divisor of d_model = {d_model}")
        _checks.require(0 < start < float("inf"), "start", start, "positive and finite")
        self.n_heads, self.activation = n_heads, activation
        weights, depth = _Weights(generator, device, dtype), 2 * self.n_layers
        self.W_E = weights.directions(self.n_features, self.d_model)
        self.W_pos = weights.normal(self.n_positions, self.d_model, variance=1 / self.d_model)
        self.blocks = nn.ModuleList(
            TransformerBlock(self.d_model, n_heads, self.d_mlp, activation, depth, weights)
            for _ in range(self.n_layers)
        )
        self.W_U = weights.normal(self.d_model, self.n_outputs, variance=0.01 / self.d_model)
        self.b_U = weights.given(torch.full((self.n_outputs,), start))
        self.hook_embed, self.hook_pos_embed = nn.Identity(), nn.Identity()

    @property
    def residual_hooks(self) -> tuple[str, ...]:
        """Names of the places of the residual stream: before the first block, then after each sublayer."""
        after = (f"blocks.{layer}.hook_resid_{place}" for layer in range(self.n_layers) for place in ("mid", "post"))
        return ("blocks.0.hook_resid_pre", *after)

    @property
    def neuron_hooks(self) -> tuple[str, ...]:
        """Names of the places where each block's neurons have their final activations."""
        return tuple(f"blocks.{layer}.mlp.hook_post" for layer in range(self.n_layers))

    def forward(
        self, x: Float[Tensor, "n_samples n_positions n_features"]
    ) -> Float[Tensor, "n_samples n_positions n_outputs"]:
        """Outputs `ŷ` at every position, none of which depends on later positions.

        Raises:
            ValueError: a sequence longer than `n_positions`.
        """
        length = x.shape[1]
        _checks.require(length <= self.n_positions, "length of x", length, f"at most n_positions = {self.n_positions}")
        r = self.hook_embed(x @ self.W_E) + self.hook_pos_embed(self.W_pos[:length])
        for block in self.blocks:
            r = block(r)
        return torch.relu(r @ self.W_U + self.b_U)

    def extra_repr(self) -> str:
        """Sizes and activation."""
        return (
            f"n_features={self.n_features}, d_model={self.d_model}, n_positions={self.n_positions}, "
            f"n_outputs={self.n_outputs}, d_mlp={self.d_mlp}, n_layers={self.n_layers}, n_heads={self.n_heads}, "
            f"activation={self.activation!r}"
        )
