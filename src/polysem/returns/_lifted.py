"""The lifted problem: the loss at prescribed capacities where dimensions are no constraint, and its multipliers."""

from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polysem import _checks
from polysem.features import SparseFeatures
from polysem.returns._augmented import Constrained, Ended, minimise
from polysem.returns._multipliers import n_ways, settle
from polysem.training import newton
from polysem.zoo import Autoencoder, QuadraticModel, ToyModel

ROUNDING = 1e-9
"""How far below 1 prescribed capacities may sum."""
NOISE = 1e-2
"""Disturbance of a model's rows at the start, relative to the largest singular direction, so that none is 0."""
EQUAL = 1e-7
"""Relative difference of losses that count as the same minimum."""
SCALES = tuple(4.0**k for k in range(-10, 11))
"""Scales of the starting rows, of which the one with the lowest loss is taken."""


class LiftedStatus(IntEnum):
    """How the lifted problem of an instance ended."""

    CONVERGED = 0
    """At a minimum at the prescribed capacities; multipliers are determined."""
    ONE_SIDED = 1
    """At a minimum where gradients of capacities depend on each other in one way, as on the edge of what can be reached
    (`Σ c_i = 1`) or in a tight frame: the least loss has a kink, and multipliers hold towards more capacity."""
    UNDETERMINED = 2
    """The same in several ways: the loss is the least one found, multipliers are some of many."""
    NOT_CONVERGED = 3
    """No start reached a minimum at the prescribed capacities."""
    INFEASIBLE = 4
    """Rows that also read cannot have these capacities, in any dimension."""


@dataclass(frozen=True)
class Lifted:
    """The least loss at prescribed capacities, and how it changes with them.

    Attributes:
        multiplier: `dL*/dC_i` `[n_inst, n_features]`, negative where capacity helps; 0 for capacities 0 and 1.
        loss: `L*` `[n_inst]`; infinite where infeasible.
        capacity: capacities that were reached.
        violation: largest `|C_i - c_i|`.
        gradient_norm: largest entry of the Lagrangian's gradient, relative to largest curvature times parameter;
            infinite where infeasible.
        status: a `LiftedStatus` for each instance.
        share_at_best: share of the starts that ended at `loss`.
        model: the widened stack at the minima; all 0 where infeasible.
    """

    multiplier: Float[Tensor, "n_inst n_features"]
    loss: Float[Tensor, " n_inst"]
    capacity: Float[Tensor, "n_inst n_features"]
    violation: Float[Tensor, " n_inst"]
    gradient_norm: Float[Tensor, " n_inst"]
    status: Int[Tensor, " n_inst"]
    share_at_best: Float[Tensor, " n_inst"]
    model: ToyModel


