"""`polysem plan`: what it prints and writes."""

import re
from pathlib import Path

import pytest

from commands import Run
from html_page import Page
from polysem import theory


def planned(found: dict) -> dict[int, float]:
    return {line["width"]: line["optimal_loss"] for line in found["widths"]}


def test_a_plan_for_geometric_importances(run: Run, tmp_path: Path) -> None:
    found = run("plan", "--n-features", 6, "--decay", 0.5, "--kurtosis", 8, "--json").json()
    assert found["features"] == "6 features, importances v = 0.5ⁱ, kurtosis 8"
    v = [0.5**i for i in range(6)]
    for line in found["widths"]:
        best = theory.allocate(v, 8.0, line["width"])
        wider = theory.allocate(v, 8.0, line["width"] + 1)
        assert line["optimal_loss"] == pytest.approx(float(best.loss), rel=1e-9)
        assert line["price"] == pytest.approx(float(best.price), rel=1e-9)
        assert line["next_gain"] == pytest.approx(float(best.loss - wider.loss), rel=1e-9)
        assert line["n_ignored"] + line["n_impure"] + line["n_pure"] == 6
    assert [line["width"] for line in found["widths"]] == [1, 2, 3, 4, 5, 6]
    assert found["page"] == str(tmp_path / "polysem-plan.html")
    assert len(Page((tmp_path / "polysem-plan.html").read_text("utf-8")).figures) == 3


def test_a_plan_by_probability(run: Run) -> None:
    given = ("plan", "--n-features", 5, "--widths", 2, 4, "--json", "--force")
    by_probability = run(*given, "--feature-probability", 0.05, "--slab", "uniform").json()
    by_kurtosis = run(*given, "--kurtosis", 36).json()
    assert planned(by_probability) == pytest.approx(planned(by_kurtosis), rel=1e-9)
    assert list(planned(by_probability)) == [2, 4]


def test_a_plan_for_a_table(run: Run, tmp_path: Path) -> None:
    (tmp_path / "features.csv").write_text("importance,kurtosis\n1,12\n0.4,30\n0.8,2\n")
    found = run("plan", "--csv", "features.csv", "--json").json()
    assert found["features"] == "3 features, importances from features.csv, kurtosis 2 to 30"
    best = theory.allocate([1.0, 0.4, 0.8], [12.0, 30.0, 2.0], [1, 2, 3])
    assert list(planned(found).values()) == pytest.approx(best.loss.tolist(), rel=1e-9, abs=1e-12)


def test_a_plan_as_a_table(run: Run, tmp_path: Path) -> None:
    done = run("plan", "--n-features", 3)
    assert done.err == ""
    title, _, header, _, *rows, _, page = done.out.splitlines()
    assert title == "3 features, importances v = 0.9ⁱ, kurtosis 20"
    assert re.split(r"  +", header)[1:4] == ["optimal loss", "price μ", "next dim. buys"]
    best = theory.plan([1.0, 0.9, 0.81], 20.0, [1, 2, 3])
    expected = zip(best.loss.tolist(), best.price.tolist(), best.next_gain.tolist(), strict=True)
    assert [row.split() for row in rows] == [
        [str(width), *(f"{value:.6g}" for value in values), "0", *(["3", "0"] if width < 3 else ["0", "3"])]
        for width, values in enumerate(expected, 1)
    ]
    assert page == f"Page: {tmp_path / 'polysem-plan.html'}"
