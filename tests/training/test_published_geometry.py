"""Geometry that Elhage et al. (2022) report of sparse toy models, and its absence in a linear one."""

import torch
from torch import Tensor
from torch.testing import assert_close

import reference
from polysem.features import SparseUniform
from polysem.measure import blocks, capacity
from polysem.training import FitConfig, fit
from polysem.zoo import TiedAutoencoder, expected_loss

SAMPLED = FitConfig(loss="sampled", adam_steps=700, learning_rate=0.03, batch_size=256, stratified=True)


def best_of_sampled(n_features: int, d_hidden: int, probability: float, activation: str = "relu") -> Tensor:
    """Embedding of the best of four starts, by an independent sample of the loss."""
    generator = torch.Generator().manual_seed(0)
    features = SparseUniform(torch.full((n_features,), probability, dtype=torch.float64))
    start = TiedAutoencoder(n_features, d_hidden, n_inst=4, activation=activation, generator=generator)
    importance = [1.0] * n_features
    done = fit(start, features, importance, SAMPLED, generator=generator)
    judged = expected_loss(done.model, features, importance, method="sampled", n_samples=20_000, generator=generator)
    return done.model.embedding.detach()[judged.value.argmin()]


def test_five_sparse_features_in_a_plane_form_a_pentagon() -> None:
    W = best_of_sampled(5, 2, 0.05)
    (block,) = blocks(W, tol=0.1)
    assert (block.dim, block.polytope) == (2, "pentagon")
    assert_close(capacity(W), torch.full((5,), 2 / 5, dtype=torch.float64), rtol=0, atol=0.02)


def test_four_less_sparse_features_in_a_plane_form_antipodal_pairs() -> None:
    W = best_of_sampled(4, 2, 0.2)
    found = blocks(W, tol=0.1)
    assert [(len(block.members), block.dim, block.polytope) for block in found] == 2 * [(2, 1, "antipodal pair")]
    assert_close(capacity(W), torch.full((4,), 1 / 2, dtype=torch.float64), rtol=0, atol=0.02)


def test_capacities_stick_at_those_of_polytopes() -> None:
    """And those of random directions with the same norms do not."""
    W = best_of_sampled(16, 6, 0.22)
    norm = torch.linalg.vector_norm(W, dim=-1)
    W = W[norm > 0.1 * norm.max()]
    assert reference.share_at_polytopes(capacity(W)) > 0.9
    directions = torch.randn(50, *W.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    null = torch.nn.functional.normalize(directions, dim=-1) * torch.linalg.vector_norm(W, dim=-1, keepdim=True)
    assert reference.share_at_polytopes(capacity(null).flatten()) < 0.4
    found = {block.polytope for block in blocks(W, tol=0.1)}
    assert len(found & {"antipodal pair", "triangle", "tetrahedron", "pentagon", "square antiprism"}) >= 2


def test_a_linear_model_has_no_superposition() -> None:
    """With unequal importances it keeps whole features: all capacities are 0 or 1, however sparse the features."""
    features = SparseUniform(torch.full((5,), 0.05, dtype=torch.float64))
    start = TiedAutoencoder(5, 2, n_inst=16, activation="identity", generator=torch.Generator().manual_seed(1))
    done = fit(start, features, [1.0, 0.9, 0.8, 0.7, 0.6])
    W = done.model.embedding.detach()[done.best]
    size = torch.linalg.vector_norm(W, dim=-1)
    assert (size > 1e-3).tolist() == [True, True, False, False, False]
    assert_close(capacity(W)[:2], torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-6)
