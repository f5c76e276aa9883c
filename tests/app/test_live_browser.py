"""Trainings in a real browser: they end where they must, pause, step and stop, and their address restores them."""

import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

import pytest
import torch
from playwright.sync_api import Page, Request
from torch.testing import assert_close

from polysem.studies import LiveConfig, intervene, known_optimum, live, live_bounds

QUICK = {"architecture": "quadratic", "n_features": 5, "feature_probability": 0.1, "decay": 0.9, "steps": 300}
GEOMETRY = "&".join(["view=geometry", *(f"{name}={value}" for name, value in QUICK.items())])
SLOW = "view=geometry&n_features=12&n_seeds=1&steps=3000"
A_WHILE = """() => new Promise(done => {
  let left = 12;
  const next = () => left-- ? requestAnimationFrame(next) : done();
  next();
})"""
"""Twelve frames: time for four more moments, if there were any."""
CONFIG = LiveConfig(**QUICK)
BODY = "#view > div"

Open = Callable[..., AbstractContextManager[Page]]


@pytest.fixture
def open_training(open_page: Open) -> Open:
    """Open a view that trains."""
    return partial(open_page, ready="#view [data-step]")


def state(page: Page, name: str) -> str:
    return page.get_attribute(BODY, f"data-{name}") or ""


def ended(page: Page, starts: int = 1) -> tuple[list[float], torch.Tensor]:
    """Losses and capacities with which the training that was started last, as so-manieth, has ended."""
    page.wait_for_selector(f"#view [data-mode=ended][data-starts='{starts}']", timeout=60_000)
    return json.loads(state(page, "loss")), torch.tensor(json.loads(state(page, "capacity")), dtype=torch.float64)


def reached(page: Page, step: int) -> None:
    holds(page, f">= {step}")


def holds(page: Page, relation: str) -> None:
    """Wait until the step that is shown has this relation."""
    page.wait_for_function(f"() => Number(document.querySelector('{BODY}').dataset.step || NaN) {relation}")


def drawn(page: Page, figure: str) -> list[list[list[float]]]:
    return page.evaluate(
        "async name => { const { numbers } = await import('/static/parts.js');"
        " return document.querySelector(`#plot-${name}`).data.map(t => [numbers(t.x), numbers(t.y)]); }",
        figure,
    )


def reading(page: Page) -> list[Request]:
    """The trainings whose answers a page reads; those that it has ended leave the list."""
    open_ones: list[Request] = []
    page.on("request", lambda request: open_ones.append(request) if "/train" in request.url else None)
    for end in ("requestfinished", "requestfailed"):
        page.on(end, lambda request: open_ones.remove(request) if request in open_ones else None)
    page.click("#restart")
    page.wait_for_selector("#view [data-starts='2'][data-step]")
    return open_ones


def test_a_training_ends_at_the_known_loss(open_training: Open) -> None:
    with open_training(GEOMETRY) as page:
        loss, capacity = ended(page)
        done = live(CONFIG)
        assert loss == pytest.approx([known_optimum(CONFIG)] * 2, rel=1e-6)
        assert_close(capacity, done.last.capacity, rtol=0, atol=1e-6)
        tips = torch.tensor(drawn(page, "embedding")[1], dtype=torch.float64).mT
        assert_close(tips, done.last.W[0], rtol=0, atol=1e-3)
        assert_close(torch.tensor(drawn(page, "capacity")[0][1]).double(), capacity[0], rtol=0, atol=1e-4)
        steps, losses = drawn(page, "loss")[0]
        assert (steps[0], steps[-1]) == (0, 300)
        assert losses[-1] == pytest.approx(loss[0])
        page.click("#copy")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == page.inner_text("#code")
        spoken: dict[str, object] = {}
        exec(compile(copied, "<copied>", "exec"), spoken)
        assert spoken["done"].last.loss.tolist() == pytest.approx(loss, rel=1e-12)


def test_pause_step_stop(open_training: Open) -> None:
    with open_training(SLOW, motion=True) as page:
        trainings = reading(page)
        reached(page, 100)
        assert len(trainings) == 1
        page.click("#pause")
        step = int(state(page, "step"))
        assert state(page, "mode") == "paused"
        page.evaluate(A_WHILE)
        assert int(state(page, "step")) == step
        assert trainings == []
        for more in (1, 2):  # from what has come, or asked for anew
            page.click("#step")
            holds(page, f"=== {step + 25 * more}")
        page.evaluate(A_WHILE)
        assert int(state(page, "step")) == step + 50
        assert state(page, "mode") == "paused"
        page.click("#pause")  # continue
        reached(page, step + 100)
        page.click("#stop")
        step = int(state(page, "step"))
        page.evaluate(A_WHILE)
        assert int(state(page, "step")) == step
        assert trainings == []
        assert state(page, "mode") == "stopped"
        assert page.is_disabled("#pause")
        page.focus("#restart")
        page.keyboard.press("Enter")
        holds(page, f"< {step}")
        page.click("#stop")


