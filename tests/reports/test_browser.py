"""Pages in a real browser, light and dark, wide and narrow: all is drawn, nothing is fetched, clipped or covered."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import plotly.graph_objects as go
import pytest
import torch
from playwright.sync_api import Browser, Page
from torch.testing import assert_close

from polysem.measure import report
from polysem.networks import Analysis, Measured
from polysem.plots import TEMPLATE
from polysem.reports import Chapter, Reproduction, Table, analysis_page, page
from polysem.theory import allocate, marginal_benefit

HOSTILE = "<!--<script></script><script>alert(1)</script><img src=x onerror=alert(2)>"

DRAWN = """() => [...document.querySelectorAll('figure')].every(figure =>
    figure.querySelector('.plot').layout?.font?.color && figure.querySelector('.plot svg.main-svg'))"""
"""Every figure is drawn and has been given the colours of the page."""

BOXES = """() => [...document.querySelectorAll('figure')].map(figure => {
  const box = element => { const {left, right, top, bottom} = element.getBoundingClientRect();
                           return [left, top, right, bottom]; };
  const all = names => [...figure.querySelectorAll(names)].filter(e => e.textContent.trim() && box(e)[2] > box(e)[0])
    .map(e => [e.textContent, box(e)]);
  const plot = figure.querySelector('.plot'), [left, top] = box(plot), {xaxis: x, yaxis: y} = plot._fullLayout;
  return {
    name: figure.id,
    figure: box(plot),
    area: [left + x._offset, top + y._offset, left + x._offset + x._length, top + y._offset + y._length],
    titles: all('.infolayer text[class$=title]'),
    legends: all('.infolayer .legend'),
    ticks: all('[class$=tick] text'),
  };
})"""
"""Where the parts of every figure lie, in pixels: left, top, right, bottom."""

Box = list[float]


@dataclass
class Opened:
    """A page in the browser, and what went wrong in it."""

    page: Page
    problems: list[str] = field(default_factory=list)

    def boxes(self) -> list[dict]:
        return self.page.evaluate(BOXES)


def analysed(n_features: int, decades: float) -> Analysis:
    """A tensor with the worst of names, rows and directions of unequal size."""
    W = torch.randn(n_features, 6, generator=torch.Generator().manual_seed(0))
    W = W / W.norm(dim=1, keepdim=True) * torch.logspace(-decades, 0, n_features)[:, None]
    W = W * torch.logspace(-decades, 0, 6)
    labels = tuple(f"{HOSTILE}{index}" for index in range(n_features))
    one = Measured(HOSTILE, None, "matrix", None, (n_features, 6), "rows", report(W, draws=2), labels, rows=W)
    return Analysis(f"{HOSTILE}.npz", None, (one,))


def network() -> Analysis:
    """Six kinds of matrices in thirty layers and a token embedding, with the worst of names and labels."""
    one = report(torch.randn(40, 8, generator=torch.Generator().manual_seed(0)), draws=2)
    kinds = [("attention in", 4), ("attention out", 4), ("MLP gate", None), ("MLP up", None), ("MLP out", None)]
    layers = [
        Measured(f"{HOSTILE}{layer}{kind}", layer, kind, "writes", (40, 8), "rows", one, n_heads=heads)
        for layer in range(30)
        for kind, heads in kinds
    ]
    named = [Measured(kind, None, kind, "writes", (40, 8), "rows", one, (HOSTILE,) * 40) for kind in TOKENS]
    return Analysis(HOSTILE, HOSTILE, (*named, *layers), (HOSTILE,))


TOKENS = ("token embedding", "unembedding")


@pytest.fixture(scope="module")
def files(reproduction: Reproduction, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    pages = {
        "report": reproduction.html,
        "wide": analysis_page(analysed(2100, decades=3)),  # drawn as a density, over many decades
        "narrow": analysis_page(analysed(1900, decades=0.4)),  # one by one, over hardly one
        "network": analysis_page(network()),
    }
    for name, html in pages.items():
        (folder / f"{name}.html").write_text(html, "utf-8")
    return {name: folder / f"{name}.html" for name in pages}


def open_page(browser: Browser, file: Path, width: int, scheme: str) -> Opened:
    shown = Opened(browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme))
    shown.page.on("console", lambda said: shown.problems.append(f"{said.type}: {said.text}"))
    shown.page.on("pageerror", lambda error: shown.problems.append(str(error)))
    shown.page.on("dialog", lambda dialog: (shown.problems.append(dialog.message), dialog.dismiss()))

    def asked(url: str) -> None:
        if url != file.as_uri() and not url.startswith(("data:", "blob:")):
            shown.problems.append(url)

    shown.page.on("request", lambda request: asked(request.url))
    shown.page.goto(file.as_uri())
    shown.page.wait_for_function(DRAWN)
    return shown


@pytest.fixture(
    scope="module",
    params=[
        ("report", 1280, "light"),
        ("report", 390, "dark"),
        ("wide", 1280, "dark"),
        ("wide", 390, "light"),
        ("narrow", 390, "dark"),
        ("network", 390, "dark"),
        ("network", 1280, "light"),
    ],
    ids=lambda param: "-".join(map(str, param)),
)
def opened(request: pytest.FixtureRequest, browser: Browser, files: dict[str, Path]) -> Iterator[Opened]:
    name, width, scheme = request.param
    shown = open_page(browser, files[name], width, scheme)
    yield shown
    shown.page.close()


def inside(inner: Box, outer: Box, slack: float = 1.0) -> bool:
    return (
        inner[0] >= outer[0] - slack
        and inner[1] >= outer[1] - slack
        and inner[2] <= outer[2] + slack
        and inner[3] <= outer[3] + slack
    )


def overlap(one: Box, other: Box, slack: float = 2.5) -> bool:
    """Lines of text have about that much room above and below their letters."""
    return (
        min(one[2], other[2]) - max(one[0], other[0]) > slack and min(one[3], other[3]) - max(one[1], other[1]) > slack
    )


def test_nothing_goes_wrong_and_nothing_is_fetched(opened: Opened) -> None:
    assert opened.problems == []


def test_every_figure_is_drawn(opened: Opened) -> None:
    counts = opened.page.evaluate(
        "() => [...document.querySelectorAll('.plot')].map(p => [p.querySelectorAll('svg.main-svg').length,"
        " p.querySelectorAll('.trace, .hm, .point, .bars').length, p.getBoundingClientRect().height])"
    )
    assert len(counts) in (3, 7, 76)
    for layers, marks, height in counts:
        assert layers > 0
        assert marks > 0
        assert height > 300


def test_no_sideways_scrolling(opened: Opened) -> None:
    shown, there = opened.page.evaluate("() => [window.innerWidth, document.documentElement.scrollWidth]")
    assert there <= shown


def test_titles_of_axes_are_whole(opened: Opened) -> None:
    for figure in opened.boxes():
        assert len(figure["titles"]) >= 2, figure["name"]
        for text, box in figure["titles"]:
            assert inside(box, figure["figure"]), (figure["name"], text)


def test_labels_titles_and_legends_cover_nothing(opened: Opened) -> None:
    """Neither each other nor, but for the labels of ticks that touch it, the plot."""
    legends = 0
    for figure in opened.boxes():
        assert len(figure["ticks"]) >= 4, figure["name"]
        written = [*figure["titles"], *figure["legends"], *figure["ticks"]]
        for number, (text, box) in enumerate(written):
            for other_text, other in written[:number]:
                assert not overlap(box, other), (figure["name"], text, other_text)
        for text, box in figure["legends"] + figure["titles"]:
            assert not overlap(box, figure["area"]), (figure["name"], text)
        for text, box in figure["legends"] + figure["ticks"]:
            assert inside(box, figure["figure"]), (figure["name"], text)
        left, top, right, bottom = figure["area"]
        assert right - left > 100, figure["name"]
        assert bottom - top > 100, figure["name"]
        legends += len(figure["legends"])
    assert legends >= 2


TITLE_COLOURS = """() => [...document.querySelectorAll('.xtitle, .ytitle, .xtick text, .legendtext')]
    .map(e => getComputedStyle(e).fill)"""


def lightness(colour: str) -> float:
    return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) / (3 * 255)


def test_text_follows_light_and_dark(opened: Opened) -> None:
    """Also when the page turns from one to the other while it is open."""
    for scheme in ("dark", "light"):
        opened.page.emulate_media(color_scheme=scheme)
        opened.page.wait_for_function(
            "() => [...document.querySelectorAll('.plot')].every(p => p.layout.font.color === "
            "getComputedStyle(document.documentElement).getPropertyValue('--text').trim())"
        )
        colours = set(opened.page.evaluate(TITLE_COLOURS))
        page_colour = opened.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert colours
        for colour in colours:
            assert abs(lightness(colour) - lightness(page_colour)) > 0.5, (scheme, colour, page_colour)
    assert opened.problems == []


def test_the_slider_moves_the_circles(browser: Browser, files: dict[str, Path], reproduction: Reproduction) -> None:
    """With the mouse, as a reader does; the circles are read off the drawing, in the units of the axes."""
    shown = open_page(browser, files["report"], 1280, "light")
    plot = shown.page.locator("#stack-curves .plot")
    plot.scroll_into_view_if_needed()
    figure = dict(reproduction.figures())["stack-curves"]
    count = len(figure.data) - 2
    v = [0.85**i for i in range(count)]
    state = f"""plot => {{
      const {{xaxis, yaxis}} = plot._fullLayout;
      const circles = [...plot.querySelectorAll('.scatterlayer .trace')][{count}].querySelectorAll('path.point');
      const places = [...circles].map(c => c.getAttribute('transform').match(/-?[\\d.]+/g).map(Number));
      return {{ active: plot._fullLayout.sliders[0].active,
                C: places.map(([x, _]) => xaxis.p2d(x)), benefit: places.map(([_, y]) => yaxis.p2d(y)) }};
    }}"""
    seen = set()
    for share in (0.1, 0.5, 0.8):
        rail = plot.locator(".slider-rail-touch-rect").bounding_box()
        assert rail is not None
        x, y = rail["x"] + share * rail["width"], rail["y"] + rail["height"] / 2
        shown.page.mouse.move(x, y)
        shown.page.wait_for_timeout(120)
        shown.page.mouse.click(x, y)
        found, before = plot.evaluate(state), None
        while found != before:  # until the circles rest
            shown.page.wait_for_timeout(300)
            found, before = plot.evaluate(state), found
        total = found["active"] / 2
        assert total == pytest.approx(share * count, abs=1)
        best = allocate(v, 12.0, total)
        assert_close(torch.tensor(found["C"]).double(), best.capacity, rtol=0, atol=2e-3)
        assert_close(
            torch.tensor(found["benefit"]).double(), marginal_benefit(v, 12.0, best.capacity), rtol=2e-2, atol=0
        )
        seen.add(total)
    assert len(seen) == 3
    assert shown.problems == []
    shown.page.close()


def test_hostile_text_stays_text(browser: Browser, tmp_path: Path) -> None:
    figure = go.Figure(
        [go.Scatter(y=[1, 2], name=HOSTILE), go.Scatter(y=[2, 1], name="other")],
        {"template": TEMPLATE, "height": 300, "meta": {"title": HOSTILE, "caption": HOSTILE}},
    )
    chapter = Chapter("a", HOSTILE, (HOSTILE,), (("b", figure), ("c", figure)), (Table((HOSTILE,), ((HOSTILE,),)),))
    (tmp_path / "page.html").write_text(page(HOSTILE, HOSTILE, (chapter, Chapter("d", "D")), HOSTILE), "utf-8")
    shown = open_page(browser, tmp_path / "page.html", 1280, "light")
    assert shown.problems == []
    for tag in ("h1", ".lead", "nav a", "h2", "section > p", "h3", "figcaption", "th", "td", "footer"):
        assert shown.page.locator(tag).first.text_content() == HOSTILE, tag
    assert shown.page.locator("svg.main-svg").count() > 0
    assert shown.page.locator("img").count() == 0
    shown.page.close()
