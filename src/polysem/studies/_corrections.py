"""The four corrections to the derivation of the quadratic model's loss, each with numbers over all outcomes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polysem.measure import FeatureClass, capacity, classify
from polysem.studies._outcomes import Outcomes, one_at_a_time, three_point
from polysem.theory import allocate, embed
from polysem.zoo import QuadraticObjective

AGREEMENT = 1e-10
"""Largest difference that counts as rounding, as a fraction of the larger of 1 and the value compared with."""

DISAGREEMENT = 1e-2
"""Smallest difference that counts as one, as the same fraction."""

LOSS = "L(W) = Σ_i (F_i − 1)(v_i − |W_i|²)² + 2 Σ_{i≠j} (W_i·W_j)²"


@dataclass(frozen=True)
class Check:
    """Two numbers that a correction says are equal, or that the slip takes for equal and are not.

    Attributes:
        label: what was measured, and what it is compared with.
        measured: the first number, usually by summing over all outcomes.
        compared: the second.
        agree: whether the two must be equal; else they must differ.
    """

    label: str
    measured: float
    compared: float
    agree: bool

    @property
    def difference(self) -> float:
        """How far the two are apart."""
        return abs(self.measured - self.compared)

    @property
    def holds(self) -> bool:
        """Whether the two agree to 1e-10, or differ by more than 1e-2, of `max(1, |compared|)`."""
        scale = max(1.0, abs(self.compared))
        return self.difference <= AGREEMENT * scale if self.agree else self.difference > DISAGREEMENT * scale


@dataclass(frozen=True)
class Correction:
    """One correction to the text.

    Attributes:
        title: what is corrected.
        text: what goes wrong, and what holds.
        formula: the corrected formula.
        checks: the numbers that show both.
    """

    title: str
    text: str
    formula: str
    checks: tuple[Check, ...]


def exact_losses(inputs: Outcomes, W: Tensor, v: Tensor) -> Float[Tensor, " n_matrices"]:
    """Exact loss of each embedding, by all outcomes."""
    return _each(lambda rows: inputs.loss(rows, v), W)


def formula_losses(W: Tensor, v: Tensor, kurtosis: Tensor) -> Float[Tensor, " n_matrices"]:
    """`L(W)` of each embedding, with features as rows."""
    n_matrices, n_features, d_hidden = W.shape
    shape = (n_matrices, n_features)
    return QuadraticObjective(v.expand(shape), kurtosis.expand(shape), d_hidden).loss(W.flatten(1))


def rows_correction(W: Tensor, v: Tensor, kurtosis: Tensor) -> Correction:
    """`W_i` is a row: of square matrices `[n_matrices, n_features, n_features]`, both readings are defined."""
    exact = exact_losses(_symmetric(kurtosis), W, v)
    pair = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    by_row, by_column = capacity(pair), capacity(pair.mT)
    antipodal = "an antipodal pair beside a pure feature, rows against columns"
    return Correction(
        title="Features are rows",
        text="The text uses W_i both for a row and for a column of W. The embedding of feature i is row i: read with "
        "columns, the formula misses the loss, and capacities describe dimensions instead of features. The total "
        "capacity does not betray the slip.",
        formula=f"W_i = (W_i1, …, W_iD),   ŷ = Σ_d (Σ_i x_i W_id)² + b,   {LOSS}",
        checks=(
            _worst("exact loss against the formula read with rows", exact, formula_losses(W, v, kurtosis)),
            _median("exact loss against the formula read with columns", exact, formula_losses(W.mT, v, kurtosis)),
            _differ(f"least capacity of {antipodal}", by_row.min(), by_column.min()),
            _equal(f"total capacity of {antipodal}", by_row.sum(), by_column.sum()),
        ),
    )


def independence_correction(
    W: Tensor, v: Tensor, formula: Tensor, independent: Tensor, dependent: Tensor
) -> Correction:
    """Zero covariance is not enough: the losses of `W` by the formula, with independent and with dependent inputs."""
    n = len(v)
    inputs = one_at_a_time(n)
    fourth = _fourth_moments(inputs)
    apart = ~torch.eye(n, dtype=torch.bool)
    paired = torch.einsum("iijj->ij", fourth)
    miss = v - W.square().sum(-1)
    best = allocate(v, float(n), 1)
    predicted = embed(best, 1)
    lossless = v.sqrt()[:, None]
    covariance = inputs.mean(inputs.x[:, :, None] * inputs.x[:, None])[apart].abs().max()
    represented = [(classify(capacity(rows)) != FeatureClass.IGNORED).sum() for rows in (lossless, predicted)]
    return Correction(
        title="Independence, not zero covariance",
        text="The text asks for zero covariance; the derivation needs E x_i² x_j² = E x_i² E x_j², which independence "
        f"grants and zero covariance does not. If exactly one of the {n} features is active at a time, every feature "
        "alone is distributed as before and no two are correlated, but nothing ever interferes: one dimension holds "
        "all features without loss, where the formula finds a loss and ignores features.",
        formula=f"{LOSS}   for independent x_i with E x_i = 0, E x_i² = 1, E x_i⁴ = F_i",
        checks=(
            _equal("dependent inputs: largest |E x_i x_j| against 0", covariance, 0.0),
            _equal("dependent inputs: E x_i⁴ against that of the independent", paired.diagonal().max(), float(n)),
            _differ("dependent inputs: E x_i² x_j² against that of the independent", paired[apart].max(), 1.0),
            _worst("independent inputs: exact loss against the formula", independent, formula),
            _median("dependent inputs: exact loss against the formula", dependent, formula),
            _worst(
                "dependent inputs: exact loss against N Σ_i s_i² − (Σ_i s_i)², s_i = v_i − |W_i|²",
                dependent,
                n * miss.square().sum(-1) - miss.sum(-1).square(),
            ),
            _differ(
                "dependent inputs: least loss in one dimension against the formula's",
                inputs.loss(lossless, v),
                best.loss,
            ),
            _differ(
                "dependent inputs: exact loss of the formula's best embedding against the formula's value",
                inputs.loss(predicted, v),
                best.loss,
            ),
            _differ(
                "dependent inputs: features represented at no loss against those the formula represents",
                *represented,
            ),
        ),
    )


def cumulants_correction(W: Tensor, v: Tensor, kurtosis: Tensor) -> Correction:
    """Only the kurtosis enters: the loss of `W` with inputs that differ in their other moments."""
    largest = (kurtosis - 1).sqrt()
    skewed, extreme = three_point(kurtosis, largest / 2), three_point(kurtosis, largest)
    symmetric = _symmetric(kurtosis)
    formula = formula_losses(W, v, kurtosis)
    fourth = _fourth_moments(skewed)
    alone = fourth[_unmatched(len(v))]
    return Correction(
        title="No cumulants",
        text="The text argues with joint cumulants, which are not needed. Independence and zero means alone kill every "
        "expectation in which an index stands alone; of the shape of the inputs only the kurtosis is left, whatever "
        "their third moments are.",
        formula="E x_i x_j x_k x_l = 0 if an index stands alone,   E x_i² x_j² = 1 (i ≠ j),   E x_i⁴ = F_i",
        checks=(
            _differ("skewed inputs: largest E x_i³ against 0", skewed.mean(skewed.x**3).max(), 0.0),
            _differ(
                "skewed inputs: largest E x_i⁶ against that of symmetric inputs of the same kurtosis",
                skewed.mean(skewed.x**6).max(),
                symmetric.mean(symmetric.x**6).max(),
            ),
            _equal(
                f"skewed inputs: largest |E x_i x_j x_k x_l| of the {len(alone)} with an index alone against 0",
                alone.abs().max(),
                0.0,
            ),
            _worst("skewed inputs: exact loss against the formula", exact_losses(skewed, W, v), formula),
            _worst("inputs as skewed as can be: exact loss against the formula", exact_losses(extreme, W, v), formula),
        ),
    )


def squares_correction(W: Tensor, v: Tensor, kurtosis: Tensor) -> Correction:
    """Squares and products of features carry different weights: the two parts of the loss of `W`, each by itself."""
    inputs = _symmetric(kurtosis)
    x = inputs.x
    gram = W @ W.mT
    miss = v - gram.diagonal(dim1=-2, dim2=-1)
    others = gram - torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1))
    squares = (x.square() @ miss.mT).mT
    products = torch.einsum("si,sj,nij->ns", x, x, others)
    own, shared = _each(inputs.variance, squares), _each(inputs.variance, products)
    together = _each(inputs.mean, (squares - _each(inputs.mean, squares)[:, None]) * products)
    stray_variance = _each(inputs.variance, ((x * x.roll(-1, dims=-1)) @ miss.mT).mT)
    own_formula = ((kurtosis - 1) * miss.square()).sum(-1)
    return Correction(
        title="x_i², not x_i x_j",
        text="The target is a sum of squares v_i x_i², with no stray product x_i x_j. A missed square weighs "
        "Var x_i² = F_i − 1, a product of two features Var x_i x_j = 1 (each pair stands twice in the sum, hence the "
        "2): the one written for the other gives another loss.",
        formula="y = Σ_i v_i x_i²,   y − ŷ = Σ_i (v_i − |W_i|²) x_i² − Σ_{i≠j} (W_i·W_j) x_i x_j − b",
        checks=(
            _worst("Var Σ_i s_i x_i² against Σ_i (F_i − 1) s_i², s_i = v_i − |W_i|²", own, own_formula),
            _worst(
                "Var Σ_{i≠j} (W_i·W_j) x_i x_j against 2 Σ_{i≠j} (W_i·W_j)²",
                shared,
                2 * others.square().sum((-2, -1)),
            ),
            _worst("covariance of the two against 0", together, torch.zeros_like(together)),
            _worst("sum of the two against the exact loss", own + shared, exact_losses(inputs, W, v)),
            _worst("Var Σ_i s_i x_i x_{i+1} against Σ_i s_i²", stray_variance, miss.square().sum(-1)),
            _median("Var Σ_i s_i x_i x_{i+1} against Σ_i (F_i − 1) s_i²", stray_variance, own_formula),
        ),
    )


def _symmetric(kurtosis: Tensor) -> Outcomes:
    return three_point(kurtosis, torch.zeros_like(kurtosis))


def _each(function: Callable[[Tensor], Tensor], values: Tensor) -> Float[Tensor, " n_matrices"]:
    return torch.stack([function(value) for value in values])


def _fourth_moments(inputs: Outcomes) -> Float[Tensor, "n_features n_features n_features n_features"]:
    """`E x_i x_j x_k x_l`."""
    pairs = inputs.x[:, :, None] * inputs.x[:, None]
    return torch.einsum("s,sij,skl->ijkl", inputs.chance, pairs, pairs)


def _unmatched(n_features: int) -> Tensor:
    """Whether one of the indices i, j, k, l stands alone."""
    indices = torch.stack(torch.meshgrid(*[torch.arange(n_features)] * 4, indexing="ij"), -1)
    return ((indices[..., :, None] == indices[..., None, :]).sum(-1) == 1).any(-1)


def _equal(label: str, measured: Tensor | float, compared: Tensor | float) -> Check:
    return Check(label, float(measured), float(compared), agree=True)


def _differ(label: str, measured: Tensor | float, compared: Tensor | float) -> Check:
    return Check(label, float(measured), float(compared), agree=False)


def _worst(label: str, measured: Tensor, compared: Tensor) -> Check:
    """The matrix at which two numbers that must be equal differ most."""
    i = _relative(measured, compared).argmax()
    return _equal(f"{label} (largest difference among {len(measured)} matrices)", measured[i], compared[i])


def _median(label: str, measured: Tensor, compared: Tensor) -> Check:
    """The matrix at which two numbers that must differ do so as much as at the middle one of all."""
    i = _relative(measured, compared).median(0).indices
    return _differ(f"{label} (median difference among {len(measured)} matrices)", measured[i], compared[i])


def _relative(measured: Tensor, compared: Tensor) -> Tensor:
    return (measured - compared).abs() / compared.abs().clamp(min=1)
