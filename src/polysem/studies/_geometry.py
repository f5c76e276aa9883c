"""The geometry of superposition: polytopes in a plane and in more dimensions, and models that form none."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from polysem.features import SparseUniform, geometric
from polysem.measure import Block, FeatureClass, blocks, capacity, classify
from polysem.studies._configs import GeometryConfig
from polysem.training import FitConfig, fit
from polysem.zoo import QuadraticModel, TiedAutoencoder, expected_loss

POLYTOPES = {
    "tetrahedron": Fraction(3, 4),
    "triangle": Fraction(2, 3),
    "antipodal pair": Fraction(1, 2),
    "pentagon": Fraction(2, 5),
    "square antiprism": Fraction(3, 8),
}
"""Capacity of each vertex of the polytopes that Elhage et al. (2022) report: dimensions over vertices."""

STICKY = 0.02
"""A capacity this close to a polytope's counts as stuck there."""

ORTHOGONAL = 0.1
"""Cosines up to this size count as 0: rows that were trained on samples keep some of their noise."""

JUDGED_SAMPLES = 20_000
LINEAR_DECAY = 0.95


@dataclass(frozen=True)
class Learned:
    """A trained embedding, and the geometry in it.

    Attributes:
        feature_probability: chance of each feature to be active.
        W: embedding `[n_features, d_hidden]`.
        capacity: its capacities `[n_features]`.
        blocks: mutually orthogonal groups of the represented features.
        loss: expected loss.
        stderr: standard error of `loss`; 0 where it is exact.
    """

    feature_probability: float
    W: Float[Tensor, "n_features d_hidden"]
    capacity: Float[Tensor, " n_features"]
    blocks: list[Block]
    loss: float
    stderr: float

    @property
    def represented(self) -> Bool[Tensor, " n_features"]:
        """Whether each feature is represented: neither its capacity nor its row is negligible."""
        return _represented(self.W, self.capacity)

    @property
    def shapes(self) -> Counter[str]:
        """How many blocks there are of each polytope, of single features, and of other shapes."""
        return Counter(block_shape(block) for block in self.blocks)

    @property
    def says(self) -> str:
        """The shapes with their numbers, as "1 × pentagon, 2 × antipodal pair"."""
        return ", ".join(f"{self.shapes[name]} × {name}" for name in sorted(self.shapes, reverse=True))

    @property
    def biggest(self) -> int:
        """Number of features in the biggest block."""
        return max((len(block.members) for block in self.blocks), default=0)

    @property
    def sticky(self) -> float:
        """Share of the represented features whose capacity is within 0.02 of a polytope's."""
        return sticky(self.capacity[self.represented])

    @property
    def interference(self) -> float:
        """Largest `|W_i·W_j|` between two features."""
        gram = self.W @ self.W.mT
        return float((gram - gram.diagonal().diag()).abs().max())


@dataclass(frozen=True)
class Geometry:
    """Embeddings that sparse features learn, beside those of a quadratic and of a linear model.

    Attributes:
        planes: best ReLU autoencoder in two dimensions for each feature probability and number of features.
        relu: ReLU autoencoders in more dimensions, by falling feature probability.
        random: for each of them the share of stuck capacities of random directions with the same norms.
        quadratic: a quadratic model of the same size, at the feature probability of `relu[showcase]`.
        linear: a linear autoencoder of the same size, with unequal importances and the sparsest features.
    """

    planes: tuple[Learned, ...]
    relu: tuple[Learned, ...]
    random: tuple[float, ...]
    quadratic: Learned
    linear: Learned

    @property
    def showcase(self) -> int:
        """Position in `relu` of the model with most kinds of polytopes, the densest of equals."""
        return _showcase(self.relu)

    @property
    def sticky(self) -> float:
        """Share of stuck capacities among all represented features of `relu`."""
        return sticky(torch.cat([model.capacity[model.represented] for model in self.relu]))

    @property
    def random_sticky(self) -> float:
        """The same share for random directions."""
        counts = torch.tensor([int(model.represented.sum()) for model in self.relu], dtype=torch.float64)
        return float((counts * torch.tensor(self.random, dtype=torch.float64)).sum() / counts.sum())


def geometry(config: GeometryConfig = GeometryConfig()) -> Geometry:
    """Train toy models on features of equal importance and look for polytopes.

    ReLU autoencoders `x̂ = ReLU(x W Wᵀ + b)` of features uniform on [0, 1] are trained by Adam on sampled losses. In
    the plane the best of several starts is judged by a loss that is exact for up to two active features and sampled
    beyond; in more dimensions there is one start. The quadratic model takes signed, standardised features of the same
    probability, the linear autoencoder importances `0.95^i`; both are fitted to their exact losses.

    Args:
        config: sizes, feature probabilities, starts and steps.

    Returns:
        Trained embeddings with their blocks.

    Example:
        >>> plane = GeometryConfig((5,), (0.05,), plane_restarts=2, n_features=3, d_hidden=2, n_probability=2, steps=10)
        >>> [(block.dim, block.polytope) for block in geometry(plane).planes[0].blocks]
        [(2, 'pentagon')]

    Source: Elhage et al. 2022, section on the geometry of superposition; the comparison with random directions, and
    that of quadratic and ReLU models, are ours.
    """
    generator = torch.Generator().manual_seed(config.seed)
    planes = tuple(learned for p in config.plane_probabilities for learned in _planes(p, config, generator))
    relu = _relu(config, generator)
    return Geometry(
        planes=planes,
        relu=relu,
        random=tuple(_random(model, config.null_draws, generator) for model in relu),
        quadratic=_quadratic(relu[_showcase(relu)].feature_probability, config, generator),
        linear=_linear(relu[-1].feature_probability, config, generator),
    )