@torch.no_grad()
def lifted(
    model: ToyModel,
    features: SparseFeatures,
    importance: object,
    capacity: object,
    *,
    n_starts: int = 8,
    seed: int = 0,
    tolerance: float = 1e-9,
) -> Lifted:
    r"""Minimise the exact loss at prescribed capacities in as many dimensions as there are features.

        L*(c) = min_{W ∈ R^{N×N}} L(W)   subject to   C_i(W) = c_i;        dL*/dc_i is the multiplier

    The reference for marginal returns: nothing is assumed about interference, and dimensions bound nothing, so that
    each capacity can be moved alone. On the quadratic model it agrees with `theory` wherever a positive semidefinite
    Gram matrix with the best norms and these capacities exists: at every optimal allocation, and often but not always
    elsewhere. More than N dimensions change nothing. With tied rows `Σ c_i >= 1` over features with `0 < c_i < 1` is
    what can be reached; untied readouts can have any capacities.

    An augmented Lagrangian, with Newton steps inside, from the model's weights and from random ones; the best end of
    all is returned. Losses at prescribed capacities can have local minima: those of ReLU models do.

    Args:
        model: a stack of `QuadraticModel`, `TiedAutoencoder` or `UntiedAutoencoder` with an exact loss. Its weights are
            the first start of each instance.
        features: inputs, of shape `[n_features]` or `[n_inst, n_features]`.
        importance: `v` or `I` `[n_features]` or `[n_inst, n_features]`.
        capacity: `c` in [0, 1] `[n_features]` or `[n_inst, n_features]`. At exactly 0 the row is 0, at exactly 1 the
            readout sees no other feature: what holds there by construction has no multiplier.
        n_starts: starts of each instance.
        seed: of the random ones.
        tolerance: largest violation that counts as reached.

    Returns:
        `Lifted`, float64.

    Raises:
        ValueError: capacities outside [0, 1] or of another shape, a model or features without an exact loss, a
            tolerance that is not positive.
        TypeError: another model.

    Example:
        Three features that share two dimensions; at the optimum all multipliers are minus the price:

        >>> from polysem.features import SparseSign
        >>> from polysem.returns import lifted
        >>> from polysem.theory import allocate
        >>> from polysem.zoo import QuadraticModel
        >>> features = SparseSign.from_kurtosis([20.0, 20.0, 20.0], standardise=True)
        >>> best = allocate([1.0, 0.9, 0.8], 20.0, total=2)
        >>> found = lifted(QuadraticModel(3, 2), features, [1.0, 0.9, 0.8], best.capacity)
        >>> round(best.price.item(), 5), [round(price, 5) for price in found.multiplier[0].tolist()]
        (3.28961, [-3.28961, -3.28961, -3.28961])

    Source: ours.
    """
    n_starts = _checks.whole("n_starts", n_starts)
    _checks.require(tolerance > 0, "tolerance", tolerance, "positive")
    if not isinstance(model, QuadraticModel | Autoencoder):
        kinds = "QuadraticModel, TiedAutoencoder or UntiedAutoencoder"
        raise TypeError(f"model must be a {kinds}, got {type(model).__name__}")
    c = _capacities(model, capacity)
    generator = torch.Generator().manual_seed(seed)
    wide = _widened(model, generator)
    objective = wide.objective(features, importance)
    tied = wide.readout is wide.embedding
    bound = (c > 0) & (c < 1)
    problem = Constrained(objective, c, bound, objective.pack(_free(c, tied)), model.n_features, tied)
    spare = torch.where(tied & bound.any(-1), (c * bound).sum(-1) - 1, torch.inf)
    infeasible, on_a_line = spare < -ROUNDING, spare.abs() <= ROUNDING
    narrow = replace(problem, free=problem.free * objective.pack(_on_axis(bound, on_a_line)))

    theta, multiplier = torch.zeros_like(problem.free), torch.zeros_like(c)
    loss, gradient_norm = (torch.full_like(c[:, 0], torch.inf) for _ in range(2))
    share = torch.zeros_like(loss)
    status = torch.full_like(infeasible, LiftedStatus.INFEASIBLE, dtype=torch.int64)
    some = (~infeasible).nonzero()[:, 0]
    if len(some):
        instances = some.repeat_interleave(n_starts)
        stack = narrow.select(instances)
        end = minimise(stack, _starts(model, stack, instances, generator), tolerance)
        chosen, share[some] = _choose(stack, end, n_starts)
        theta[some], reached = end.theta[chosen], end.reached[chosen]
        part = problem.select(some)
        multiplier[some] = settle(part, theta[some], end.multiplier[chosen])
        loss[some] = part.exact.loss(theta[some])
        lagrangian = part.lagrangian(multiplier[some])
        gradient_norm[some] = newton(lagrangian, theta[some], max_steps=0, tolerance=tolerance).gradient_norm
        ways = n_ways(part.slopes(theta[some])).clamp(max=int(LiftedStatus.UNDETERMINED))
        status[some] = torch.where(reached, ways, int(LiftedStatus.NOT_CONVERGED))
    wide.load_state_dict(wide.state_dict() | objective.unpack(theta))
    return Lifted(
        multiplier=0.0 - multiplier,
        loss=loss,
        capacity=problem.capacity(theta),
        violation=problem.violation(theta),
        gradient_norm=gradient_norm,
        status=status,
        share_at_best=share,
        model=wide,
    )


def _capacities(model: ToyModel, capacity: object) -> Float[Tensor, "n_inst n_features"]:
    """Capacities of each instance, checked."""
    c = _checks.as_float64("capacity", capacity).to(model.embedding.device)
    shape = (model.n_inst, model.n_features)
    allowed = f"[n_features] or [n_inst, n_features] = {(shape[1:], shape)}"
    _checks.require(tuple(c.shape) in (shape[1:], shape), "shape of capacity", tuple(c.shape), allowed)
    _checks.require(bool(((c >= 0) & (c <= 1)).all()), "capacity", capacity, "in [0, 1]")
    return c.expand(shape)


