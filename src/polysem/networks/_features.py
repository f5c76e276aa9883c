"""Features in recorded states: from labels, probes, the latents of a dictionary, or single inputs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from polysem import _checks
from polysem.measure import response_capacity
from polysem.networks._directions import DRAWS, DirectionsNull, FeatureDirections, turned
from polysem.returns import Reading, reading

PENALTIES = tuple(10.0**k for k in range(-6, 5))
BLOCK_ELEMENTS = 2**23
"""Features dealt out at random are measured so many values at a time."""

Labels = Int[Tensor, "n_samples *positions"] | Bool[Tensor, "n_samples *positions n_features"] | Sequence[str]
How = Callable[[Tensor, Tensor], Reading]
"""From states and features what the features are in the states."""


def features_from_labels(
    states: Float[Tensor, "n_samples *positions d_hidden"],
    labels: Labels,
    *,
    names: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> FeatureDirections:
    """Find the directions of labelled features: differences of means, and what reads them best.

        W_j = (E[h | f_j] - E[h | not f_j]) √(p_j (1 - p_j)),     V: ridge regression of f on h

    Rows carry the standard deviation of a feature that is there in a share `p_j` of the samples. Readouts are fitted on
    a random half of the samples, and all else is measured on the other. Classes exclude each other: `n` equally
    frequent ones, perfectly told apart, have capacities `1 - 1/n`, since each is also the absence of the others.

    Args:
        states: as `record` gives them.
        labels: the class of every sample (and position): whole numbers from 0 on, or strings; or, for features that
            may come together, whether each is there (bool).
        names: of the features, in order; by default their numbers, or the strings.
        draws: of the null, at least 2: labels dealt out to other samples.
        seed: seeds them, and the halves.

    Returns:
        `FeatureDirections`, float64; `explained` is the squared correlation on the samples that readouts have not seen.

    Raises:
        ValueError: labels of another shape, a negative class, names that do not fit, fewer than four samples or two
            draws, states that are not finite.
        TypeError: states that are no floating tensor, labels that are neither.

    Example:
        >>> import torch
        >>> from polysem.networks import features_from_labels
        >>> label = torch.arange(5000) % 5
        >>> h = torch.eye(5)[label] @ torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
        >>> [round(C, 1) for C in features_from_labels(h, label).capacity.tolist()]
        [0.8, 0.8, 0.8, 0.8, 0.8]

    Source: ours.
    """
    h = _states(states)
    f, found = _indicators(labels, h)
    return _measured(h, f, _named(names, found, f.shape[-1]), reading, draws, seed)


def features_from_probes(
    states: Float[Tensor, "n_samples *positions d_hidden"],
    targets: Float[Tensor, "n_samples *positions n_features"],
    *,
    names: Sequence[str] | None = None,
    penalties: Sequence[float] = PENALTIES,
    draws: int = DRAWS,
    seed: int = 0,
) -> FeatureDirections:
    """Find the directions of features with values by linear probes: ridge regressions with a penalty each.

        V_i = argmin_v E |f_i - v·(h - E h)|² + α_i |v|²,     W_j = Cov(h, f_j) / sd f_j

    Penalties are chosen for each feature by leave-one-out cross-validation (scikit-learn's `RidgeCV`) on a random half
    of the samples; all else is measured on the other. Features that are correlated appear in each other's slopes.

    Args:
        states: as `record` gives them.
        targets: values of the features.
        names: of the features; by default their numbers.
        penalties: to choose from, relative to the number of samples and the mean variance of the state's entries.
        draws: of the null, at least 2: targets of other samples, probed in the same way.
        seed: seeds them, and the halves.

    Returns:
        `FeatureDirections`, float64; `explained` is `R²` on the samples that the probes have not seen, negative where a
        probe is worse than the mean.

    Raises:
        ValueError: targets of another shape, penalties that are not positive, fewer than four samples or two draws,
            values that are not finite.
        TypeError: something that is no floating tensor.
        ModuleNotFoundError: scikit-learn is missing.

    Example:
        >>> import torch
        >>> from polysem.networks import features_from_probes
        >>> x = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
        >>> found = features_from_probes(x @ torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), x)
        >>> [round(C, 1) for C in found.capacity.tolist()], [round(R2, 1) for R2 in found.explained.tolist()]
        ([1.0, 0.5, 0.5], [1.0, 0.5, 0.5])

    Source: ours.
    """
    h = _states(states)
    f = _checks.matrix("targets", targets)
    _fits("targets", f.shape[:-1], h)
    good = len(penalties) > 0 and all(0 < penalty < float("inf") for penalty in penalties)
    _checks.require(good, "penalties", penalties, "positive and finite")
    return _measured(h, f, _named(names, None, f.shape[-1]), _probe(penalties), draws, seed)


def features_from_dictionary(
    states: Float[Tensor, "n_samples *positions d_in"],
    latents: Float[Tensor, "n_samples *positions d_sae"],
    *,
    encoder: Float[Tensor, "d_sae d_in"],
    decoder: Float[Tensor, "d_sae d_in"],
    names: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> FeatureDirections:
    """Take the latents of a sparse autoencoder (or transcoder) for features: decoder rows in, encoder rows out.

    `W_i = sd(latent_i) · decoder_i`, `V_i = encoder_i`: rows at the scale at which latents are active. A latent that
    never changes on these states has capacity 0.

    Args:
        states: as `record` gives them, that the autoencoder reads.
        latents: their activations on these states, after the activation function.
        encoder: what reads each latent, **as rows** (`W_enc.mT` where it is stored `[d_in, d_sae]`).
        decoder: what each latent writes, as rows.
        names: of the latents; by default their numbers.
        draws: of the null, at least 2: each decoder row turned at random together with its encoder row.
        seed: seeds them.

    Returns:
        `FeatureDirections`, float64; `explained` is the squared correlation of `V_i·h` with the latent, which an
        activation function lowers.

    Raises:
        ValueError: shapes that do not fit, fewer than two draws, values that are not finite.
        TypeError: something that is no floating tensor.

    Example:
        >>> import torch
        >>> from polysem.networks import features_from_dictionary
        >>> h = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
        >>> both_signs = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> latents = (h @ both_signs.mT).relu()
        >>> found = features_from_dictionary(h, latents, encoder=both_signs, decoder=both_signs)
        >>> [round(C, 1) for C in found.capacity.tolist()]
        [0.5, 0.5, 0.5, 0.5]

    Source: ours.
    """
    h = _states(states)
    f = _checks.matrix("latents", latents)
    _fits("latents", f.shape[:-1], h)
    found = reading(h, f, embedding=decoder, readout=encoder, held_out=False)
    return _turned(_named(names, None, f.shape[-1]), found, draws, seed)


def features_from_inputs(
    states: Float[Tensor, "n_features d_hidden"],
    *,
    baseline: Float[Tensor, " d_hidden"] | None = None,
    readout: Float[Tensor, "n_features d_hidden"] | None = None,
    scale: Float[Tensor, " n_features"] | None = None,
    names: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> FeatureDirections:
    """Take inputs that are there alone for features: one-hot inputs, tokens, single pixels.

    `W_i = scale_i (h(input i) - h(nothing))`. What the network does when several are there at once is not seen.

    Args:
        states: the state of input i in row i.
        baseline: the state of no input; the mean of the rows by default.
        readout: readouts as rows, say of an unembedding; by default the embedding itself, so that capacities are those
            of its rows.
        scale: activation scale of each feature; 1 by default.
        names: of the features; by default their numbers.
        draws: of the null, at least 2: each row turned at random together with its readout.
        seed: seeds them.

    Returns:
        `FeatureDirections`, float64; `explained` is the squared correlation of each readout with its input over these
        inputs.

    Raises:
        ValueError: shapes that do not fit, fewer than two draws, values that are not finite, a negative scale.
        TypeError: something that is no floating tensor.

    Example:
        >>> import torch
        >>> from polysem.networks import features_from_inputs, record
        >>> model = torch.nn.Linear(3, 2)
        >>> weight = torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> _ = model.load_state_dict({"weight": weight, "bias": torch.ones(2)})
        >>> with record(model, [""]) as seen:
        ...     _ = model(torch.cat([torch.zeros(1, 3), torch.eye(3)]))
        >>> features_from_inputs(seen[""][1:], baseline=seen[""][0]).capacity.tolist()
        [0.5, 0.5, 1.0]

    Source: ours.
    """
    h = _states(states, least=2)
    _checks.require(h.ndim == 2, "shape of states", tuple(h.shape), "[n_features, d_hidden], at one position")
    n, d = h.shape
    for name, value, shape in (("baseline", baseline, (d,)), ("readout", readout, (n, d)), ("scale", scale, (n,))):
        if value is not None:
            found = tuple(_checks.floating(name, value).shape)
            _checks.require(found == shape, f"shape of {name}", found, f"{shape}")
            _checks.finite_rows(name, value.reshape(-1, 1))
    if scale is not None:
        _checks.require(bool((scale >= 0).all()), "scale", scale, "non-negative")
    W = h - (h.mean(0) if baseline is None else baseline.double())
    W = W if scale is None else W * scale.double()[:, None]
    V = W if readout is None else readout.double()
    centred = h - h.mean(0)
    # Over these inputs a feature is there once: Cov(z_i, x_i) = z_ii / n, Var x_i = (n - 1) / n².
    spread = (n - 1) * (V @ (centred.mT @ centred / n) * V).sum(-1)
    own = torch.linalg.vecdot(V, centred).square()
    explained = (own / torch.where(spread > 0, spread, torch.inf)).clamp(max=1)
    return _turned(_named(names, None, n), Reading(W, V, h.mean(0), explained), draws, seed)


def _states(states: object, least: int = 4) -> Tensor:
    h = _checks.matrix("states", states).double()
    _checks.require(len(h) >= least, "number of states", len(h), f"at least {least}")
    return h


def _fits(name: str, shape: Sequence[int], h: Tensor) -> None:
    _checks.require(tuple(shape) == h.shape[:-1], f"shape of {name}", tuple(shape), f"{tuple(h.shape[:-1])}, as states")


def _indicators(labels: object, h: Tensor) -> tuple[Tensor, tuple[str, ...] | None]:
    """Whether each feature is there, and what the features are called if the labels say so."""
    if not isinstance(labels, Tensor):
        good = isinstance(labels, Sequence) and not isinstance(labels, str) and all(isinstance(k, str) for k in labels)
        if not good or not isinstance(labels, Sequence):
            raise TypeError(
                f"labels must be a tensor of whole numbers or bool, or strings, got {_checks.short(labels)}"
            )
        found = tuple(sorted(set(labels)))
        number = {name: k for k, name in enumerate(found)}
        labels = torch.tensor([number[label] for label in labels], device=h.device)
    elif labels.dtype == torch.bool:
        _fits("labels", labels.shape[:-1], h)
        return labels.to(h), None
    elif labels.is_floating_point() or labels.is_complex():
        raise TypeError(f"labels must be whole numbers or bool, got {labels.dtype} (values: features_from_probes)")
    else:
        found = None
    _fits("labels", labels.shape, h)
    _checks.require(int(labels.min()) >= 0, "labels", int(labels.min()), "classes from 0 on")
    return functional.one_hot(labels.long()).to(h), found


def _named(names: Sequence[str] | None, found: tuple[str, ...] | None, n: int) -> tuple[str, ...]:
    if names is None:
        return found or tuple(map(str, range(n)))
    _checks.require(len(names) == n, "number of names", len(names), f"that of the features, {n}")
    return tuple(names)


def _measured(h: Tensor, f: Tensor, names: tuple[str, ...], how: How, draws: int, seed: int) -> FeatureDirections:
    """Directions, and capacities where features are dealt out to other samples; `how` gets random halves."""
    generator = torch.Generator().manual_seed(_checks.whole("seed", seed, 0))
    order = torch.randperm(len(h), generator=generator).to(h.device)
    h, f = h[order], f[order]
    found = how(h, f)
    null = torch.cat(list(_permuted(h, f, how, _checks.whole("draws", draws, 2), generator)))
    return FeatureDirections(names, found.embedding, found.readout, found.explained, null, DirectionsNull.PERMUTED)


def _permuted(h: Tensor, f: Tensor, how: How, draws: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Capacities of some draws at a time, as if all were further features of one state."""
    orders = [torch.randperm(len(f), generator=generator).to(f.device) for _ in range(draws)]
    step = max(1, BLOCK_ELEMENTS // f.numel())
    for start in range(0, draws, step):
        some = orders[start : start + step]
        drawn = how(h, torch.cat([f[order] for order in some], -1))
        W, V = (rows.reshape(len(some), f.shape[-1], -1) for rows in (drawn.embedding, drawn.readout))
        yield response_capacity(W, V)


def _probe(penalties: Sequence[float]) -> How:
    try:
        from sklearn.linear_model import RidgeCV
    except ModuleNotFoundError:
        message = 'probes need scikit-learn: pip install "polysem[studies]"'
        raise ModuleNotFoundError(message, name="sklearn") from None

    def probe(h: Tensor, f: Tensor) -> Reading:
        fitted, rest = slice(0, None, 2), slice(1, None, 2)  # as `reading` has them
        x, y = (values[fitted].flatten(0, -2).cpu().numpy() for values in (h, f))
        unit = len(x) * float(x.var(0).mean())
        ridge = RidgeCV([penalty * unit if unit else penalty for penalty in penalties], alpha_per_target=True)
        V = torch.from_numpy(ridge.fit(x, y).coef_).to(h)
        left = (f[rest] - h[rest] @ V.mT - torch.as_tensor(ridge.intercept_).to(h)).flatten(0, -2)
        variance = f[rest].flatten(0, -2).var(0, correction=0)
        share = left.square().mean(0) / torch.where(variance > 0, variance, 1.0)
        return replace(reading(h, f, readout=V), explained=torch.where(variance > 0, 1 - share, 0.0))

    return probe


def _turned(names: tuple[str, ...], found: Reading, draws: int, seed: int) -> FeatureDirections:
    null = turned(found.embedding, found.readout, _checks.whole("draws", draws, 2), _checks.whole("seed", seed, 0))
    return FeatureDirections(names, found.embedding, found.readout, found.explained, null, DirectionsNull.TURNED)
