"""A model of one's own in a real browser: opened, brought, measured, asked; its address restores all of it."""

import io
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, Route

from polysem.measure import partners, report
from polysem.sweeps import Grid, Output, Stack, run, task

W = np.random.default_rng(3).normal(size=(30, 5))
W[7] = 4 * W[8]  # that no other feature is as close
Open = Callable[..., AbstractContextManager[Page]]
LISTED = "#view [data-listed]"


@task(stacked=("ratio",), outputs={"area": Output()})
def squares(stack: Stack) -> dict[str, np.ndarray]:
    """Ratios squared."""
    return {"area": np.asarray(stack["ratio"], dtype=float) ** 2}


@pytest.fixture(scope="module")
def own(models: Path) -> Path:
    np.savez(models / "tiny.npz", W=W)
    (models / "names.txt").write_text("\n".join(f"name {k} <b>" for k in range(30)))
    run(Grid({"ratio": [1.0, 2.0, 3.0]}), squares, models / "squares.zarr")
    return models


def measured(page: Page, *what: str) -> float:
    page.wait_for_selector(f"#view [data-drawn='{'|'.join(what)}']")
    return float(page.get_attribute("#view > div", "data-total") or "nan")


def drawn(page: Page, figure: str, trace: int) -> list[list[float]]:
    return page.evaluate(
        "async ([name, trace]) => { const { numbers } = await import('/static/parts.js');"
        " const t = document.querySelector(`#plot-${name}`).data[trace]; return [numbers(t.x), numbers(t.y)]; }",
        [figure, trace],
    )


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_file_is_chosen_measured_and_asked(open_page: Open, width: int, scheme: str) -> None:
    truth = report(torch.from_numpy(W))
    with open_page("view=models", width, scheme, ready=LISTED) as page:
        page.select_option("#control-file", "tiny.npz")
        page.click("button[data-tensor=W][data-features=rows]")
        assert measured(page, "tiny.npz", "W", "rows", "raw") == truth.total
        assert page.inner_text("#verdict") == truth.verdict
        x, y = drawn(page, "capacity", 0)
        assert y == truth.histogram.tolist()
        assert x == pytest.approx((truth.edges[1:] * truth.edges[:-1]).sqrt().tolist())
        page.select_option("#control-labels", "names.txt")
        page.wait_for_selector("#purest button:text('name')")
        purest = int(truth.capacity.argmax())
        assert page.locator("#purest button").first.inner_text() == f"name {purest} <b>"
        page.fill("#feature", "name 8 <b>")
        page.press("#feature", "Enter")
        page.wait_for_selector("#view [data-partner='8']")
        found = partners(torch.from_numpy(W), (8,), k=12)
        rows = page.locator("#partners tbody tr").all_inner_texts()
        assert rows[0].split("\t")[:2] == ["name 7 <b>", "+1.000"]
        assert [row.split("\t")[0] for row in rows] == [f"name {k} <b>" for k in found.index[0].tolist()]
        page.click("#partners button[data-feature='7']")
        page.wait_for_selector("#view [data-partner='7']")
        assert "labels=names.txt" in page.url
        assert "feature=7" in page.url
        said = page.inner_text("#partners")
        page.goto(page.url)
        page.wait_for_selector("#view [data-partner='7']")
        assert page.inner_text("#partners") == said
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        with page.expect_download() as started:
            page.click("text=All features as CSV")
        _, *lines = Path(started.value.path()).read_text().splitlines()
        assert [float(line.split(",")[2]) for line in lines] == truth.capacity.tolist()


