"""The weight matrices of a network in memory, with what their two sides mean."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from polysem._checks import require

Kind = Literal["embedding", "linear", "conv"]
Features = Literal["rows", "columns"]

_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True, eq=False)
class ModuleMatrix:
    """The weight of a layer, read from the layer whenever it is asked for: nothing is copied or kept.

    Attributes:
        name: name of the parameter, `decoder.weight`.
        names: every name under which the network holds this parameter; more than one where layers share it.
        kind: `"embedding"`, `"linear"` or `"conv"`; of the first layer where layers share the parameter.
        layer: the layer.
        groups: into how many groups its inputs and outputs fall that do not see each other.
        stored_shape: shape of the parameter.
    """

    name: str
    names: tuple[str, ...]
    kind: Kind
    layer: nn.Module
    groups: int
    stored_shape: tuple[int, ...]

    @property
    def weight(self) -> Tensor:
        """The parameter itself."""
        return self.layer.get_parameter("weight")

    def shape(self, features: Features) -> tuple[int, int]:
        """`(n_features, d)` of what `rows` returns, without making it."""
        groups, units, across, kernel = self._grouped(features).shape
        return groups * units, groups * across * kernel

    def rows(self, features: Features) -> Float[Tensor, "n_features d"]:
        """The features one below the other: units that the layer writes to, or units that it reads from.

            "rows": output units, by what they read       Linear [out, in], Conv [out, in·k], Embedding [n, d]
            "columns": input units, by what they write    Linear [in, out], Conv [in, out·k]

        That is the layout of `nn.Linear`, whichever way the layer stores its weight (transposed convolutions and
        the `Conv1D` of transformers store inputs first). `k` is the size of the kernel. An output unit of a
        convolution in groups does not read the inputs of other groups: their weights are zeros here, and the
        matrix is as large as that of a convolution without groups. The rows of an embedding are what is embedded; it
        has no columns.

        Args:
            features: which units are features.

        Returns:
            A view of the parameter, on its device and in its graph; a new tensor where the layout does not allow a
            view (input units of convolutions with kernels above 1, output units of transposed ones, groups).

        Raises:
            ValueError: `features` is neither, or `"columns"` of an embedding.

        Example:
            >>> import torch
            >>> from polysem.networks import module_matrices
            >>> layer = torch.nn.Conv1d(4, 6, kernel_size=3, groups=2)
            >>> matrix = module_matrices(layer)["weight"]
            >>> matrix.stored_shape, tuple(matrix.rows("rows").shape), tuple(matrix.rows("columns").shape)
            ((6, 2, 3), (6, 12), (4, 18))

        Source: ours.
        """
        blocks = self._grouped(features).flatten(2)
        if self.groups == 1:
            return blocks[0]
        return torch.diag_embed(blocks.movedim(0, -1)).permute(2, 0, 3, 1).reshape(self.shape(features))

    def _grouped(self, features: Features) -> Tensor:
        """A view of the weight as `[groups, features, units across, kernel]`."""
        allowed = get_args(Features)[: 1 if self.kind == "embedding" else 2]
        where = " for an embedding" if self.kind == "embedding" else ""
        require(features in allowed, "features", features, " or ".join(map(repr, allowed)) + where)
        first, second, *kernel = self.stored_shape
        grouped = self.weight.reshape(self.groups, first // self.groups, second, math.prod(kernel))
        return grouped.transpose(1, 2) if (features == "columns") != _inputs_first(self.layer) else grouped


def module_matrices(module: nn.Module) -> dict[str, ModuleMatrix]:
    """Every weight matrix of a network, by parameter name.

    Weights of embeddings, of linear layers (with the `Conv1D` of transformers, which is one) and of convolutions,
    transposed ones included. A parameter that layers share is listed once, under its first name, with all of its names.
    Left out: weights that are no parameters of their own layer (parametrizations compute them anew at every use), and
    parameters of other layers, such as `in_proj_weight` of `nn.MultiheadAttention`.

    Args:
        module: the network, or a single layer.

    Returns:
        From name to matrix, in the order of `module.named_modules()`.

    Raises:
        TypeError: `module` is not an `nn.Module`.
        ValueError: a layer does not know its shape yet, before its first input.

    Example:
        >>> network = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 6), nn.Linear(4, 10, bias=False))
        >>> network[2].weight = network[0].weight
        >>> for name, matrix in module_matrices(network).items():
        ...     print(name, matrix.kind, matrix.stored_shape, matrix.names)
        0.weight embedding (10, 4) ('0.weight', '2.weight')
        1.weight linear (6, 4) ('1.weight',)

    Source: ours.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    layers: dict[int, tuple[Kind, nn.Module]] = {}
    names: dict[int, list[str]] = {}
    for prefix, layer in module.named_modules(remove_duplicate=False):
        kind, weight = _kind(layer), layer._parameters.get("weight")
        if kind is None or weight is None:
            continue
        name = f"{prefix}.weight" if prefix else "weight"
        require(not is_lazy(weight), name, type(weight).__name__, "of known shape: run the network on one input first")
        layers.setdefault(id(weight), (kind, layer))
        names.setdefault(id(weight), []).append(name)
    return {names[key][0]: _matrix(tuple(names[key]), kind, layer) for key, (kind, layer) in layers.items()}


def _matrix(names: tuple[str, ...], kind: Kind, layer: nn.Module) -> ModuleMatrix:
    groups = layer.groups if isinstance(layer, _CONV + _TRANSPOSED) else 1
    return ModuleMatrix(names[0], names, kind, layer, groups, tuple(layer.get_parameter("weight").shape))


def _kind(layer: nn.Module) -> Kind | None:
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return "embedding"
    if isinstance(layer, nn.Linear) or _is_linear_of_transformers(layer):
        return "linear"
    return "conv" if isinstance(layer, _CONV + _TRANSPOSED) else None


def _is_linear_of_transformers(layer: nn.Module) -> bool:
    """`transformers.pytorch_utils.Conv1D`, `x @ weight + bias` with `nf` outputs, told without importing it."""
    return type(layer).__name__ == "Conv1D" and hasattr(layer, "nf") and not isinstance(layer, _CONV)


def _inputs_first(layer: nn.Module) -> bool:
    """Whether the first axis of the weight counts units that the layer reads, not those that it writes."""
    return isinstance(layer, _TRANSPOSED) or _is_linear_of_transformers(layer)