def test_a_pause_goes_on_where_it_stood(open_training: Open) -> None:
    with open_training(GEOMETRY.replace("300", "100"), motion=True) as page:
        reached(page, 10)
        page.click("#pause")
        page.emulate_media(reduced_motion="reduce")
        page.click("#pause")
        loss, _ = ended(page)
        assert loss == live(replace(CONFIG, steps=100)).last.loss.tolist()
        steps, _ = drawn(page, "loss")[0]
        assert steps == sorted(set(steps)) == list(range(101))


POINTS_ON_PAGE = """
async () => {
  const plot = document.querySelector("#plot-embedding");
  const look = () => [...plot.querySelectorAll(".scatterlayer .points path")].map(tip => [
    ...tip.getAttribute("transform").match(/-?[0-9.]+/g).map(Number), tip.style.fill, tip.getAttribute("d")]);
  const lines = () => [...plot.querySelectorAll(".scatterlayer .lines path")].map(line => line.getAttribute("d"));
  const there = [look(), lines()];
  await Plotly.redraw(plot);
  const { xaxis, yaxis } = plot._fullLayout;
  const at = value => [xaxis.c2p(value), yaxis.c2p(value)];
  return { there, anew: [look(), lines()], origin: at(0), one: at(1) };
}"""


def test_three_dimensions_are_seen_from_where_it_is_said(open_training: Open) -> None:
    config = LiveConfig(architecture="quadratic", n_features=4, d_hidden=3, n_seeds=2, steps=50)
    W = live(config).last.W[0]

    def look() -> dict:
        found = page.evaluate(POINTS_ON_PAGE)
        assert found["there"] == found["anew"]  # what was moved is what would be drawn anew, colours and all
        return found

    def seen(turn: float, tilt: float) -> torch.Tensor:
        """Rotated about the third axis, then about that from left to right, and looked at along what is then depth."""
        a, e = math.radians(turn), math.radians(tilt)
        about_third = [[math.cos(a), math.sin(a), 0.0], [-math.sin(a), math.cos(a), 0.0], [0.0, 0.0, 1.0]]
        upwards = [[math.cos(e), 0.0, math.sin(e)], [0.0, 1.0, 0.0], [-math.sin(e), 0.0, math.cos(e)]]
        rotation = torch.tensor(upwards, dtype=torch.float64) @ torch.tensor(about_third, dtype=torch.float64)
        return (W @ rotation.mT)[:, 1:]

    def agrees(turn: float, tilt: float) -> None:
        found = look()
        places = torch.tensor([tip[:2] for tip in found["there"][0][:4]], dtype=torch.float64)
        origin, one = (torch.tensor(found[name], dtype=torch.float64) for name in ("origin", "one"))
        assert_close(places, origin + seen(turn, tilt) * (one - origin), rtol=0, atol=0.05)

    query = "view=geometry&architecture=quadratic&n_features=4&d_hidden=3&steps=50&tilt=-35"
    with open_training(query, motion=True) as page:
        ended(page)
        agrees(30, -35)
        page.focus("#control-turn")
        page.keyboard.press("ArrowRight")
        page.wait_for_function("() => location.search.includes('turn=31')")
        agrees(31, -35)
        box = page.locator("#plot-embedding .nsewdrag").first.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 60, box["y"] + 60)
        page.mouse.down()
        page.mouse.move(box["x"] + 20, box["y"] + 70)
        page.mouse.up()
        page.mouse.move(box["x"] + 90, box["y"] + 90)
        page.wait_for_function("() => location.search.includes('turn=71')")
        agrees(71, -25)
        assert page.get_attribute(BODY, "data-starts") == "1"
        assert page.locator("#plot-embedding canvas").count() == 0
        with page.expect_download() as saved:
            page.locator("figure:has(#plot-embedding) button:has-text('CSV')").click()
        tips = [line.split(",") for line in saved.value.path().read_text().splitlines() if line.startswith("start 1,")]
        assert_close(torch.tensor([[float(n) for n in tip[1:]] for tip in tips]).double(), W, rtol=0, atol=1e-4)


