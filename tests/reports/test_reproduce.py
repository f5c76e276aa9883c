"""The quick report: every experiment in it, its numbers at their goals, its figures those of the experiments."""

import json
import re
from dataclasses import fields, replace

import pytest

from html_page import Page
from polysem import plots, studies
from polysem.reports import ReproduceConfig, Reproduction, reproduce, reproduce_titles


def test_settings() -> None:
    default, quick = ReproduceConfig.of(), ReproduceConfig.of(seed=3, quick=True)
    assert default == ReproduceConfig()
    assert default.phase.n_kurtosis == default.phase.n_ratio == 64
    for name in (
        "points",
        "phase",
        "trained",
        "superposition",
        "superposition_three",
        "geometry",
        "comparison",
        "without_diminishing",
        "prediction",
        "transformer",
        "errata",
    ):
        assert getattr(default, name).seed == 0
        assert getattr(quick, name).seed == 3
    cells = quick.phase.n_kurtosis * quick.phase.n_ratio * quick.phase.restarts
    assert cells < default.phase.n_kurtosis * default.phase.n_ratio * default.phase.restarts / 5
    assert quick.trained.restarts < default.trained.restarts


def test_progress_is_told_before_each_chapter(reproduction: Reproduction, titles: list[str]) -> None:
    assert titles == [*reproduce_titles().values()]
    assert tuple(chapter.title for chapter in reproduction.chapters) == ("Summary", *titles)


def test_every_experiment_has_a_chapter(reproduction: Reproduction) -> None:
    names = {part.name for chapter in reproduction.chapters for part in (chapter, *chapter.parts)}
    assert {field.name for field in fields(ReproduceConfig)} <= names
    headings = "".join(Page(reproduction.html).text("h2"))
    assert all(title in headings for title in reproduce_titles().values())


def test_the_summary_meets_its_goals(reproduction: Reproduction) -> None:
    lines = {label: (measured, goal) for label, measured, goal in reproduction.summary.rows}
    assert len(lines) == len(reproduction.summary.rows) == 63
    for label, (measured, goal) in lines.items():
        if "largest" in label or "excess" in label:
            assert goal == "0"
            assert abs(float(measured)) < 1e-6, label
    (boundary,) = (measured for label, (measured, _) in lines.items() if "boundary" in label)
    assert float(boundary.removesuffix(" cells")) <= 1
    assert lines["Phase diagram: cells in the predicted phase"][0] == "100.00%"
    (share,) = (measured for label, (measured, _) in lines.items() if label.endswith("starts that reach the optimum"))
    assert share == "100%"
    ((bought, fallen),) = (values for label, values in lines.items() if label.startswith("Width"))
    assert float(bought) == pytest.approx(float(fallen), rel=1e-3)
    assert float(fallen) > 1
    assert lines["Geometry: 5 features in a plane, p = 0.05"] == ("1 × pentagon", "1 × pentagon")
    sticky = [values for label, values in lines.items() if "0.02 of a polytope" in label]
    assert len(sticky) == 2
    for (measured, null), factor in zip(sticky, (1.5, 2), strict=True):  # over all p, and where most stick
        assert int(measured.removesuffix("%")) > factor * int(null.removeprefix("random directions ").removesuffix("%"))
    ((sizes, _),) = (values for label, values in lines.items() if "biggest block" in label)
    quadratic, relu = map(int, re.findall(r"\d+", sizes))
    assert quadratic > 3 * relu
    ((measured, _),) = (values for label, values in lines.items() if "lowest loss" in label)
    assert float(measured.split()[0]) < 0.5
    (rising,) = (measured for label, (measured, _) in lines.items() if label.endswith("than at 1"))
    assert rising in ("1 of 5", "2 of 5", "3 of 5")  # the linear model and the one with two neurons too few do not
    distance, limit = lines["Ties, N = 4, D = 2: capacities against random subspaces (Kolmogorov–Smirnov)"]
    assert float(distance) < float(limit.split()[1])
    assert float(lines["Ties: spread of the losses, relative"][0]) < 1e-12
    saved = [values for label, values in lines.items() if "pair, F" in label]
    assert saved == [("55%", "0% if independent"), ("100%", "0% if independent")]
    ((stuck, _),) = (values for label, values in lines.items() if label.startswith("Quadratic models"))
    assert re.fullmatch(r"0 of [1-9]\d*", stuck)
    curved, straight = (values for label, values in lines.items() if "nearer than an equal split" in label)
    for measured, goal in (curved, straight):
        error, equal = (float(text.rstrip(")").split()[-1]) for text in (measured, goal))
        assert error < equal / 2
    (held,) = (measured for label, (measured, _) in lines.items() if label.startswith("Errata"))
    assert re.fullmatch(r"(\d+) of \1", held)


