"""`polysem reproduce`: what it prints and writes."""

import re
from pathlib import Path

import pytest
import torch

from commands import Run, process
from html_page import Page
from polysem import cli


def test_reproduce(tmp_path: Path) -> None:
    """Three chapters, one of them a sweep; the tests of reports make every one."""
    some = ("--quick", "--chapter", "points", "phase", "comparison")
    done = process("reproduce", *some, "--figures", "json", "--out", "r.html", cwd=tmp_path)
    assert done.status == 0
    assert done.err == ""  # no progress bar where no one watches
    assert f"Report: {tmp_path / 'r.html'}" in done.out
    assert f"Figures: {tmp_path / 'r-figures'}" in done.out
    header, rule, *rows = done.out.splitlines()
    assert header.split() == ["experiment", "measured", "theory", "or", "goal"]
    assert set(rule) == {"─", " "}
    assert any(re.search(r"cells in the predicted phase +100\.00% +100 %$", row) for row in rows)
    page = Page((tmp_path / "r.html").read_text("utf-8"))
    assert len(page.figures) == len(list((tmp_path / "r-figures").glob("*.json"))) == 15
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r-figures", "r-sweeps", "r.html"]
    assert [path.name.partition("-")[0] for path in (tmp_path / "r-sweeps").iterdir()] == ["comparison"]


def test_every_chapter_is_made_unless_some_are_named() -> None:
    assert cli.Reproduce().chapter == ()


def test_reproduce_as_json(run: Run, tmp_path: Path) -> None:
    found = run("reproduce", "--quick", "--chapter", "stack", "width", "phase", "--seed", 4, "--json").json()
    assert found["report"] == str(tmp_path / "polysem-report.html")
    assert [set(line) for line in found["summary"]] == 4 * [{"experiment", "measured", "theory or goal"}]
    page = Page((tmp_path / "polysem-report.html").read_text("utf-8"))
    assert "seed=4" in "".join(page.text("footer"))
    assert {line["measured"] for line in found["summary"]} <= set(page.text("td"))


def test_a_terminal_sees_progress(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    torch.set_num_threads(2)
    done = run("reproduce", "--quick", "--chapter", "phase", "comparison", "--workers", 2)
    assert done.status == 0
    assert torch.get_num_threads() == 1
    assert "The phase diagram" in done.err
    assert "2/2" in done.err
    assert "\x1b" not in done.out
