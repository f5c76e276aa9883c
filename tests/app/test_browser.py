"""The views in a real browser: what a person does, and what the library says to it."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from urllib.parse import urlparse

import pytest
from playwright.sync_api import Page

from polysem import theory
from polysem.features import geometric
from polysem.studies import POINTS

Open = Callable[..., AbstractContextManager[Page]]


@pytest.fixture
def open_view(open_page: Open) -> Open:
    """Open a view that draws at once."""
    return partial(open_page, ready="#view [data-drawn]")


PLACES_OF = """marks => [...document.querySelectorAll(marks)]
    .map(mark => mark.getBoundingClientRect()).map(({ x, y, width, height }) => [x + width / 2, y + height / 2])"""
"""Middles of marks in the map."""


def settled(page: Page, drawn: str) -> None:
    page.wait_for_function("drawn => document.querySelector('#view [data-drawn]')?.dataset.drawn === drawn", arg=drawn)


def facts(page: Page) -> dict[str, str]:
    labels, values = (page.locator(f"#facts {tag}").all_inner_texts() for tag in ("dt", "dd"))
    return dict(zip(labels, values, strict=True))


def test_the_points_land_where_theory_says(open_view: Open) -> None:
    with open_view("view=phase") as page:
        for point in POINTS:
            page.click(f"button[data-name={point.name}]")
            settled(page, f"{point.kurtosis:g},{point.ratio:g}")
            best = theory.allocate([1.0, point.ratio], point.kurtosis, 1.0)
            first, second = best.capacity.tolist()
            assert facts(page)["capacities at the optimum"] == f"C₁ = {first:.4f}, C₂ = {second:.4f}"
            assert page.inner_text("#story h2") == f"{point.name}: {point.says}"
            assert page.locator("#plot-map .heatmaplayer .hm").count() == 1  # the cells stay when the circle moves
            assert page.locator("#plot-map .scatterlayer .trace").count() == 4
            assert page.get_attribute(f"button[data-name={point.name}]", "aria-pressed") == "true"
            (circle,), named = (page.evaluate(PLACES_OF, marks) for marks in (".ring", "#plot-map path.point"))
            assert circle == pytest.approx(named[POINTS.index(point)], abs=0.5)  # in pixels


def test_a_click_shows_the_curves_of_its_cell(open_view: Open) -> None:
    with open_view("view=phase") as page:
        area = page.locator("#plot-map .nsewdrag").first.bounding_box()
        assert area is not None
        x, y = area["x"] + 0.8 * area["width"], area["y"] + 0.4 * area["height"]
        page.mouse.move(x - 20, y)
        page.mouse.move(x, y)
        page.wait_for_timeout(200)
        page.mouse.click(x, y)
        page.wait_for_function("() => document.querySelector('#view [data-drawn]').dataset.drawn !== '2,0.8'")
        kurtosis, ratio = map(float, page.locator("#view [data-drawn]").get_attribute("data-drawn").split(","))
        assert kurtosis == pytest.approx(1.2 * (40 / 1.2) ** 0.8, rel=0.05)
        assert ratio == pytest.approx(25 ** (2 * 0.6 - 1), rel=0.1)
        drawn = page.evaluate(
            "async () => { const { numbers } = await import('/static/parts.js');"
            " return document.querySelector('#plot-curves').data.map(t => [t.name, numbers(t.x), numbers(t.y)]); }"
        )
        curves = {name: (xs, ys) for name, xs, ys in drawn}
        for feature, v in enumerate((1.0, ratio)):
            xs, ys = curves[f"feature {feature + 1}"]
            capacity = [1 - c if feature else c for c in xs]
            expected = theory.marginal_benefit([v] * len(xs), kurtosis, capacity).tolist()
            assert ys == pytest.approx(expected, rel=1e-9)
        best = theory.allocate([1.0, ratio], kurtosis, 1.0)
        assert curves["optimum"][0][0] == pytest.approx(float(best.capacity[0]), abs=1e-9)
        assert curves["price μ"][1] == pytest.approx([float(best.price)] * 2, rel=1e-9)


def test_the_total_fills_the_stack(open_view: Open) -> None:
    with open_view("view=allocation") as page:
        page.locator("#control-total").focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")  # the slider alone, by keyboard
        settled(page, "14,4.15")
        best = theory.allocate(geometric(14, 0.85), 12.0, 4.15)
        assert facts(page)["price μ of the next bit"] == f"{float(best.price):.4g}"
        circles = page.evaluate(
            "async () => { const { numbers } = await import('/static/parts.js');"
            " const t = document.querySelector('#plot-stack').data.find(t => t.name === 'optimal capacity');"
            " return numbers(t.x); }"
        )
        assert circles == pytest.approx(best.capacity.tolist(), abs=1e-12)
        assert "total=4.15" in page.url


@pytest.mark.parametrize(
    ("view", "control", "values", "path", "other"),
    [
        ("phase", "ratio", [-0.01 * k for k in range(40)], "/api/phase/place", 2),
        ("allocation", "total", [4 + 0.05 * k for k in range(40)], "/api/allocation", 14),
    ],
)
def test_a_dragged_slider_asks_for_where_it_is_and_not_for_all_it_has_passed(
    open_view: Open, view: str, control: str, values: list[float], path: str, other: int
) -> None:
    with open_view(f"view={view}") as page:
        page.wait_for_load_state("networkidle")
        asked = []
        page.on("request", lambda request: asked.append(urlparse(request.url).path))
        page.evaluate(
            "([name, values]) => { const slider = document.querySelector(`#control-${name}`);"
            " for (const value of values) { slider.value = value; slider.dispatchEvent(new Event('input')); } }",
            [control, values],
        )
        settled(page, f"{other},{page.input_value(f'#control-{control} + input')}")
        assert asked == [path, path]


def test_a_table_of_the_users_own(open_view: Open) -> None:
    with open_view("view=allocation&total=1", refused=1) as page:
        table = {"name": "mine.csv", "mimeType": "text/csv", "buffer": b"importance,kurtosis\n1,10\n0.5,20\n2,2\n"}
        page.set_input_files("#table", table)
        page.wait_for_function("() => new URLSearchParams(location.search).get('importances') === '1,0.5,2'")
        best = theory.allocate([1.0, 0.5, 2.0], [10.0, 20.0, 2.0], 1.0)
        page.wait_for_function(
            "price => document.querySelector('#facts').innerText.includes(price)", arg=f"{float(best.price):.4g}"
        )
        page.set_input_files("#table", {**table, "buffer": b"a,b\n1,2\n"})
        page.wait_for_selector("[role=alert]:not(:empty)")
        assert "importance" in page.inner_text("[role=alert]")


@pytest.mark.parametrize(
    ("query", "drawn"),
    [("view=phase&kurtosis=12.5&ratio=0.31", "12.5,0.31"), ("view=allocation&n_features=8&total=2.5", "8,2.5")],
)
def test_an_address_restores_its_view(open_view: Open, query: str, drawn: str) -> None:
    with open_view(query) as page:
        settled(page, drawn)
        before = facts(page)
        again = page.url
        page.goto(again)
        settled(page, drawn)
        assert facts(page) == before
        assert page.url == again
        page.click("nav a:not([aria-current])")
        page.wait_for_selector("#view [data-drawn]")
        assert page.url != again
        page.go_back()
        settled(page, drawn)


def test_the_code_is_copied_and_runs(open_view: Open, capsys: pytest.CaptureFixture[str]) -> None:
    with open_view("view=phase&kurtosis=9&ratio=0.7") as page:
        page.click("#copy")
        page.wait_for_selector("#code:not([hidden])")
        code = page.evaluate("navigator.clipboard.readText()")
        assert code == page.locator("#code").inner_text() + ("" if page.locator("#code").inner_text() == code else "\n")
        exec(compile(code, "copied", "exec"), {})
        best = theory.allocate([1.0, 0.7], 9.0, 1.0)
        assert f"capacity {best.capacity.tolist()}" in capsys.readouterr().out


@pytest.mark.parametrize("view", ["phase", "allocation"])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_it_fits_and_can_be_read(open_view: Open, view: str, width: int, scheme: str) -> None:
    with open_view(f"view={view}", width, scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.wait_for_timeout(300)
        text, back = page.evaluate(
            "() => { const s = getComputedStyle(document.body);"
            " return [s.color, s.backgroundColor].map(c => c.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0)); }"
        )
        assert (text > back) == (scheme == "dark")
        labels = page.evaluate(
            "[...document.querySelectorAll('.plot .xtitle, .plot .ytitle')].map(t => getComputedStyle(t).fill)"
        )
        assert labels
        assert len(set(labels)) == 1
        assert (sum(map(int, labels[0][4:-1].split(","))) > 384) == (scheme == "dark")
        page.click("#theme")
        assert page.evaluate("document.documentElement.dataset.theme") == ("light" if scheme == "dark" else "dark")


def test_what_is_exported(open_view: Open, tmp_path: Any) -> None:
    with open_view("view=phase") as page:
        place = page.locator("figure", has=page.locator("#plot-curves"))
        with page.expect_download() as started:
            place.get_by_text("CSV", exact=True).click()
        started.value.save_as(tmp_path / "curves.csv")
        header, *lines = (tmp_path / "curves.csv").read_text().splitlines()
        assert header == "trace,x,y,z"
        first = [line.split(",") for line in lines if line.startswith("feature 1,")]
        expected = theory.marginal_benefit([1.0] * len(first), 2.0, [float(x) for _, x, _, _ in first]).tolist()
        assert [float(y) for _, _, y, _ in first] == pytest.approx(expected)
        for format_, start in (("PNG", b"\x89PNG"), ("SVG", b"<svg")):
            with page.expect_download() as started:
                place.get_by_text(format_, exact=True).click()
            started.value.save_as(tmp_path / "picture")
            assert (tmp_path / "picture").read_bytes().startswith(start)
        said = (tmp_path / "picture").read_text()  # the last is SVG: with the title that the page has above the figure
        assert page.locator("h2", has_text="F = 2,").inner_text() in said


def test_everything_can_be_reached_by_keyboard(open_view: Open) -> None:
    with open_view("view=phase") as page:
        reached = set()
        for _ in range(50):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id || document.activeElement.innerText"))
        assert {"theme", "A", "F", "control-kurtosis", "control-ratio", "copy", "Allocation"} <= reached
        page.focus("button[data-name=D]")
        page.keyboard.press("Enter")
        settled(page, "6,1")
        assert json.loads(page.evaluate("JSON.stringify([...document.querySelectorAll('img:not([alt])')].length)")) == 0
