"""The readouts of toy models: what each sees of its feature and of the others."""

import torch
from torch import Tensor

from polysem.features import IndependentFeatures, SparseFeatures, StratifiedSampler
from polysem.returns._linear import Moments
from polysem.returns._minima import Points, Problem
from polysem.returns._patterns import coefficients
from polysem.returns._solve import solver
from polysem.zoo import SLOPES, Autoencoder, NeuronModel, QuadraticModel, ResidualMLP, ToyModel, as_function

OWN_NODES = 8
"""Nodes for the values of a feature, where its interference is independent of it."""
REST_SHARE = 4
"""One joint sample in so many is of the inactive state, so that its weight is spread over as many copies."""


def problem_of(
    model: ToyModel,
    features: SparseFeatures,
    importance: object,
    pattern: str | Tensor,
    n_samples: int,
    seed: int,
) -> Problem:
    """The readouts of a toy model, instance by instance."""
    model.check_features(features)
    weight = model.importance_per_instance(importance)
    if isinstance(model, QuadraticModel):
        return _quadratic(model, features, weight)
    if isinstance(model, NeuronModel):
        if isinstance(model, ResidualMLP) and model.output != "identity":
            raise ValueError(
                f"output of the model must be 'identity', got {model.output!r} (pass Samples of its readouts)"
            )
        return _last_layer(model, features, weight, n_samples, seed)
    if isinstance(model, Autoencoder):
        return _autoencoder(model, features, weight, pattern, n_samples, seed)
    raise TypeError(
        "model_or_samples must be a QuadraticModel, Autoencoder, HiddenLayerModel or ResidualMLP, or Samples, got "
        f"{type(model).__name__}"
    )


def _quadratic(model: QuadraticModel, features: SparseFeatures, v: Tensor) -> Problem:
    """`P = x_i²`, `Q = √2 x_i ν_i`, `Y = v_i x_i²`: `Var Q = 2` whatever the pattern, since `ν_i` has variance 1."""
    excess = model.objective(features, v).kurtosis - 1
    mean = torch.stack([torch.ones_like(v), torch.zeros_like(v), v], -1)
    moments = Moments.independent(mean, excess, torch.full_like(v, 2.0), excess * v, excess * v.square())
    return Problem(moments, torch.ones_like(v), torch.zeros_like(v, dtype=torch.bool), exact=True)


def _last_layer(model: NeuronModel, features: SparseFeatures, importance: Tensor, n_samples: int, seed: int) -> Problem:
    """`P = Y = t(x_i)`, and `Q` of the same variance, uncorrelated with it."""
    if model.target == "identity":
        mean, variance = features.mean, features.variance
    else:
        generator = torch.Generator().manual_seed(seed)
        x, chance = features.sample_active(n_samples, generator=generator)
        rest, active = (
            model.targets(value if value.ndim == 3 else value[:, None]) for value in (features.inactive_value[None], x)
        )
        change = active - rest
        chance = chance[..., None]
        shift = chance * change.mean(0)
        mean, variance = rest[0] + shift, chance * change.square().mean(0) - shift.square()
    mean, variance = mean.to(importance).expand_as(importance), variance.to(importance).expand_as(importance)
    means = torch.stack([mean, torch.zeros_like(mean), mean], -1)
    moments = Moments.independent(means, variance, variance, variance, variance)
    return Problem(moments, importance, torch.zeros_like(importance, dtype=torch.bool), exact=True)


def _autoencoder(
    model: Autoencoder,
    features: SparseFeatures,
    importance: Tensor,
    pattern: str | Tensor,
    n_samples: int,
    seed: int,
) -> Problem:
    rows, copies = coefficients(model.response().detach().double(), pattern)
    exact = model.activation == "identity" and features.independent
    if exact:
        mean, variance = (value.to(rows).expand_as(importance) for value in (features.mean, features.variance))
        noise = (rows @ mean[..., None])[..., 0] + copies * mean
        other = (rows.square() @ variance[..., None])[..., 0] + copies.square() * variance
        means = torch.stack([mean, noise, mean], -1)
        return Problem(Moments.independent(means, variance, other, variance, variance), importance, copies != 0, exact)
    generator = torch.Generator().manual_seed(seed)
    if isinstance(features, IndependentFeatures):
        points = _product(features, rows, copies, n_samples, generator)
    else:
        points = _joint(features, rows, copies, n_samples, generator)
    if model.activation == "identity":
        return Problem(Moments.of(points), importance, copies != 0)
    if isinstance(model.activation, str) and model.activation in SLOPES:
        return Problem(solver(points, model.activation), importance, copies != 0)
    act = as_function(model.activation)
    return Problem(solver(points, lambda z, y: (act(z) - y).square()), importance, copies != 0)


