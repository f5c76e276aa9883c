"""The phase diagram shows the study's cells, the formula's lines and the six points where they belong."""

import plotly.graph_objects as go
import pytest
import torch
from torch.testing import assert_close

from drawn import numbers
from polysem.features import SparseUniform
from polysem.plots import phase_figures, trained_phase_figure
from polysem.plots._style import CAPACITY_SCALE
from polysem.studies import POINTS, PhaseConfig, PhaseDiagram, TrainedPhaseConfig, phase_diagram, trained_phases


@pytest.fixture(scope="module")
def result() -> PhaseDiagram:
    return phase_diagram(PhaseConfig(n_kurtosis=6, n_ratio=8, restarts=4))


@pytest.fixture(scope="module")
def figures(result: PhaseDiagram) -> dict[str, go.Figure]:
    return dict(phase_figures(result, POINTS))


def test_cells(result: PhaseDiagram, figures: dict[str, go.Figure]) -> None:
    assert list(figures) == ["theory", "trained"]
    for name, capacity in (("theory", result.theory), ("trained", result.trained)):
        cells = figures[name].data[0]
        assert_close(numbers(cells.z), capacity[..., 1], rtol=0, atol=0)
        assert_close(numbers(cells.x), result.kurtosis, rtol=0, atol=0)
        assert_close(numbers(cells.y), result.ratio, rtol=0, atol=0)
        assert (cells.zmin, cells.zmax) == (0, 1)
        assert [list(stop) for stop in cells.colorscale] == CAPACITY_SCALE
    assert not torch.equal(result.theory, result.trained)


def test_boundaries_lie_on_the_formula(figures: dict[str, go.Figure]) -> None:
    for figure in figures.values():
        lower, upper = figure.data[1:3]
        for line, formula in ((lower, lambda F: 2 / (F - 1)), (upper, lambda F: (F - 1) / 2)):
            for F, ratio in zip(numbers(line.x).tolist(), numbers(line.y).tolist(), strict=True):
                assert ratio == pytest.approx(formula(F) if F > 3 else 1.0, rel=1e-12)
            assert numbers(line.x)[0] == pytest.approx(1.2)
            assert numbers(line.x)[-1] == pytest.approx(40.0)
            assert float((numbers(line.x)[1:] / numbers(line.x)[:-1]).max()) < 1.02  # fine enough to look smooth


@pytest.mark.parametrize("span", [(1.2, 2.5), (5.0, 9.0)])
def test_boundaries_on_either_side_of_three(span: tuple[float, float]) -> None:
    config = PhaseConfig(n_kurtosis=2, n_ratio=2, restarts=1, kurtosis_range=span)
    figure = dict(phase_figures(phase_diagram(config), POINTS))["theory"]
    lower, upper = figure.data[1:3]
    F = numbers(lower.x)
    assert float(F.min()) == pytest.approx(span[0])
    assert float(F.max()) == pytest.approx(span[1])
    assert_close(numbers(lower.y), torch.where(F > 3, 2 / (F - 1), 1.0), rtol=1e-12, atol=0)
    assert_close(numbers(upper.y), torch.where(F > 3, (F - 1) / 2, 1.0), rtol=1e-12, atol=0)


def test_points_at_their_coordinates(figures: dict[str, go.Figure]) -> None:
    expected = {"A": (2.0, 0.8), "B": (2.0, 1.0), "C": (3.0, 1.0), "D": (6.0, 1.0), "E": (6.0, 0.6), "F": (6.0, 0.3)}
    for figure in figures.values():
        marks = figure.data[3]
        assert dict(zip(marks.text, zip(marks.x, marks.y, strict=True), strict=True)) == expected
        assert all(text.startswith(f"{name}: ") for name, text in zip(marks.text, marks.hovertext, strict=True))


def test_axes_span_the_grid(result: PhaseDiagram, figures: dict[str, go.Figure]) -> None:
    for figure in figures.values():
        for axis, values in ((figure.layout.xaxis, result.kurtosis), (figure.layout.yaxis, result.ratio)):
            assert axis.type == "log"
            assert_close(torch.tensor(axis.range, dtype=torch.float64), values[[0, -1]].log10())


def test_the_upper_axis_names_the_density_of_each_kurtosis(figures: dict[str, go.Figure]) -> None:
    for figure in figures.values():
        axis = figure.layout.xaxis2
        assert axis.matches == "x"
        for kurtosis, density in zip(axis.tickvals, axis.ticktext, strict=True):
            assert 1 / kurtosis == pytest.approx(float(density))


def test_captions_state_the_deviation(result: PhaseDiagram, figures: dict[str, go.Figure]) -> None:
    caption = figures["trained"].layout.meta["caption"]
    assert f"{result.deviation:.1e}" in caption
    assert f"{result.boundary_offset:.2f} cells" in caption


@pytest.mark.parametrize(("name", "signed"), [("quadratic", True), ("tied identity", False)])
def test_another_model_beside_the_lines_of_theory(name: str, signed: bool) -> None:
    """Its own capacities, and its own features' densities, under the same lines."""
    found = trained_phases(TrainedPhaseConfig(architecture=name, n_kurtosis=4, n_ratio=6, restarts=4))
    figure = trained_phase_figure(found, POINTS)
    cells, lower = figure.data[:2]
    assert_close(numbers(cells.z), found.trained[..., 1], rtol=0, atol=0)
    told = torch.as_tensor(cells.customdata)
    assert_close(told[..., 0], found.trained[..., 0], rtol=0, atol=0)
    assert_close(told[:, 2, 1], found.feature_probability[2].expand(6), rtol=0, atol=0)
    assert float(numbers(lower.y)[-1]) == pytest.approx(2 / 39)
    assert list(figure.data[3].text) == list("ABCDEF")
    axis = figure.layout.xaxis2
    for kurtosis, density in zip(axis.tickvals, axis.ticktext, strict=True):
        assert float(SparseUniform(float(density), signed=signed).kurtosis) == pytest.approx(kurtosis)
    off = float((found.trained - found.theory).abs().mean())
    assert (off < 1e-6) == (name == "quadratic")
    assert f"differ by {off:.2g} on average" in figure.layout.meta["caption"]
