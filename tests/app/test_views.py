"""What the views answer, against the library called directly, and against what is no place or no feature."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from starlette.testclient import TestClient
from torch.testing import assert_close

from drawn import numbers
from polysem import theory
from polysem.app import ExploreConfig, access_of, create_app
from polysem.features import geometric
from polysem.studies import POINTS


@pytest.fixture(scope="module")
def browser() -> TestClient:
    config = ExploreConfig()
    return TestClient(create_app(config, access_of(config)), base_url="http://127.0.0.1:8765")


@pytest.mark.parametrize(
    ("kurtosis", "ratio"), [(2.0, 0.8), (6.0, 0.6), (6.0, 0.3), (12.0, 3.0), (12.0, 8.0), (3.5, 0)]
)
def test_a_place(browser: TestClient, kurtosis: float, ratio: float) -> None:
    answer = browser.get("/api/phase/place", params={"kurtosis": kurtosis, "ratio": ratio}).json()
    best = theory.allocate([1.0, ratio], kurtosis, 1.0)
    assert_close(answer["numbers"]["capacity"], best.capacity.tolist(), rtol=1e-12, atol=0)
    benefit = theory.marginal_benefit([1.0, ratio], kurtosis, best.capacity)
    assert_close(answer["numbers"]["benefit"], benefit.tolist(), rtol=1e-12, atol=0)
    said = dict(answer["facts"])
    assert ("share" in said["phase"]) == (theory.phase(ratio, kurtosis) == theory.Phase.BOTH)
    assert said["capacities at the optimum"].startswith(f"C₁ = {float(best.capacity[0]):.4f}")
    for curve, v, sign in zip(answer["figures"]["curves"]["data"], (1.0, ratio), (1, -1), strict=False):
        first = numbers(curve["x"])
        own = first if sign > 0 else 1 - first
        assert_close(numbers(curve["y"]), theory.marginal_benefit(v, kurtosis, own), rtol=1e-12, atol=0)


def test_the_map_has_the_points_of_the_paper(browser: TestClient) -> None:
    answer = browser.get("/api/phase/map").json()
    assert [(p["name"], p["kurtosis"], p["ratio"]) for p in answer["numbers"]["points"]] == [
        (p.name, p.kurtosis, p.ratio) for p in POINTS
    ]
    assert answer["figures"]["map"]["data"][0]["type"] == "heatmap"


def test_an_allocation(browser: TestClient) -> None:
    asked = {"n_features": 9, "decay": 0.8, "kurtosis": 15, "total": 2.5}
    answer = browser.get("/api/allocation", params=asked).json()
    best = theory.allocate(geometric(9, 0.8), 15.0, 2.5)
    said = answer["numbers"]
    assert_close(said["capacity"], best.capacity.tolist(), rtol=1e-12, atol=0)
    assert_close([said["price"], said["loss"]], [float(best.price), float(best.loss)], rtol=1e-12, atol=0)
    *curves, circles, _ = answer["figures"]["stack"]["data"]
    for v, curve in zip(geometric(9, 0.8).tolist(), curves, strict=True):
        assert_close(numbers(curve["y"]), theory.marginal_benefit(v, 15.0, numbers(curve["x"])), rtol=1e-12, atol=0)
    assert_close(numbers(circles["x"]), best.capacity, rtol=1e-12, atol=0)
    widths = browser.get("/api/allocation/widths", params=asked).json()
    assert set(widths["figures"]) == {"loss", "price", "kinds"}
    plan = theory.plan(geometric(9, 0.8), 15.0, torch.arange(1.0, 10))
    assert_close(numbers(widths["figures"]["loss"]["data"][1]["y"]), plan.loss)
    assert widths["figures"]["kinds"]["data"][0]["y"] == plan.n_pure.tolist()


def test_features_of_a_table(browser: TestClient) -> None:
    table = b"importance,feature_probability\n1,0.1\n0.5,0.05\n2,0.5\n"
    read = browser.post("/api/allocation/table", content=table).json()["numbers"]
    assert read == {"importances": "1,0.5,2", "kurtoses": "10,20,2", "n_features": 3}
    answer = browser.get("/api/allocation", params={**read, "total": 1}).json()
    best = theory.allocate([1.0, 0.5, 2.0], [10.0, 20.0, 2.0], 1.0)
    assert_close(answer["numbers"]["capacity"], best.capacity.tolist(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/api/phase/place?kurtosis=8&ratio=0.5", "capacity"),
        ("/api/allocation?total=3.25", "capacity"),
        ("/api/allocation?importances=1,0.5,2&kurtoses=10,20,2&total=1", "capacity"),
    ],
)
def test_code_that_is_copied_gives_the_same_numbers(
    browser: TestClient, path: str, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = browser.get(path).json()
    exec(compile(answer["code"], path, "exec"), {})
    printed = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    values = [float(value) for value in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", printed[number])]
    assert_close(values, answer["numbers"][number], rtol=1e-12, atol=1e-15)
    assert float(printed["price"]) == pytest.approx(answer["numbers"]["price"])


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/phase/place?kurtosis=1", "kurtosis: Input should be greater than 1"),
        ("/api/phase/place?kurtosis=nan", "kurtosis"),
        ("/api/phase/place?ratio=-1", "ratio"),
        ("/api/phase/place?ratio=x", "ratio"),
        ("/api/phase/place?other=1", "other"),
        ("/api/allocation?n_features=301", "n_features"),
        ("/api/allocation?total=inf", "total"),
        ("/api/allocation?importances=1,x&kurtoses=3,3", "importances must be numbers with commas between, got '1,x'"),
        ("/api/allocation?importances=1,2&kurtoses=3", "kurtoses must be as many as importances, 2, got 1"),
        ("/api/allocation?importances=1,nan&kurtoses=3,3", "must be"),
        (f"/api/allocation?importances={'1,' * 300}1&kurtoses=1", "importances must be at most 300, got 301"),
        (f"/api/allocation?importances={'1' * 7000}&kurtoses=1", "importances"),
    ],
)
def test_what_is_no_place_and_no_feature(browser: TestClient, path: str, said: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("table", "said"),
    [
        (b"", "header"),
        (b"a,b\n1,2\n", "importance"),
        (b"importance\n-1\n", "importance"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"importance\n" + b"1\n" * 301, "at most 300 rows"),
    ],
)
def test_tables_that_are_none(browser: TestClient, table: bytes, said: str) -> None:
    answer = browser.post("/api/allocation/table", content=table)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_a_table_that_is_too_long(browser: TestClient) -> None:
    answer = browser.post("/api/allocation/table", content=b"importance\n" + b"1" * 2**21)
    assert answer.status_code == 413


def test_many_ask_at_once(browser: TestClient) -> None:
    """Answers do not depend on what else is asked."""
    totals = torch.linspace(0, 14, 40).tolist()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda total: browser.get("/api/allocation", params={"total": total}).json(), totals))
    spent = [sum(answer["numbers"]["capacity"]) for answer in answers]
    assert_close(spent, totals, rtol=1e-6, atol=1e-6)
