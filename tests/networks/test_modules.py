"""Weight matrices of networks in memory: every weight is found once, and both sides mean what they say."""

import itertools

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from polysem.measure import capacity
from polysem.networks import module_matrices

CONVS = [
    (nn.Conv1d, 4, 6, 3, 1),
    (nn.Conv1d, 4, 6, 3, 2),
    (nn.Conv1d, 4, 4, 2, 4),
    (nn.Conv2d, 3, 2, (2, 3), 1),
    (nn.Conv2d, 4, 6, 2, 2),
    (nn.Conv3d, 2, 4, 2, 2),
    (nn.ConvTranspose1d, 4, 6, 3, 1),
    (nn.ConvTranspose1d, 6, 4, 3, 2),
    (nn.ConvTranspose2d, 4, 2, (2, 3), 1),
    (nn.ConvTranspose3d, 2, 4, 2, 2),
]


@pytest.mark.parametrize(("kind", "n_in", "n_out", "size", "groups"), CONVS)
def test_convolutions_are_what_impulses_show(
    kind: type[nn.Conv1d], n_in: int, n_out: int, size: int, groups: int
) -> None:
    torch.manual_seed(0)
    layer = kind(n_in, n_out, size, groups=groups, bias=False)
    transposed = "Transpose" in kind.__name__
    kernel = layer.kernel_size
    places = list(itertools.product(*map(range, kernel)))
    weights = torch.zeros(n_out, n_in, len(places))
    for i in range(n_in):
        if transposed:  # one impulse spreads over a kernel of outputs
            impulse = torch.zeros(1, n_in, *[1 for _ in kernel])
            impulse[0, i] = 1
            spread = layer(impulse)[0]
            for k, place in enumerate(places):
                weights[:, i, k] = spread[(slice(None), *place)]
        else:  # one output reads a kernel of inputs
            for k, place in enumerate(places):
                impulse = torch.zeros(1, n_in, *kernel)
                impulse[(0, i, *place)] = 1
                weights[:, i, k] = layer(impulse).flatten()
    matrix = module_matrices(layer)["weight"]
    assert matrix.kind == "conv"
    assert matrix.groups == groups
    assert_close(matrix.rows("rows"), weights.reshape(n_out, -1))
    assert_close(matrix.rows("columns"), weights.transpose(0, 1).reshape(n_in, -1))
    for side in ("rows", "columns"):
        assert matrix.shape(side) == tuple(matrix.rows(side).shape)


def test_linear_layers() -> None:
    layer = nn.Linear(3, 2)
    matrix = module_matrices(layer)["weight"]
    assert (matrix.kind, matrix.names, matrix.stored_shape) == ("linear", ("weight",), (2, 3))
    assert_close(matrix.rows("rows") @ torch.eye(3) + layer.bias[:, None], layer(torch.eye(3)).mT)
    assert_close(matrix.rows("columns") + layer.bias, layer(torch.eye(3)))


def test_linear_layers_of_transformers_store_inputs_first() -> None:
    from transformers.pytorch_utils import Conv1D

    layer = Conv1D(2, 3)
    nn.init.normal_(layer.weight)
    matrix = module_matrices(layer)["weight"]
    assert (matrix.kind, matrix.stored_shape) == ("linear", (3, 2))
    assert_close(matrix.rows("columns") + layer.bias, layer(torch.eye(3)))
    assert_close(matrix.rows("rows"), matrix.rows("columns").mT)


def test_embeddings_have_rows_only() -> None:
    for layer in (nn.Embedding(5, 3), nn.EmbeddingBag(5, 3)):
        matrix = module_matrices(layer)["weight"]
        assert matrix.kind == "embedding"
        assert_close(matrix.rows("rows"), layer.weight)
        with pytest.raises(ValueError, match=r"features must be 'rows' for an embedding, got 'columns'"):
            matrix.rows("columns")


def test_nothing_is_copied_where_the_layout_allows_it() -> None:
    network = nn.ModuleList([nn.Embedding(5, 3), nn.Linear(3, 2), nn.Conv2d(3, 2, 2), nn.Conv1d(3, 2, 1)])
    for name, matrix in module_matrices(network).items():
        parameter = network.get_parameter(name)
        assert matrix.weight is parameter
        assert matrix.rows("rows").untyped_storage().data_ptr() == parameter.untyped_storage().data_ptr()
        assert matrix.rows("rows").requires_grad
    matrix = module_matrices(network)["1.weight"]
    assert matrix.rows("columns").untyped_storage().data_ptr() == network[1].weight.untyped_storage().data_ptr()


def test_what_is_trained_or_replaced_is_seen() -> None:
    layer = nn.Linear(3, 2)
    matrix = module_matrices(layer)["weight"]
    with torch.no_grad():
        layer.weight += 1
    assert_close(matrix.rows("rows"), layer.weight)
    layer.weight = nn.Parameter(torch.zeros(2, 3))
    assert_close(matrix.rows("rows"), torch.zeros(2, 3))


def test_shared_parameters_are_listed_once() -> None:
    network = nn.ModuleDict({"embed": nn.Embedding(5, 3), "body": nn.Linear(3, 3), "head": nn.Linear(3, 5)})
    network["head"].weight = network["embed"].weight
    network["again"] = network["body"]
    found = module_matrices(network)
    assert {name: matrix.names for name, matrix in found.items()} == {
        "embed.weight": ("embed.weight", "head.weight"),
        "body.weight": ("body.weight", "again.weight"),
    }
    assert found["embed.weight"].kind == "embedding"


def test_every_layer_with_a_matrix_is_found_and_nothing_else() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 2),
        nn.BatchNorm2d(4),
        nn.TransformerEncoderLayer(8, 2, 16),
        nn.LayerNorm(8),
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        nn.MultiheadAttention(8, 2),
    )
    assert list(module_matrices(network)) == [
        "0.weight",
        "2.self_attn.out_proj.weight",
        "2.linear1.weight",
        "2.linear2.weight",
        "5.out_proj.weight",
    ]


def test_groups_do_not_interfere() -> None:
    layer = nn.Conv1d(6, 4, 2, groups=2)
    C = capacity(module_matrices(layer)["weight"].rows("rows"))
    assert_close(C, torch.cat([capacity(part.flatten(1)) for part in layer.weight.split(2)]))


@pytest.mark.bad_input
def test_mistakes() -> None:
    with pytest.raises(TypeError, match=r"module must be a torch.nn.Module, got Tensor"):
        module_matrices(torch.eye(2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"features must be 'rows' or 'columns', got 'both'"):
        module_matrices(nn.Linear(2, 2))["weight"].rows("both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"0.weight must be of known shape: run the network on one input first"):
        module_matrices(nn.Sequential(nn.LazyLinear(3)))