def _product(
    features: IndependentFeatures, rows: Tensor, copies: Tensor, n_samples: int, generator: torch.Generator
) -> Points:
    """Values of the feature, as nodes, times stratified draws of its interference, or nodes of its copy."""
    n = 4 * max(1, n_samples // (4 * OWN_NODES))
    own, own_weight = _law(features, OWN_NODES, rows)
    copy, copy_weight = _law(features, n, rows)
    drawn, share = StratifiedSampler(features).sample(n, generator=generator)
    x = torch.cat([drawn, features.inactive_value[None].to(drawn)]).to(rows)
    x = (x if x.ndim == 3 else x[:, None]).expand(-1, len(rows), -1)
    noise = torch.einsum("nij,snj->nis", rows, x)
    share = (share if share.ndim == 2 else share[:, None]).to(rows).mT
    none = (1 - features.feature_probability).prod(-1).to(rows).expand(len(share))[:, None]
    share = torch.cat([(1 - none) * share / share.sum(-1, keepdim=True), none], -1)
    weight = share.expand(len(rows), -1)[:, None].expand(-1, rows.shape[1], -1)
    is_copy = (copies != 0)[..., None]
    noise = torch.where(is_copy, copies[..., None] * copy, noise)
    weight = torch.where(is_copy, copy_weight, weight)
    own, own_weight = (value.flatten(0, 1)[..., None] for value in (own, own_weight))
    noise, weight = (value.flatten(0, 1)[:, None] for value in (noise, weight))
    return Points(own=own, interference=noise, target=own, weight=own_weight, other_weight=weight)


def _law(features: IndependentFeatures, n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Values of each feature, active ones as nodes and then the inactive one, `[n_inst, n_features, n + 1]`."""
    nodes, weights = features.active_nodes(n)
    p = features.feature_probability
    values = torch.cat([nodes, features.inactive_value[None]]).movedim(0, -1)
    chances = torch.cat([p[..., None] * weights, 1 - p[..., None]], -1)
    shape = (*like.shape[:2], n + 1)
    return values.to(like).expand(shape), chances.to(like).expand(shape)


def _joint(
    features: SparseFeatures, rows: Tensor, copies: Tensor, n_samples: int, generator: torch.Generator
) -> Points:
    """Draws of all features given that some are active, and the inactive state; copies are drawn beside them."""
    at_rest = max(1, n_samples // REST_SHARE)
    n = max(1, n_samples - at_rest)
    drawn, some = features.sample_active(n, generator=generator)
    rest = features.inactive_value.to(drawn).expand(at_rest, *drawn.shape[1:])
    x, copy = torch.cat([drawn, rest]), features.sample(n + at_rest, generator=generator)
    x, copy = ((value if value.ndim == 3 else value[:, None]).to(rows).expand(-1, len(rows), -1) for value in (x, copy))
    noise = torch.einsum("nij,snj->nis", rows, x) + copies[..., None] * copy.permute(1, 2, 0)
    some = some.to(rows).expand(len(rows))[:, None, None]
    weight = torch.cat([(some / n).expand(-1, 1, n), ((1 - some) / at_rest).expand(-1, 1, at_rest)], -1)
    own = x.permute(1, 2, 0)
    own, noise, weight = (value.expand_as(own).flatten(0, 1)[..., None] for value in (own, noise, weight))
    return Points(own=own, interference=noise, target=own, weight=weight, other_weight=torch.ones_like(weight[:, :1]))
