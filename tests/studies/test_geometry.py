"""Learned polytopes: blocks and capacities against loops, the comparisons against closed forms."""

from dataclasses import replace
from fractions import Fraction
from math import pi

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import reference
from polysem.features import SparseUniform
from polysem.measure import blocks, capacity
from polysem.studies import POLYTOPES, Geometry, GeometryConfig, Learned, geometry
from polysem.studies._geometry import sticky
from polysem.theory import allocate

CONFIG = GeometryConfig(
    plane_features=(4, 5),
    plane_probabilities=(0.3, 0.05),
    plane_restarts=4,
    plane_steps=250,
    n_features=16,
    d_hidden=4,
    n_probability=3,
    lowest_probability=0.16,
    steps=400,
    null_draws=200,
)


@pytest.fixture(scope="module")
def result() -> Geometry:
    return geometry(CONFIG)


def learned(W: Tensor, p: float = 0.1) -> Learned:
    return Learned(p, W, capacity(W), blocks(W), 0.0, 0.0)


def every(result: Geometry) -> list[Learned]:
    return [*result.planes, *result.relu, result.quadratic, result.linear]


def test_polytopes_in_a_plane(result: Geometry) -> None:
    assert [(model.feature_probability, *model.W.shape) for model in result.planes] == [
        (0.3, 4, 2),
        (0.3, 5, 2),
        (0.05, 4, 2),
        (0.05, 5, 2),
    ]
    assert result.planes[0].shapes == {"antipodal pair": 2}
    assert result.planes[3].shapes == {"pentagon": 1}
    assert_close(result.planes[3].capacity, torch.full((5,), 2 / 5, dtype=torch.float64), rtol=0, atol=0.02)


def test_sampled_losses_carry_their_error(result: Geometry) -> None:
    for model in (*result.planes, *result.relu):
        assert 0 < model.stderr < 0.1 * model.loss


def test_feature_probabilities_fall_evenly_on_a_logarithmic_scale(result: Geometry) -> None:
    assert [model.feature_probability for model in result.relu] == pytest.approx([1.0, 0.4, 0.16], rel=1e-9)


def test_capacities_and_blocks(result: Geometry) -> None:
    for model in every(result):
        assert_close(model.capacity, reference.capacity(model.W), rtol=1e-9, atol=1e-12)
        norm = [float(row.norm()) for row in model.W]
        represented = [
            C >= 0.05 and size**2 >= 1e-3 * max(norm) ** 2
            for C, size in zip(model.capacity.tolist(), norm, strict=True)
        ]
        assert model.represented.tolist() == represented
        members = [member for block in model.blocks for member in block.members]
        assert sorted(members) == [i for i, kept in enumerate(represented) if kept]
        block = {member: number for number, block in enumerate(model.blocks) for member in block.members}
        for i in members:
            for j in members:
                if block[i] != block[j]:
                    assert abs(float(model.W[i] @ model.W[j])) <= 0.1 * norm[i] * norm[j]


def test_sparse_features_stick(result: Geometry) -> None:
    dense, pairs, _ = result.relu
    assert pairs.shapes == {"antipodal pair": 4}
    assert pairs.sticky == 1
    assert dense.sticky < 0.5
    for model in result.relu:
        assert model.sticky == pytest.approx(reference.share_at_polytopes(model.capacity[model.represented]))
    together = torch.cat([model.capacity[model.represented] for model in result.relu])
    assert result.sticky == pytest.approx(reference.share_at_polytopes(together))


def test_random_directions_have_the_norms_of_represented_rows(result: Geometry) -> None:
    generator, total, count = torch.Generator().manual_seed(1), 0.0, 0
    for model, share in zip(result.relu, result.random, strict=True):
        rows = model.W[model.represented]
        found = []
        for _ in range(100):
            drawn = torch.randn(rows.shape, generator=generator, dtype=torch.float64)
            drawn *= (rows.norm(dim=1) / drawn.norm(dim=1))[:, None]
            found.append(reference.share_at_polytopes(reference.capacity(drawn)))
        shares = torch.tensor(found)
        assert share == pytest.approx(float(shares.mean()), abs=5 * float(shares.std()) / 100**0.5)
        total, count = total + share * len(rows), count + len(rows)
    assert result.random_sticky == pytest.approx(total / count)


