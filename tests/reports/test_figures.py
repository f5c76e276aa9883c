"""Figures as files: names, formats, and refusals before any work is done."""

import importlib
import struct
import sys
from pathlib import Path

import plotly.graph_objects as go
import plotly.io
import pytest

from polysem.plots import TEMPLATE
from polysem.reports import claim_figures, write_figures


def figure(title: str) -> go.Figure:
    return go.Figure(
        go.Scatter(y=[1, 2]), {"template": TEMPLATE, "height": 300, "meta": {"title": title, "caption": "See."}}
    )


FIGURES = [("one", figure("First")), ("two", figure(""))]


def test_json(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    paths = write_figures(folder, iter(FIGURES), ("json",), force=False)
    assert paths == [folder / "one.json", folder / "two.json"]
    assert sorted(folder.iterdir()) == paths
    for path, (_, given) in zip(paths, FIGURES, strict=True):
        assert plotly.io.from_json(path.read_text("utf-8")) == given


def test_no_format_is_no_folder(tmp_path: Path) -> None:
    claim_figures(tmp_path / "figures", ())
    assert write_figures(tmp_path / "figures", FIGURES, (), force=False) == []
    assert list(tmp_path.iterdir()) == []


def test_pictures(chromium: Path, tmp_path: Path) -> None:
    """PNG at twice the figure's size and SVG, the title above the plot."""
    before = FIGURES[0][1].to_json()
    claim_figures(tmp_path, ("png", "svg"))
    paths = write_figures(tmp_path, FIGURES[:1], ("png", "svg"), force=False)
    assert paths == [tmp_path / "one.png", tmp_path / "one.svg"]
    png = paths[0].read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert png.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", png[16:24])
    assert width == 1800
    assert height > 600
    svg = paths[1].read_text("utf-8")
    assert svg.startswith("<svg")
    assert ">First</text>" in svg
    assert FIGURES[0][1].to_json() == before


def test_what_is_there_stays_without_force(tmp_path: Path) -> None:
    """Nothing is written if one of the files exists."""
    (tmp_path / "two.json").write_text("old")
    with pytest.raises(ValueError, match=r"output .*two\.json exists: .*--force"):
        write_figures(tmp_path, FIGURES, ("json",), force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["two.json"]
    assert (tmp_path / "two.json").read_text() == "old"
    write_figures(tmp_path, FIGURES, ("json",), force=True)
    assert plotly.io.from_json((tmp_path / "two.json").read_text()) == FIGURES[1][1]


@pytest.mark.bad_input
def test_formats_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^figures must be json, png, svg, got 'gif'$"):
        claim_figures(tmp_path, ("json", "gif"))


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "figures").touch()
    with pytest.raises(ValueError, match="figures cannot be written to .*figures: it is not a directory"):
        claim_figures(tmp_path / "figures", ("json",))


def test_pictures_without_kaleido(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("kaleido")
    with pytest.raises(ValueError, match=r"^figures as png or svg need kaleido: install polysem\[figures\]"):
        claim_figures(tmp_path, ("json", "png"))
    claim_figures(tmp_path, ("json",))


def test_pictures_without_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="^figures as png or svg need a Chrome or Chromium that kaleido can start$"):
        claim_figures(tmp_path, ("svg",))