def test_the_page_shows_the_summary(reproduction: Reproduction) -> None:
    cells = "".join(Page(reproduction.html).text("td"))
    for row in reproduction.summary.rows:
        assert all(cell in cells for cell in row)


def test_figures_have_names_of_their_own_and_are_in_the_page(reproduction: Reproduction) -> None:
    figures = dict(reproduction.figures())
    assert len(figures) == len(list(reproduction.figures())) == 76
    page = Page(reproduction.html)
    identifiers = [attributes["id"] for tag, attributes in page.elements if tag == "figure"]
    assert identifiers == list(figures)
    for shown, (name, figure) in zip(page.figures, figures.items(), strict=True):
        assert shown == json.loads(figure.to_json()), name


def test_figures_are_those_of_the_experiments(reproduction: Reproduction) -> None:
    """Made again here, with the same seed: the same to the last bit."""
    figures, config = dict(reproduction.figures()), ReproduceConfig.of(quick=True)
    again = {
        **{f"points-{name}": figure for name, figure in plots.point_figures(studies.points(config.points))},
        "stack-curves": plots.stack_figure(studies.stack(config.stack)),
        "trained-capacity": plots.capacity_figure(studies.trained(config.trained)),
        **{f"width-{name}": figure for name, figure in plots.width_figures(studies.width(config.width))},
        **{
            {"ties": "ties-capacity", "linear": "together-linear", "quadratic": "together-quadratic"}.get(
                name, f"minima-{'quadratic' if name == 'rising' else name}"
            ): figure
            for name, figure in plots.without_diminishing_figures(
                studies.without_diminishing(config.without_diminishing)
            )
        },
        "errata-independence": plots.errata_figure(studies.errata(config.errata)),
    }
    for name, figure in again.items():
        assert figures[name].to_json() == figure.to_json(), name


def test_every_correction_is_shown(reproduction: Reproduction) -> None:
    corrections = studies.errata(ReproduceConfig.of(quick=True).errata).corrections
    chapter = reproduction.chapters[-1]
    assert len(chapter.parts) == len(corrections) == 4
    for part, correction in zip(chapter.parts, corrections, strict=True):
        assert correction.title in part.title
        assert correction.formula in " ".join(part.text)
        (table,) = part.tables
        assert [row[0] for row in table.rows] == [check.label for check in correction.checks]
        assert {row[-1] for row in table.rows} == {"yes"}


def test_a_report_of_other_settings_says_other_numbers() -> None:
    """With two starts below F = 3 some cells keep the wrong winner, and the summary says so."""
    quick = ReproduceConfig.of(quick=True)
    poor = replace(
        quick,
        phase=studies.PhaseConfig(n_kurtosis=8, n_ratio=8, kurtosis_range=(1.5, 2.9), largest_ratio=1.2, restarts=1),
        trained=studies.TrainedConfig(n_features=3, d_hidden=1, restarts=1),
        geometry=studies.GeometryConfig((5,), (0.05,), 1, 1, n_features=4, d_hidden=2, n_probability=2, steps=1),
    )
    chapters = ("phase", "trained", "geometry")
    lines = {label: measured for label, measured, _ in reproduce(poor, chapters=chapters).summary.rows}
    assert lines["Phase diagram: cells in the predicted phase"] != "100.00%"
    assert float(lines["Phase diagram: boundary, measured against formula"].split()[0]) > 1
    assert float(lines["Phase diagram: largest |trained − predicted| capacity"]) > 0.5
    assert lines["Geometry: 5 features in a plane, p = 0.05"] != "1 × pentagon"
    assert "N = 3, D = 1: starts that reach the optimum" in lines