def _widened(model: QuadraticModel | Autoencoder, generator: torch.Generator) -> QuadraticModel | Autoencoder:
    """A stack of the same family, with a dimension for each feature."""
    n, n_inst, device = model.n_features, model.n_inst, model.embedding.device
    if isinstance(model, QuadraticModel):
        return QuadraticModel(n, n, n_inst=n_inst, generator=generator, device=device)
    return type(model)(n, n, n_inst=n_inst, activation=model.activation, generator=generator, device=device)


def _free(c: Float[Tensor, "n_inst n"], tied: bool) -> dict[str, Tensor]:
    """1 for entries that may move: the rows of ignored features are 0, and pure readout i has axis i to itself."""
    n = c.shape[-1]
    others = ~torch.eye(n, dtype=torch.bool, device=c.device)
    shared, pure = (c > 0)[..., None].expand(-1, -1, n), c == 1
    W, V = shared & ~(pure[:, None, :] & others), shared & ~(pure[..., None] & others)
    if tied:
        W = W & V
    return {"W": W.to(c), "V": V.to(c), "b": torch.ones_like(c)}


def _on_axis(bound: Bool[Tensor, "n_inst n"], on_a_line: Bool[Tensor, " n_inst"]) -> dict[str, Tensor]:
    """The same where capacities between 0 and 1 sum to 1: rows on a line alone have them, here on one of their axes."""
    axis = torch.nn.functional.one_hot(bound.int().argmax(-1), bound.shape[-1]).bool()
    W = ~(on_a_line[:, None, None] & bound[..., None] & ~axis[:, None])
    return {"W": W.double(), "V": torch.ones_like(W).double(), "b": torch.ones_like(bound).double()}


def _starts(
    model: QuadraticModel | Autoencoder, stack: Constrained, instances: Int[Tensor, " k"], generator: torch.Generator
) -> Float[Tensor, "k n_parameters"]:
    """The model itself, slightly disturbed, first among the starts of an instance; for others random rows, no biases.

    Random rows have the scale at which the loss is lowest.
    """
    k, n = stack.target.shape
    zero = torch.zeros_like(stack.target)
    W, V = (torch.randn(k, n, n, generator=generator, dtype=torch.float64).to(zero) for _ in range(2))
    theta = stack.exact.pack({"W": W, "V": V, "b": zero}) * stack.free
    losses = torch.stack([stack.exact.loss(scale * theta) for scale in SCALES])
    theta = theta * torch.tensor(SCALES).to(theta)[losses.argmin(0)][:, None]

    left, values, right = torch.linalg.svd(model.response().double()[instances])
    noise = NOISE * values[:, :1, None].sqrt()
    turn = values.sqrt()[..., None] * left.mT  # gives what is orthogonal to all else the axis of its feature
    W, V = right.mT @ turn + noise * W, left @ turn + noise * V
    b = model.b.double()[instances] if isinstance(model, Autoencoder) else zero
    own = stack.exact.pack({"W": W, "V": V, "b": b})
    first = torch.cat([torch.ones_like(instances[:1]), instances.diff()]) != 0
    return torch.where((first & (values[:, 0] > 0))[:, None], own, theta)


def _choose(stack: Constrained, end: Ended, n_starts: int) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
    """Which start of each instance ended best, and the share of those that ended at its loss.

    Among equals, one whose multipliers are determined; where none has arrived, the one nearest to its capacities.
    """
    loss = torch.where(end.reached, stack.exact.loss(end.theta), torch.inf).reshape(-1, n_starts)
    least = loss.amin(-1, keepdim=True)
    nothing = stack.exact.loss(torch.zeros_like(end.theta)).reshape(-1, n_starts)
    equal = loss <= least + EQUAL * least.abs() + EQUAL**2 * nothing
    ways = n_ways(stack.slopes(end.theta)).reshape(-1, n_starts)
    rank = torch.where(equal, ways, stack.target.shape[-1] + 1).double()
    near = stack.violation(end.theta).reshape(-1, n_starts)
    best = torch.where(least.isfinite(), rank, near).argmin(-1)
    share = (equal & loss.isfinite()).double().mean(-1)
    return torch.arange(len(best), device=best.device) * n_starts + best, share