def test_the_quadratic_model_has_one_block_at_the_optimal_loss(result: Geometry) -> None:
    model = result.quadratic
    assert model.feature_probability == result.relu[result.showcase].feature_probability
    assert (len(model.blocks), model.biggest) == (1, 16)
    kurtosis = 9 / (5 * model.feature_probability)
    best = allocate(torch.ones(16, dtype=torch.float64), torch.full((16,), kurtosis, dtype=torch.float64), 4.0)
    assert model.loss == pytest.approx(float(best.loss), rel=1e-9)
    assert_close(model.capacity, torch.full((16,), 4 / 16, dtype=torch.float64), rtol=0, atol=1e-6)


def test_the_linear_model_keeps_the_most_important_features_whole(result: Geometry) -> None:
    model = result.linear
    assert model.feature_probability == result.relu[-1].feature_probability
    assert model.represented.tolist() == 4 * [True] + 12 * [False]
    assert model.shapes == {"single feature": 4}
    assert model.interference < 1e-7
    variance = float(SparseUniform(model.feature_probability).variance)
    assert model.loss == pytest.approx(variance * sum(0.95**i for i in range(4, 16)), rel=1e-9)


def test_interference_is_the_largest_product_of_two_rows() -> None:
    model = learned(torch.tensor([[1.0, 0.0], [0.5, 1.0], [-3.0, 1.0]]))
    assert model.interference == 3.0


def test_shapes_and_the_biggest_block() -> None:
    pentagon = torch.nn.functional.pad(reference.regular_polygon(5), (0, 3))
    pair = torch.tensor([[0, 0, 1.0, 0, 0], [0, 0, -1, 0, 0]], dtype=torch.float64)
    rest = torch.tensor([[0, 0, 0, 1.0, 0], [0, 0, 0, 0.5, 0.5], [0, 0, 0, 0, 1]], dtype=torch.float64)
    model = learned(torch.cat([pair, pentagon, rest]))
    assert model.shapes == {"antipodal pair": 1, "pentagon": 1, "no polytope": 1}
    assert model.says == "1 × pentagon, 1 × no polytope, 1 × antipodal pair"
    assert model.biggest == 5


def test_the_showcase_has_most_kinds_of_polytopes(result: Geometry) -> None:
    pair = torch.tensor([[1.0, 0, 0, 0], [-1, 0, 0, 0]], dtype=torch.float64)
    pentagon = torch.nn.functional.pad(reference.regular_polygon(5), (1, 1))
    hexagon = torch.nn.functional.pad(reference.regular_polygon(6), (1, 1))
    models = [pair, torch.cat([pair, hexagon]), torch.cat([pair, pentagon]), torch.cat([pentagon, pair])]
    assert replace(result, relu=tuple(learned(W) for W in models)).showcase == 2


def test_capacities_of_polytopes_are_dimensions_over_vertices() -> None:
    angles = [2 * pi * k / 4 for k in range(4)]
    heights = [(1, 0.0)] * 4 + [(-1, pi / 4)] * 4
    antiprism = torch.tensor(
        [
            [2**0.5 * torch.cos(torch.tensor(angle + turn)), 2**0.5 * torch.sin(torch.tensor(angle + turn)), z]
            for angle, (z, turn) in zip(angles + angles, heights, strict=True)
        ],
        dtype=torch.float64,
    )
    corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    vertices = {
        "tetrahedron": corners,
        "triangle": reference.regular_polygon(3),
        "antipodal pair": torch.tensor([[1.0], [-1.0]], dtype=torch.float64),
        "pentagon": reference.regular_polygon(5),
        "square antiprism": antiprism,
    }
    assert vertices.keys() == POLYTOPES.keys()
    for name, W in vertices.items():
        assert learned(W).shapes == {name: 1}
        assert POLYTOPES[name] == Fraction(W.shape[1], W.shape[0])
        assert_close(capacity(W), torch.full((len(W),), float(POLYTOPES[name]), dtype=torch.float64), rtol=0, atol=1e-6)


def test_sticky_counts_both_sides_and_ends() -> None:
    values = torch.tensor([0.3551, 0.3549, 0.4199, 0.4201, 0.52 - 1e-9, 0.5201, 0.0, 1.0], dtype=torch.float64)
    assert sticky(values) == 3 / 8 == reference.share_at_polytopes(values)
    assert sticky(torch.zeros(0)) == 0


def test_one_seed_gives_one_result() -> None:
    small = GeometryConfig((3,), (0.1,), 1, 5, n_features=4, d_hidden=2, n_probability=2, steps=5, null_draws=3)
    first, again, other = (geometry(replace(small, seed=seed)) for seed in (0, 0, 1))
    for one, same, different in zip(every(first), every(again), every(other), strict=True):
        assert torch.equal(one.W, same.W)
        assert not torch.equal(one.W, different.W)
    assert first.random == again.random
