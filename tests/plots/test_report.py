"""Figures of a measured matrix: all of its numbers, few or many, and matrices with hardly any."""

import plotly.graph_objects as go
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from drawn import numbers
from polysem.measure import CapacityReport, report
from polysem.plots import report_figures


def gaussian(n: int, d: int) -> Tensor:
    W = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    return W * torch.logspace(-1, 1, n, dtype=torch.float64)[:, None]


def with_zeros(n: int, d: int) -> Tensor:
    W = gaussian(n, d)
    W[3] = W[7] = 0
    return W


@pytest.fixture(scope="module")
def few() -> CapacityReport:
    return report(with_zeros(50, 6), draws=3)


@pytest.fixture(scope="module")
def many() -> CapacityReport:
    return report(with_zeros(2300, 8), draws=2)


@pytest.fixture(scope="module")
def figures(few: CapacityReport) -> dict[str, go.Figure]:
    return dict(report_figures(few))


def test_histograms(few: CapacityReport, figures: dict[str, go.Figure]) -> None:
    observed, isotropic, covariance = figures["capacity"].data
    middle = (few.edges[1:] * few.edges[:-1]).sqrt()
    for trace, counts in (
        (observed, few.histogram),
        (isotropic, few.isotropic.histogram),
        (covariance, few.covariance.histogram),
    ):
        assert_close(numbers(trace.x), middle, rtol=0, atol=0)
        assert_close(numbers(trace.y), counts, rtol=0, atol=0)
        assert float(counts.sum()) == pytest.approx(50)
    assert_close(numbers(observed.width), few.edges.diff(), rtol=0, atol=0)
    assert "random directions" in isotropic.name
    assert "second moments" in covariance.name


def test_every_bin_that_is_used_lies_inside_the_axis(few: CapacityReport, figures: dict[str, go.Figure]) -> None:
    low, high = figures["capacity"].layout.xaxis.range
    for trace in figures["capacity"].data:
        used = numbers(trace.x)[numbers(trace.y) > 0].log10()
        assert low < float(used.min())
        assert float(used.max()) < high
    assert high - low < float(few.edges[-1].log10() - few.edges[0].log10()) + 0.3


def test_one_marker_a_feature(few: CapacityReport, figures: dict[str, go.Figure]) -> None:
    (marks,) = figures["norm"].data
    shown = few.row_norm > 0
    assert int(shown.sum()) == 48
    assert_close(numbers(marks.x), few.row_norm[shown], rtol=0, atol=0)
    assert_close(numbers(marks.y), few.capacity[shown], rtol=0, atol=0)
    assert list(marks.text) == [f"feature {i}" for i in range(50) if i not in (3, 7)]


def test_eigenvalues(few: CapacityReport, figures: dict[str, go.Figure]) -> None:
    values, mean = figures["spectrum"].data
    M = with_zeros(50, 6).T @ with_zeros(50, 6)
    assert numbers(values.x).tolist() == [1, 2, 3, 4, 5, 6]
    assert_close(numbers(values.y), torch.linalg.eigvalsh(M).flip(0), rtol=1e-9, atol=0)
    assert_close(numbers(mean.y), (M.trace() / 6).expand(2), rtol=1e-9, atol=0)
    assert "6 of 6 are present" in figures["spectrum"].layout.meta["caption"]


def test_eigenvalues_that_are_rounding_are_left_out() -> None:
    flat = report(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)) @ torch.ones(3, 8))
    assert flat.rank == 1
    values, _ = dict(report_figures(flat))["spectrum"].data
    assert numbers(values.x).tolist() == [1]


def test_many_features_become_a_density(many: CapacityReport) -> None:
    (cells,) = dict(report_figures(many))["norm"].data
    assert cells.type == "heatmap"
    counts = numbers(cells.text)
    assert int(counts.sum()) == 2298
    assert_close(numbers(cells.z)[counts > 0], counts[counts > 0].log10())
    assert bool(numbers(cells.z)[counts == 0].isnan().all())


def test_a_density_counts_features_where_they_are(many: CapacityReport) -> None:
    """Each feature belongs to the nearest cell centre, on logarithmic axes."""
    (cells,) = dict(report_figures(many))["norm"].data
    counts = torch.zeros(60, 60)
    x, y = numbers(cells.x).log10(), numbers(cells.y).log10()
    for norm, capacity in zip(many.row_norm.tolist(), many.capacity.tolist(), strict=True):
        if norm > 0:
            logs = torch.tensor([norm, capacity], dtype=torch.float64).log10()
            counts[(y - logs[1]).abs().argmin(), (x - logs[0]).abs().argmin()] += 1
    moved = (counts - numbers(cells.text)).abs().sum()
    assert moved <= 4, "at most two features may lie on an edge between cells"


@pytest.mark.parametrize(("n", "kind"), [(2000, "scatter"), (2001, "heatmap")])
def test_where_markers_end(n: int, kind: str) -> None:
    (trace,) = dict(report_figures(report(torch.ones(n, 1), draws=2)))["norm"].data
    assert trace.type == kind


def test_the_norm_policy_is_said(few: CapacityReport) -> None:
    unit = report(with_zeros(50, 6), norm="unit", draws=2)
    scaled = report(with_zeros(50, 6), scale=torch.ones(50), draws=2)
    titles = [dict(report_figures(r))["norm"].layout.xaxis.title.text for r in (few, unit, scaled)]
    assert ["norm policy" in title for title in titles] == [False, True, True]


@pytest.mark.parametrize(
    "W",
    [
        torch.zeros(5, 3),
        torch.zeros(1, 1),
        torch.zeros(0, 3),
        torch.ones(1, 4),
        torch.ones(1, 1),
        torch.ones(6, 1),
        torch.ones(2500, 2),
        torch.eye(4),
        torch.cat([torch.eye(3), torch.zeros(2500, 3)]),
        torch.randn(2, 30, generator=torch.Generator().manual_seed(0)),
        torch.ones(3, 2, dtype=torch.float64) * 1e-200,
        torch.tensor([[1.0, 0.0], [0.0, 1e-30]]),
        torch.eye(2, dtype=torch.float64) * 1e200,
    ],
    ids=str.split("zeros zero none row number dimension equal identity mostly-zeros wide tiny unequal huge"),
)
def test_degenerate_matrices(W: Tensor) -> None:
    """Figures without warnings (the suite makes them errors), and nothing in them that JSON cannot say."""
    found = report(W, draws=2)
    figures = dict(report_figures(found))
    assert list(figures) == ["capacity", "norm", "spectrum"]
    for figure in figures.values():
        text = figure.to_json()
        assert "NaN" not in text
        assert "Infinity" not in text
    observed = figures["capacity"].data[0]
    assert int(numbers(observed.y).sum()) == len(W)