@pytest.mark.usefixtures("own")
def test_a_marker_of_a_feature_shows_its_partners(open_page: Open) -> None:
    with open_page("view=models&file=tiny.npz&tensor=W&draws=2", ready="#view [data-drawn]") as page:
        page.locator("#plot-norm").scroll_into_view_if_needed()
        place = page.evaluate(
            "async () => { const { numbers } = await import('/static/parts.js');"
            " const plot = document.querySelector('#plot-norm'), trace = plot.data[0];"
            " const k = numbers(trace.customdata).indexOf(7), box = plot.getBoundingClientRect();"
            " const at = (axis, values) => axis._offset + axis.d2p(numbers(values)[k]);"
            " const { xaxis, yaxis } = plot._fullLayout;"
            " return [box.x + at(xaxis, trace.x), box.y + at(yaxis, trace.y)]; }"
        )
        page.mouse.move(place[0] - 5, place[1])
        page.mouse.move(*place)
        page.wait_for_timeout(200)
        page.mouse.click(*place)
        page.wait_for_selector("#view [data-partner='7']")


def test_a_file_is_brought(open_page: Open) -> None:
    content = io.BytesIO()
    np.save(content, W.T)
    with open_page("view=models", refused=1, ready=LISTED) as page:
        page.set_input_files("#upload", {"name": "mine.npy", "mimeType": "", "buffer": content.getvalue()})
        page.click("button[data-tensor=mine][data-features=columns]")
        page.wait_for_selector("#view [data-drawn]")
        total = float(page.get_attribute("#view > div", "data-total") or "nan")
        assert total == pytest.approx(report(torch.from_numpy(W)).total, rel=1e-12)
        page.set_input_files("#upload", {"name": "names.txt", "mimeType": "", "buffer": b"a\nb"})
        page.wait_for_selector("[role=alert]:has-text('labels must be as many as the 30 features of mine, got 2')")
        page.set_input_files("#upload", {"name": "mine.npy", "mimeType": "", "buffer": b"\x80\x04."})
        page.wait_for_selector("[role=alert]:has-text('pickle')")


def test_an_upload_that_ends_after_its_view_was_left(open_page: Open) -> None:
    content = io.BytesIO()
    np.save(content, W)
    with open_page("view=models", ready=LISTED) as page:
        held: list[Route] = []
        page.route("**/api/models/upload*", lambda route: held.append(route))
        with page.expect_request("**/api/models/upload*"):
            page.set_input_files("#upload", {"name": "mine.npy", "mimeType": "", "buffer": content.getvalue()})
        page.click("nav a[data-view=allocation]")
        page.wait_for_selector("#view [data-drawn]")
        address = page.url
        with page.expect_response("**/api/models/matrices*"):
            held[0].continue_()
        assert page.url == address


@pytest.mark.usefixtures("own")
def test_a_measurement_that_is_overtaken_while_it_is_drawn(open_page: Open) -> None:
    """It neither asks for partners nor ends the one that has taken its place."""
    with open_page(
        "view=models&file=tiny.npz&tensor=W&draws=2&seed=9&feature=7", ready="#view [data-partner='7']"
    ) as page:
        page.evaluate(
            "() => { const draw = Plotly.react; Plotly.react = async (...given) => {"
            " await new Promise(go => setTimeout(go, 1000)); return draw(...given); }; }"
        )
        page.route("**/api/models/measure*norm=raw*", lambda route: (time.sleep(1.5), route.continue_()))
        page.click("text=How it is measured")
        page.select_option("#control-norm", "unit")
        page.wait_for_selector("#result:not([hidden])")
        page.select_option("#control-norm", "raw")
        measured(page, "tiny.npz", "W", "rows", "raw")
        page.wait_for_selector("#view [data-mode=idle]")
        assert page.is_visible("#result")


@pytest.mark.usefixtures("own")
def test_a_sweep_opens(open_page: Open) -> None:
    with open_page("view=models&file=squares.zarr", ready="#view [data-drawn]") as page:
        assert drawn(page, "sweep", 2) == [[1, 2, 3], [1, 4, 9]]
        assert page.input_value("#control-across") == "ratio"
        assert "output=area" in page.url
        page.goto(page.url)
        page.wait_for_selector("#view [data-drawn='squares.zarr|area|ratio|']")
        assert "3/3 cells" in page.inner_text("#facts")
