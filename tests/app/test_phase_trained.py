"""The phase diagram of trained models: the numbers of direct calls, kept, bounded, and ended with their page."""

import json
import sys
import time
from types import FrameType

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from polysem.app import ExploreConfig, access_of, create_app
from polysem.app import _phase_trained as view
from polysem.app._kept import Kept
from polysem.studies import TrainedPhaseConfig, TrainedPhases, trained_phases
from polysem.theory import allocate

MAP, PLACE = "/api/phase/trained/map", "/api/phase/trained/place"
ASKED = {"who": "quadratic", "cells": 4}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    monkeypatch.setattr(view, "_kept", Kept(2))
    monkeypatch.setattr("polysem.app._work.SAY_EVERY", 0.0)  # however fast the machine
    config = ExploreConfig()
    return create_app(config, access_of(config))


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1:8765")


def trained(client: TestClient, **asked: object) -> list[dict]:
    answer = client.get(MAP, params=asked)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_cell_is_that_of_the_library(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    *said, last = trained(client, **ASKED)
    assert all(0 < line["progress"] < 1 for line in said)
    assert said
    assert last["done"]
    assert last["figures"]["map"]["data"][0]["type"] == "heatmap"
    place = {"kurtosis": 20.0, "ratio": 0.5}
    answer = client.get(PLACE, params={**ASKED, **place}).json()
    numbers = answer["numbers"]
    direct = trained_phases(TrainedPhaseConfig(architecture="quadratic", n_kurtosis=4, n_ratio=4))
    row, column = direct.nearest(**place)
    assert numbers["kurtosis"] == float(direct.kurtosis[column])
    assert numbers["ratio"] == float(direct.ratio[row])
    assert numbers["capacity"] == pytest.approx(direct.trained[row, column].tolist(), abs=1e-9)
    best = allocate([1.0, numbers["ratio"]], numbers["kurtosis"], 1.0).capacity.tolist()
    assert 0.05 < best[1] < 0.95
    assert numbers["capacity"] == pytest.approx(best, abs=1e-6)
    assert numbers["theory"] == pytest.approx(best, abs=1e-9)
    facts = dict(answer["facts"])
    assert facts["its trained capacities"] == f"C₁ = {best[0]:.4f}, C₂ = {best[1]:.4f}"
    exec(compile(answer["code"], "<copied>", "exec"), {})
    printed = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert {name: json.loads(value) for name, value in printed.items()} == numbers


def test_a_map_is_trained_once_and_makes_room(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[TrainedPhaseConfig] = []

    def count(config: TrainedPhaseConfig, progress: object) -> TrainedPhases:
        asked.append(config)
        return trained_phases(config)

    monkeypatch.setattr(view, "trained_phases", count)
    first, second, third = ({"who": "tied identity", "cells": cells} for cells in (2, 4, 6))
    for one in (first, first, second, first, third, first):
        assert trained(client, **one)[-1]["done"]
    assert [config.n_ratio for config in asked] == [2, 4, 6]
    assert client.get(PLACE, params=first).status_code == 200
    gone = client.get(PLACE, params=second)
    assert gone.status_code == 404
    assert "choose again" in gone.json()["detail"]
    trained(client, **second)
    assert [config.n_ratio for config in asked] == [2, 4, 6, 4]


@pytest.mark.bad_input
@pytest.mark.parametrize("path", [MAP, PLACE])
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"who": "theory"}, "who must be theory or quadratic or tied relu"),
        ({"who": "untied relu"}, "who must be theory or quadratic or tied relu"),
        ({"who": "x" * 1000}, "who"),
        ({"cells": 1}, "cells"),
        ({"cells": 26}, "cells"),
        ({"cells": 7}, "cells must be even, got 7"),
        ({"cells": "nan"}, "cells"),
        ({"restarts": 10**6}, "restarts"),
    ],
)
def test_what_cannot_be_trained(client: TestClient, path: str, bad: dict[str, object], said: str) -> None:
    answer = client.get(path, params=bad)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


@pytest.mark.bad_input
@pytest.mark.parametrize("bad", [{"kurtosis": 1}, {"kurtosis": "nan"}, {"ratio": -1}, {"ratio": "inf"}])
def test_no_place(client: TestClient, bad: dict[str, object]) -> None:
    assert client.get(PLACE, params={**ASKED, **bad}).status_code == 400


def training() -> int:
    """Threads that stand in `training.fit`."""
    return sum(_fits(frame) for frame in sys._current_frames().values())


def _fits(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_name != "fit":
        frame = frame.f_back
    return frame is not None


def until(trains: bool) -> None:
    end = time.monotonic() + 20
    while (training() > 0) != trains:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_page_that_goes_ends_the_training(address: str) -> None:
    with httpx.stream("GET", f"{address}{MAP}", params={"who": "tied abs", "cells": 24}) as answer:
        assert "progress" in next(answer.iter_lines())
        until(True)
    until(False)
    kept = httpx.get(f"{address}{PLACE}", params={"who": "tied abs", "cells": 24})
    assert kept.status_code == 404
