"""Marginal returns by interference scaling: a readout's least loss at every capacity."""

import torch
from torch import Tensor

from polysem import _checks
from polysem.features import SparseFeatures
from polysem.measure import IGNORED_BELOW
from polysem.returns._minima import Minima, Problem
from polysem.returns._patterns import NETWORK, check_pattern
from polysem.returns._result import Curves, CurveStatus, bend, kind_of
from polysem.returns._samples import Samples
from polysem.returns._zoo import problem_of
from polysem.zoo import ToyModel

N_POINTS = 33


@torch.no_grad()
def curve(
    model_or_samples: ToyModel | Samples,
    features: SparseFeatures | None = None,
    importance: object = None,
    *,
    C: object = None,
    pattern: str | Tensor = NETWORK,
    n_samples: int = 2048,
    seed: int = 0,
    C_min: float = IGNORED_BELOW,
    tolerance: float = 0.01,
) -> Curves:
    r"""Measure the least loss of every feature at each capacity, by scaling the interference that its readout sees.

        L_i(C) = min_{a,b} E ℓ_i(a (x_i + c √(1/C - 1) ν_i) + b, x)        ν_i = Σ_{j≠i} R_ij x_j / √(Σ_{j≠i} R_ij²)

    At C = 0 the readout is the best constant (`a = 0`). A curve may jump there: with sparse features and a ReLU the
    faintest trace of an antipodal partner tells a readout when to be silent. What `R`, `ν` and `ℓ` are:

    - `QuadraticModel`: `z = x G` with `R = G`; the one output `Σ_i x_i z_i + b` sees every pair twice, hence
      `c = √2`, and `ℓ_i = (x_i z_i + b - v_i x_i²)²` with `b` outside. In closed form, the same for every `ν`.
    - `TiedAutoencoder`, `UntiedAutoencoder`: `R = V Wᵀ`, `c = 1`, `ℓ_i = I_i (act(z_i) - x_i)²`. The identity on
      independent features in closed form; ReLU and the absolute value by the global minimum on the points; other
      activations by Newton steps from several starts. Independent features: 8 values of `x_i` and its absence, times
      stratified draws of `ν_i` and its absence; others: joint draws.
    - `HiddenLayerModel`, `ResidualMLP` with output "identity": outputs are linear in their last layer, so `z_i` is the
      output itself, the feature is its target `t(x_i)`, `R` is `zoo.sampled_response`, and `ν_i` all else in `z_i`,
      with the variance of the feature and uncorrelated with it. Whatever `ν_i` is, `L_i(C) = I_i Var t(x_i) (1 - C)`:
      a linear readout has constant returns. What neurons do about interference has happened before; the price of a
      feature sees it.
    - `Samples`: a network of one's own, by samples of features and readouts, or by its response.

    Where the pattern of a feature vanishes (it is pure, or not represented), `"network"` takes the antipodal copy
    instead, `ν_i = -x_i'` with an independent copy of the feature: the partner a ReLU model prefers. For linear
    readouts and the quadratic model the pattern changes nothing; for ReLU it decides (a parallel copy, `+x_i'`, cannot
    be told from the feature).

    Args:
        model_or_samples: a stack of toy models, or `Samples`.
        features: inputs `[n_features]` or `[n_inst, n_features]`; only with a model.
        importance: `v` or `I` `[n_features]`, with a model also `[n_inst, n_features]`; by default 1 with samples.
        C: at least two capacities in [0, 1], increasing; by default 33 from 0 to 1, as `theory.allocate_curves` asks.
        pattern: "network"; "antipodal" or "parallel" for a copy everywhere; or coefficients of the other features
            `[n_features, n_features]`, with a stack of models also `[n_inst, n_features, n_features]` (norms and
            diagonal do not matter).
        n_samples: about how many points each expectation over `x_i` and `ν_i` takes, where there is no closed form.
        seed: of the draws.
        C_min: capacity from which on curvature is measured, so that a jump at 0 does not count.
        tolerance: curvature up to which returns are constant.

    Returns:
        `Curves`, float64. Time for ReLU: one sort of `n_samples` a point. Memory: `O(n_features² + n_features ·
        n_samples)`.

    Raises:
        ValueError: capacities outside [0, 1] or not increasing, fewer than three from `C_min` on, an unknown pattern or
            one of another shape or without entries, features or importances that do not fit, a loss that is not finite.
        TypeError: neither a toy model nor samples, a model without features or importance, samples with features.

    Example:
        Measured curves of the quadratic model divide capacity as its closed forms do:

        >>> import torch
        >>> from polysem.features import SparseSign
        >>> from polysem.returns import curve
        >>> from polysem.theory import allocate, allocate_curves
        >>> from polysem.zoo import QuadraticModel
        >>> features = SparseSign.from_kurtosis([20.0, 20.0, 5.0], standardise=True)
        >>> v = [1.0, 0.9, 0.8]
        >>> curves = curve(QuadraticModel(3, 1), features, v, C=torch.linspace(0, 1, 401))
        >>> curves.kind[0].tolist()  # 2: diminishing
        [2, 2, 2]
        >>> allocate_curves(curves.C_grid, curves.losses[0], total=1).capacity
        tensor([0.5325, 0.4675, 0.0000], dtype=torch.float64)
        >>> allocate(v, [20.0, 20.0, 5.0], total=1).capacity
        tensor([0.5325, 0.4675, 0.0000], dtype=torch.float64)

    Source: ours.
    """
    grid = _grid(C, C_min)
    check_pattern(pattern)
    n_samples = _checks.whole("n_samples", n_samples, minimum=2)
    _checks.require(tolerance >= 0, "tolerance", tolerance, "non-negative")
    if isinstance(model_or_samples, Samples):
        if features is not None:
            raise TypeError(f"features must be left out with Samples, got {type(features).__name__}")
        problem = model_or_samples.problem(importance, pattern, seed)
    elif isinstance(model_or_samples, ToyModel):
        if features is None or importance is None:
            missing = "features" if features is None else "importance"
            raise TypeError(f"{missing} must be given with a model, got None")
        problem = problem_of(model_or_samples, features, importance, pattern, n_samples, seed)
    else:
        raise TypeError(f"model_or_samples must be a toy model or Samples, got {type(model_or_samples).__name__}")
    return _curves(problem, grid.to(problem.importance.device), C_min, tolerance)