def test_kurtosis_is_set_and_restored(open_training: Open) -> None:
    def exact(name: str) -> str:
        return f".control:has(#control-{name}) input[type=number]"

    def stands(name: str, value: str) -> None:
        page.wait_for_function(f"() => document.querySelector('{exact(name)}').value === '{value}'")

    with open_training(GEOMETRY) as page:
        stands("kurtosis", "18")  # 9 / (5 p)
        page.fill(exact("kurtosis"), "2")
        page.keyboard.press("Enter")
        stands("feature_probability", "0.9")
        page.fill(exact("kurtosis"), "1.5")
        page.keyboard.press("Enter")
        stands("feature_probability", "")
        loss, capacity = ended(page, 2)
        assert min(loss) == pytest.approx(0.5 * sum(0.9**i for i in (2, 3, 4)), rel=1e-6)  # (F - 1) v² of the ignored
        best = capacity[loss.index(min(loss))]
        assert_close(best, torch.tensor([1.0, 1.0, 0, 0, 0], dtype=torch.float64), rtol=0, atol=1e-4)
        assert "kurtosis=1.5" in page.url
        assert "feature_probability" not in page.url
        address = page.url
        page.goto("about:blank")
        page.goto(address)
        again, _ = ended(page)
        assert again == loss
        stands("kurtosis", "1.5")
        page.select_option("#control-architecture", "tied relu")  # has at least 27/16, at p = 4/5
        stands("kurtosis", "1.688")
        stands("feature_probability", "0.8")
        page.fill(exact("feature_probability"), "0.05")
        page.keyboard.press("Enter")
        stands("kurtosis", "34.24")
        assert "kurtosis" not in page.url


def test_a_penalty_and_a_mask(open_training: Open) -> None:
    config = replace(CONFIG, steps=120)
    bounds, ordinary = live_bounds(config), live(config)
    with open_training(GEOMETRY.replace("geometry", "interventions").replace("300", "120")) as page:
        before, _ = ended(page)
        assert before == pytest.approx(ordinary.last.loss.tolist(), rel=1e-9)
        page.fill(".control:has(#control-share) input[type=number]", "0.5")
        page.keyboard.press("Enter")
        after, capacity = ended(page, 2)
        assert after == pytest.approx(intervene(ordinary, kappa=0.5 * bounds.kappa).last.loss.tolist(), rel=1e-9)
        assert after[0] > before[0]
        assert bool(((capacity < 0.05) | (capacity > 0.95)).all())
        page.click("#no-penalty")
        bar = page.locator("#plot-capacity .bars .point").nth(4)
        page.click("#features button[data-feature='3']")
        ended(page, 3)
        bar.scroll_into_view_if_needed()
        box = bar.bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x - 3, y)
        page.mouse.move(x, y)
        page.wait_for_selector("#plot-capacity .hoverlayer .hovertext")
        page.mouse.click(x, y)
        loss, _ = ended(page, 4)
        masked = intervene(ordinary, masked=[2, 4]).last
        assert loss == pytest.approx(masked.loss.tolist(), rel=1e-9)
        assert "masked=3%2C5" in page.url
        address = page.url
        page.goto("about:blank")
        page.goto(address)
        page.wait_for_selector("#view [data-step]")
        again, _ = ended(page)
        assert again == loss
        assert page.get_attribute("#features button[data-feature='3']", "aria-pressed") == "true"


@pytest.mark.parametrize("view", ["geometry", "interventions"])
def test_on_a_phone_in_the_dark(open_training: Open, view: str) -> None:
    with open_training(GEOMETRY.replace("geometry", view).replace("300", "50"), width=390, scheme="dark") as page:
        ended(page)
        inner, there = page.evaluate("[window.innerWidth, document.documentElement.scrollWidth]")
        assert there <= inner
        for theme in ("light", "dark"):
            page.click("#theme")
            assert page.evaluate("document.documentElement.dataset.theme") == theme
            text = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--text').trim()")
            colours = page.evaluate("[...document.querySelectorAll('.plot')].map(p => p.layout.font.color)")
            assert set(colours) == {text}
        plots = page.locator("#view .plot svg.main-svg")
        assert plots.count() >= 4
        with page.expect_download() as saved:
            page.locator("figure:has(#plot-capacity) button:has-text('CSV')").click()
        assert saved.value.path().read_text().startswith("trace,x,y,z\ncapacity,1,")


def test_leaving_the_view_ends_its_work(open_training: Open) -> None:
    with open_training(SLOW) as page:
        trainings = reading(page)
        reached(page, 0)
        assert len(trainings) == 1
        page.click("nav a[data-view=phase]")
        page.wait_for_selector("#view [data-drawn]")
        assert trainings == []


def test_what_goes_wrong_is_told(open_training: Open) -> None:
    with open_training(GEOMETRY) as page:
        page.route("**/api/geometry/train*", lambda route: route.fulfill(body='{"error": "It is busy."}\n'))
        page.click("#restart")
        page.wait_for_function("() => document.querySelector('[role=alert]').textContent !== ''")
        assert page.inner_text("[role=alert]") == "It is busy."
        assert state(page, "mode") == "stopped"
