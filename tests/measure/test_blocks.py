import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import reference
from polysem.measure import blocks

TETRAHEDRON = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
CUBE = torch.cartesian_prod(*3 * [torch.tensor([1.0, -1.0], dtype=torch.float64)])
ANTIPRISM = torch.cat(
    [
        torch.cat([reference.regular_polygon(4) * math.sqrt(2 / 3), torch.full((4, 1), 3**-0.5)], 1),
        torch.cat(
            [
                reference.regular_polygon(8)[1::2] * math.sqrt(2 / 3),
                torch.full((4, 1), -(3**-0.5)),
            ],
            1,
        ),
    ]
).double()
PLANTED: dict[str | None, Tensor] = {
    None: torch.ones(1, 1, dtype=torch.float64),
    "antipodal pair": torch.tensor([[1.0], [-1.0]], dtype=torch.float64),
    "triangle": reference.regular_polygon(3),
    "tetrahedron": TETRAHEDRON,
    "pentagon": reference.regular_polygon(5),
    "heptagon": reference.regular_polygon(7),
    "cube": CUBE,
    "square antiprism": ANTIPRISM,
}


@given(
    st.lists(st.sampled_from(list(PLANTED)), min_size=1, max_size=5),
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.0025]),
)
@settings(deadline=None)
def test_planted_blocks_are_found(names: list[str | None], seed: int, noise: float) -> None:
    """Exactly, under rotation, permutation, scales and noise of a quarter of the tolerance."""
    generator = torch.Generator().manual_seed(seed)
    scales = [0.3 + 2 * float(torch.rand((), generator=generator)) for _ in names]
    parts = [
        PLANTED[name] / torch.linalg.vector_norm(PLANTED[name][0]) * s for name, s in zip(names, scales, strict=True)
    ]
    planted = torch.block_diag(*parts)
    n, d = planted.shape
    order = torch.randperm(n, generator=generator)
    W = (planted @ reference.random_rotation(d, generator))[order]
    shake = torch.randn(n, d, dtype=torch.float64, generator=generator)
    W = W + noise * shake * torch.linalg.vector_norm(W, dim=1, keepdim=True) / torch.linalg.vector_norm(
        shake, dim=1, keepdim=True
    )
    position = {int(old): new for new, old in enumerate(order)}
    start, expected = 0, {}
    for name, part, scale in zip(names, parts, scales, strict=True):
        members = tuple(sorted(position[i] for i in range(start, start + len(part))))
        expected[members] = (part.shape[1], name, len(part) * scale**2 / part.shape[1])
        start += len(part)
    found = blocks(W, tol=0.01)
    assert [block.members for block in found] == sorted(expected)
    for block in found:
        dim, name, scale = expected[block.members]
        assert (block.dim, block.polytope) == (dim, name)
        assert block.scale == pytest.approx(scale, rel=0.01)
        assert block.defect <= (0.02 if noise else 1e-7)


def test_a_tight_frame_that_is_no_pentagon() -> None:
    """Five features in two dimensions with capacities .8 .4 .4 .2 .2: tight, but no polytope."""
    norms = torch.tensor([0.8, 0.4, 0.4, 0.2, 0.2], dtype=torch.float64)
    # Rows √a (cos θ/2, sin θ/2) are a tight frame iff the arrows a (cos θ, sin θ) sum to zero.
    doubled = torch.tensor([0.0, math.pi - 0.5, math.pi + 0.5, 0.0, 0.0], dtype=torch.float64)
    rest = -(norms[:3] * torch.stack([doubled[:3].cos(), doubled[:3].sin()])).sum(1)
    angle = math.acos(float(torch.linalg.vector_norm(rest)) / 0.4)
    base = math.atan2(float(rest[1]), float(rest[0]))
    doubled[3], doubled[4] = base + angle, base - angle
    W = norms.sqrt()[:, None] * torch.stack([(doubled / 2).cos(), (doubled / 2).sin()], 1)
    (block,) = blocks(W)
    assert block.defect < 1e-9
    assert (block.dim, block.polytope) == (2, None)
    assert block.scale == pytest.approx(1.0)


def test_defect_of_a_frame_that_is_not_tight() -> None:
    W = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    (block,) = blocks(W)
    M = W.T @ W
    scale = float(torch.trace(M)) / 2
    expected = torch.linalg.matrix_norm(M - scale * torch.eye(2)) / torch.linalg.matrix_norm(M)
    assert block.defect == pytest.approx(float(expected))


def test_negligible_rows_belong_to_no_block() -> None:
    W = torch.tensor([[1.0, 0.0], [0.02, 0.02], [0.0, 0.0], [0.0, 1.0]])
    assert [block.members for block in blocks(W)] == [(0,), (3,)]
    assert [block.members for block in blocks(W, negligible=0)] == [(0, 1, 3)]
    assert blocks(torch.zeros(3, 2)) == []
    assert blocks(torch.zeros(0, 2)) == []


def test_strips_do_not_change_the_blocks() -> None:
    """More rows than fit one strip of the Gram matrix."""
    W = torch.eye(2100)[torch.arange(4200) % 2100] * torch.where(torch.arange(4200) < 2100, 1.0, -1.0)[:, None]
    found = blocks(W)
    assert [block.members for block in found] == [(i, i + 2100) for i in range(2100)]


@pytest.mark.bad_input
def test_bad_input() -> None:
    for options, message in [
        ({"W": torch.ones(2, 2, 2)}, "W must be a matrix"),
        ({"W": torch.tensor([[torch.nan]])}, "NaN or infinity in row 0"),
        ({"W": torch.ones(2, 2), "tol": 0.0}, "tol must be between 0 and 1, got 0.0"),
        ({"W": torch.ones(2, 2), "negligible": 1.0}, "negligible must be at least 0 and below 1, got 1.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            blocks(**options)