def _grid(C: object, C_min: float) -> Tensor:
    grid = torch.linspace(0, 1, N_POINTS, dtype=torch.float64) if C is None else _checks.as_float64("C", C)
    good = grid.ndim == 1 and len(grid) >= 2 and bool((grid.diff() > 0).all())
    good = good and bool(((grid >= 0) & (grid <= 1)).all())
    _checks.require(good, "C", C, "at least two capacities in [0, 1], increasing")
    enough = int(grid.ge(C_min).sum()) >= 3
    _checks.require(enough, "C_min", C_min, "at most the third-largest capacity in C")
    return grid


def _curves(problem: Problem, C: Tensor, C_min: float, tolerance: float) -> Curves:
    found: Minima = problem.minima(C)
    _checks.require(bool(found.loss.isfinite().all()), "loss", "NaN or infinity", "finite for all readouts and targets")
    shape = (*problem.importance.shape, len(C))
    weight = problem.importance.flatten()[:, None]
    losses, benefit = weight * found.loss, weight * found.benefit
    if not problem.exact:
        chord = -losses.diff() / C.diff()
        benefit[:, 0] = torch.where(C[0] > 0, benefit[:, 0], chord[:, 0])
        benefit[:, -1] = torch.where(C[-1] < 1, benefit[:, -1], chord[:, -1])
    counted = C.ge(C_min)
    curvature = bend(C[counted], losses[:, counted]).reshape(shape[:-1])
    status = torch.where(found.converged, int(CurveStatus.CONVERGED), int(CurveStatus.NOT_CONVERGED))
    return Curves(
        C_grid=C,
        losses=losses.reshape(shape),
        marginal_benefit=benefit.reshape(shape),
        curvature=curvature,
        kind=kind_of(curvature, tolerance),
        slope=found.slope.reshape(shape),
        offset=found.offset.reshape(shape),
        status=status.reshape(shape),
        copied=problem.copied,
    )
