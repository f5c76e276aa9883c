"""Results of the study of transformers with numbers of our choice."""

import numpy as np

from polysem.measure import FeatureClass
from polysem.studies import ACTIVATIONS, Transformers

PLACES = (
    "blocks.0.hook_resid_pre",
    *(f"blocks.{layer}.hook_resid_{place}" for layer in (0, 1) for place in ("mid", "post")),
    "blocks.0.mlp.hook_post",
    "blocks.1.mlp.hook_post",
)


def made_transformers(n_starts: int = 4) -> Transformers:
    """Four activations with random numbers, except that SoLU loses three times as much, and is known stage by stage."""
    rng = np.random.default_rng(0)
    shape = (len(ACTIVATIONS), n_starts)
    loss = rng.permuted(np.tile(np.linspace(0.18, 0.22, n_starts), (len(ACTIVATIONS), 1)), axis=1)
    loss[1, 0] -= 0.001  # the best of all
    loss[2] *= 3
    capacity = rng.uniform(size=(*shape, 7, 4, 3))
    kind = np.where(capacity < 0.05, FeatureClass.IGNORED, FeatureClass.IMPURE)
    kind[capacity > 0.95] = FeatureClass.PURE
    impure = kind == FeatureClass.IMPURE
    per_neuron = rng.uniform(1, 6, size=(*shape, 3, 2, 6))
    per_neuron[2] = np.array([4.0, 2.0, 5.0])[:, None, None]
    per_neuron[3, ..., 4:] = np.nan
    return Transformers(
        activation=tuple(ACTIVATIONS),
        places=PLACES,
        n_stream=5,
        importance=0.9 ** np.arange(3),
        loss=loss,
        target_loss=np.stack([0.9 * loss, 1.1 * loss], -1),
        monosemantic=0.4,
        capacity=capacity,
        kind=kind.astype(np.int64),
        price=np.where(impure, -rng.uniform(0.01, 1, capacity.shape), 0.0),
        price_stderr=np.where(impure, 0.01, 0.0),
        per_neuron=per_neuron,
        n_failed=0,
    )