def block_shape(block: Block) -> str:
    """Name of a block's polytope, "single feature" or "no polytope"."""
    return block.polytope or ("single feature" if len(block.members) == 1 else "no polytope")


def sticky(capacity: Float[Tensor, "*shape"]) -> float:
    """Share of capacities within 0.02 of one that Elhage et al. (2022) report of polytopes; 0 of none.

    Example:
        >>> sticky(torch.tensor([0.4, 0.45, 0.51, 0.9]))
        0.5
    """
    values = torch.tensor([float(value) for value in POLYTOPES.values()]).to(capacity)
    near = (capacity[..., None] - values).abs().amin(-1) <= STICKY
    return int(near.sum()) / max(1, near.numel())


def _planes(p: float, config: GeometryConfig, generator: torch.Generator) -> Iterator[Learned]:
    """The best starts of all sizes at one probability: one stack, the features beyond each size removed."""
    sizes, restarts = config.plane_features, config.plane_restarts
    most = max(sizes)
    removed = (torch.arange(most) >= torch.tensor(sizes)[:, None]).repeat_interleave(restarts, 0)
    features, importance = SparseUniform([p] * most), (~removed).double()
    start = TiedAutoencoder(most, 2, n_inst=len(removed), generator=generator)
    settings = _sampled(config.plane_steps, learning_rate=0.03, batch_size=256, stratified=True)
    model = fit(start, features, importance, settings, mask=removed, generator=generator).model
    exact = model.partial_loss(features, importance) is None  # of up to three features
    draws, source = (None, None) if exact else (JUDGED_SAMPLES, generator)
    judged = expected_loss(model, features, importance, n_samples=draws, generator=source)
    best = judged.value.view(-1, restarts).argmin(1)
    for index, size in zip((best + restarts * torch.arange(len(sizes))).tolist(), sizes, strict=True):
        loss, stderr = float(judged.value[index]), float(judged.stderr[index])
        yield _learned(p, model.embedding.detach()[index, :size], loss, stderr)


def _relu(config: GeometryConfig, generator: torch.Generator) -> tuple[Learned, ...]:
    lowest = torch.tensor(config.lowest_probability, dtype=torch.float64).log10()
    p = torch.logspace(0, lowest, config.n_probability, dtype=torch.float64)
    features = SparseUniform(p[:, None].expand(-1, config.n_features))
    start = TiedAutoencoder(config.n_features, config.d_hidden, n_inst=len(p), generator=generator, dtype=torch.float32)
    settings = _sampled(config.steps, learning_rate=0.05, batch_size=128)
    done = fit(start, features, torch.ones(config.n_features), settings, generator=generator)
    rows = done.model.embedding.detach().double()
    found = zip(p.tolist(), rows, done.loss.tolist(), done.stderr.tolist(), strict=True)
    return tuple(_learned(*each) for each in found)


def _quadratic(p: float, config: GeometryConfig, generator: torch.Generator) -> Learned:
    features = SparseUniform([p] * config.n_features, signed=True, standardise=True)
    start = QuadraticModel(config.n_features, config.d_hidden, generator=generator)
    done = fit(start, features, torch.ones(config.n_features))
    return _learned(p, done.model.embedding.detach()[0], float(done.loss[0]), 0.0)


def _linear(p: float, config: GeometryConfig, generator: torch.Generator) -> Learned:
    start = TiedAutoencoder(config.n_features, config.d_hidden, activation="identity", generator=generator)
    features, importance = SparseUniform([p] * config.n_features), geometric(config.n_features, LINEAR_DECAY)
    done = fit(start, features, importance, FitConfig(gradient_tolerance=1e-12))
    return _learned(p, done.model.embedding.detach()[0], float(done.loss[0]), 0.0)


def _learned(p: float, W: Tensor, loss: float, stderr: float) -> Learned:
    C = capacity(W)
    return Learned(p, W, C, blocks(W * _represented(W, C)[:, None], ORTHOGONAL), loss, stderr)


def _represented(W: Tensor, capacity: Tensor) -> Tensor:
    return classify(capacity, torch.linalg.vector_norm(W, dim=-1)) != FeatureClass.IGNORED


def _random(model: Learned, draws: int, generator: torch.Generator) -> float:
    """Share of stuck capacities of random directions with the norms of the represented rows."""
    norm = torch.linalg.vector_norm(model.W[model.represented], dim=-1)
    rows = torch.randn(draws, len(norm), model.W.shape[-1], generator=generator, dtype=torch.float64)
    return sticky(capacity(torch.nn.functional.normalize(rows, dim=-1) * norm[:, None]))


def _showcase(models: tuple[Learned, ...]) -> int:
    kinds = [len(model.shapes.keys() & POLYTOPES.keys()) for model in models]
    return kinds.index(max(kinds))


def _sampled(steps: int, *, learning_rate: float, batch_size: int, stratified: bool = False) -> FitConfig:
    return FitConfig(
        loss="sampled",
        adam_steps=steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        stratified=stratified,
        record_every=steps,
    )
