"""The phase diagram in a real browser: trained models answer on the map, and a reader leads from A to F."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import pytest
from playwright.sync_api import Page

from polysem.studies import POINTS

Open = Callable[..., AbstractContextManager[Page]]
READY = "#view [data-drawn]"


def facts(page: Page) -> dict[str, str]:
    labels, values = (page.locator(f"#facts {tag}").all_inner_texts() for tag in ("dt", "dd"))
    return dict(zip(labels, values, strict=True))


def answers(page: Page, who: str) -> None:
    page.wait_for_selector(f"#view [data-who='{who}']", timeout=60_000)


def click_at(page: Page, across: float, down: float) -> None:
    """Click on the map at these shares of its width and height, and wait for what that draws."""
    area = page.locator("#plot-map .nsewdrag").first.bounding_box()
    assert area is not None
    before = page.get_attribute(READY, "data-drawn")
    x, y = area["x"] + across * area["width"], area["y"] + down * area["height"]
    page.mouse.move(x - 20, y)
    page.mouse.move(x, y)
    page.wait_for_timeout(200)
    page.mouse.click(x, y)
    page.wait_for_function(
        "before => document.querySelector('#view [data-drawn]').dataset.drawn !== before", arg=before
    )


def test_trained_models_answer(open_page: Open, address: str) -> None:
    with open_page("view=phase&cells=4", ready=READY) as page:
        assert page.is_hidden("#control-cells")
        page.select_option("#control-who", "tied relu")
        answers(page, "tied relu,4")
        assert page.is_visible("#control-cells")
        assert "ReLU autoencoder" in page.inner_text("figure:has(#plot-map) h2")
        click_at(page, 0.65, 0.4)
        kurtosis, ratio = (page.get_attribute(READY, "data-drawn") or "").split(",")
        asked = {"who": "tied relu", "cells": 4, "kurtosis": kurtosis, "ratio": ratio}
        answer = httpx.get(f"{address}/api/phase/trained/place", params=asked).json()
        numbers = answer["numbers"]
        assert numbers["kurtosis"] == pytest.approx(float(kurtosis), rel=1e-4)  # a click lands on a cell
        assert numbers["ratio"] == pytest.approx(float(ratio), rel=1e-4)
        first, second = numbers["capacity"]
        assert 0.4 < second < 0.7
        said = facts(page)
        assert said["its trained capacities"] == f"C₁ = {first:.4f}, C₂ = {second:.4f}"
        assert said["theory's in the same cell"] == "C₁ = {:.4f}, C₂ = {:.4f}".format(*numbers["theory"])
        assert "quadratic theory" in page.inner_text("#note")
        shown = page.evaluate(
            "async () => { const { numbers } = await import('/static/parts.js');"
            " const t = document.querySelector('#plot-map').data[0];"
            " return [numbers(t.x), numbers(t.y), numbers(t.z)]; }"
        )
        row, column = shown[1].index(numbers["ratio"]), shown[0].index(numbers["kurtosis"])
        assert shown[2][row][column] == pytest.approx(second)
        page.click("#copy")
        assert page.evaluate("navigator.clipboard.readText()") == answer["code"]
        before = page.url
        assert "who=tied+relu" in before
        page.goto("about:blank")
        page.goto(before)
        answers(page, "tied relu,4")
        assert facts(page) == said
        assert page.url == before
        page.select_option("#control-who", "theory")
        answers(page, "theory")
        assert "its trained capacities" not in facts(page)
        assert page.is_hidden("#note")


def test_another_choice_ends_the_training(open_page: Open) -> None:
    with open_page("view=phase&cells=24", ready=READY) as page:
        ended: list[str] = []
        page.on("requestfailed", lambda request: ended.append(request.url))
        page.select_option("#control-who", "tied relu")
        page.wait_for_selector("#view progress:visible")
        page.wait_for_function("() => document.querySelector('#status').textContent.includes('576 pairs')")
        with page.expect_event("requestfailed"):
            page.select_option("#control-who", "theory")
        page.wait_for_selector("#view progress", state="hidden")
        assert [re.search("who=[a-z+]*", url)[0] for url in ended] == ["who=tied+relu"]
        assert page.inner_text("#status") == ""
        answers(page, "theory")


def test_what_is_none_is_said(open_page: Open) -> None:
    with open_page("view=phase&who=nobody", refused=1, ready=READY) as page:
        page.wait_for_selector("[role=alert]:not(:empty)")
        assert page.inner_text("[role=alert]").startswith("who must be theory or quadratic")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_reader_walks_from_a_to_f(open_page: Open, width: int) -> None:
    with open_page("view=phase&kurtosis=11&ratio=1.7", width, ready=READY) as page:
        assert page.is_disabled("#previous")
        for button in page.locator(".reader button").all():
            box = button.bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) >= 44
        page.focus("#next")
        for point in POINTS:
            page.keyboard.press("Enter")
            page.wait_for_selector(f"#view [data-drawn='{point.kurtosis:g},{point.ratio:g}']")
            assert page.inner_text("#story h2") == f"{point.name}: {point.says}"
            told = page.inner_text("#story")
            assert point.reads in told
            assert point.look in told
            pressed = page.locator(".reader button[aria-pressed=true]").all_inner_texts()
            assert pressed == [point.name]
            assert page.evaluate("document.activeElement.id") == "next"
        page.click("#previous")
        page.wait_for_selector("#view [data-drawn='6,0.6']")
        assert page.inner_text("#story h2").startswith("E: ")
        assert page.inner_text("#next") == "Next: F →"
        page.goto(page.url)
        page.wait_for_selector("#view [data-drawn='6,0.6']")
        assert page.inner_text("#story h2").startswith("E: ")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
