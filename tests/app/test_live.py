"""Models that train for a page: the numbers of direct calls, and work that is bounded and ends with its page."""

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest
import torch
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from polysem.app import ExploreConfig, access_of, create_app
from polysem.app._work import GoneError, Works
from polysem.features import SparseUniform
from polysem.studies import LiveConfig, Moment, intervene, known_optimum, live, live_bounds

GEOMETRY = {"architecture": "quadratic", "n_features": 5, "feature_probability": 0.1, "decay": 0.9, "steps": 40}
LONG = {"architecture": "tied relu", "n_features": 40, "d_hidden": 10, "n_seeds": 4, "steps": 3000}
CONFIG = LiveConfig(**GEOMETRY)


@pytest.fixture(scope="module")
def app() -> FastAPI:
    config = ExploreConfig()
    return create_app(config, access_of(config))


@pytest.fixture(scope="module")
def client(app: FastAPI) -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1:8765")


def asked(client: TestClient, view: str, **parameters: object) -> list[dict]:
    answer = client.get(f"/api/{view}/train", params=parameters)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def run(code: str, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """What a snippet prints, by label."""
    exec(compile(code, "<copied>", "exec"), {})
    said = {}
    for line in capsys.readouterr().out.splitlines():
        label, _, value = line.partition(" [") if "[" in line else line.rpartition(" ")
        said[label] = json.loads(f"[{value}" if "[" in line else value)
    return said


def test_moments_are_those_of_the_library(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Moment] = []
    done = live(CONFIG, seen.append)
    lines = asked(client, "geometry", **GEOMETRY, shown=2)
    first, *moments, last = lines
    assert set(first["figures"]) == {"embedding", "capacity", "gram", "loss"}
    assert [line["step"] for line in (first, *moments)] == [moment.step for moment in seen]
    for line, moment in zip(moments, seen[1:], strict=True):
        ends = [change["extend"] for change in line["changes"]["loss"]]
        assert ends == [{"x": [moment.step], "y": [loss]} for loss in moment.loss.tolist()]
        assert line["changes"]["capacity"][0]["y"] == pytest.approx(moment.capacity[1].tolist(), abs=1e-4)
    assert "gram" in moments[-1]["changes"]
    assert len(json.dumps(moments[0])) < 4000
    assert last["done"]
    assert last["numbers"] == {"loss": done.last.loss.tolist(), "capacity": done.last.capacity.tolist()}
    assert dict(first["facts"])["known optimum of the loss"] == f"{known_optimum(CONFIG):.4g}"
    said = run(last["code"], capsys)
    assert said["loss"] == last["numbers"]["loss"]
    assert said["capacity"] == last["numbers"]["capacity"]


def test_an_ended_stream_goes_on_as_if_it_had_not(client: TestClient) -> None:
    whole = asked(client, "geometry", **GEOMETRY)
    rest = [line for line in asked(client, "geometry", **GEOMETRY, from_step=21) if "before" not in line]
    named = [{**line, "facts": dict(line.get("facts", []))} for line in rest]
    for line, other in zip(named, whole[-len(named) :], strict=True):
        assert line["step"] == other["step"] > 20
        assert line.get("changes", {}) == other.get("changes", {})
    assert rest[0]["step"] == 21
    assert "figures" not in rest[0]


def test_interventions_are_those_of_the_library(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    *_, last = asked(client, "interventions", **GEOMETRY, share=0.5, masked="2,5")
    bounds = live_bounds(CONFIG)
    done = intervene(live(CONFIG), kappa=0.5 * bounds.kappa, masked=[1, 4])
    assert last["numbers"] == {"loss": done.last.loss.tolist(), "capacity": done.last.capacity.tolist()}
    said = run(last["code"], capsys)
    assert said["loss"] == last["numbers"]["loss"]
    assert said["best monosemantic loss"] == bounds.monosemantic
    *_, plain = asked(client, "interventions", **GEOMETRY)
    assert plain["numbers"]["loss"] == live(CONFIG).last.loss.tolist()
    assert run(plain["code"], capsys)["loss"] == plain["numbers"]["loss"]
    first, *_, again = asked(client, "interventions", **GEOMETRY, share=0.5, masked="2,5")  # from what is kept
    assert set(first["figures"]) == {"embedding", "capacity", "loss", "index"}
    assert again["numbers"] == last["numbers"]


def test_chance_and_kurtosis_belong_together(client: TestClient) -> None:
    def told(**asked: object) -> dict[str, float | None]:
        answer = client.get("/api/live/inputs", params={"feature_probability": 0.05, **asked})
        assert answer.status_code == 200, answer.text
        return answer.json()["numbers"]

    quadratic = {"architecture": "quadratic"}
    assert told(**quadratic) == pytest.approx({"feature_probability": 0.05, "kurtosis": 36.0, "least": 1.01})
    assert told(**quadratic, kurtosis=6)["feature_probability"] == pytest.approx(0.3)
    assert told(**quadratic, kurtosis=1.5)["feature_probability"] is None  # no uniform feature has so little
    relu = told(architecture="tied relu")
    assert relu["kurtosis"] == pytest.approx(float(SparseUniform(0.05).kurtosis))
    assert told(architecture="tied relu", kurtosis=relu["kurtosis"])["feature_probability"] == pytest.approx(0.05)
    bounded = told(architecture="tied relu", kurtosis=1.5)
    assert bounded == pytest.approx({"feature_probability": 0.8, "kurtosis": 27 / 16, "least": 27 / 16})
    for bad in ({"kurtosis": 1}, {"kurtosis": "nan"}, {"kurtosis": 1e9}, {"architecture": "none"}):
        refused = client.get("/api/live/inputs", params={**quadratic, "feature_probability": 0.1, **bad})
        assert refused.status_code == 400


def test_a_training_of_a_kurtosis(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    parameters = {name: value for name, value in GEOMETRY.items() if name != "feature_probability"}
    *_, last = asked(client, "geometry", **parameters, kurtosis=2.5)
    done = live(LiveConfig(**parameters, kurtosis=2.5))
    assert last["numbers"]["loss"] == done.last.loss.tolist()
    assert run(last["code"], capsys)["loss"] == last["numbers"]["loss"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("tied identity", "returns are constant"),
        ("untied relu", "evade the penalty"),
        ("tied square", "not always enough"),
    ],
)
def test_what_cannot_be_flattened_is_said(client: TestClient, name: str, why: str) -> None:
    [said] = asked(client, "interventions", architecture=name)
    assert why in said["error"]


def test_nothing_to_flatten(client: TestClient) -> None:
    parameters = {name: value for name, value in GEOMETRY.items() if name != "feature_probability"}
    lines = asked(client, "interventions", **parameters, kurtosis=2.5, share=1)
    first = next(line for line in lines if "facts" in line)
    assert dict(first["facts"])["penalty κ"] == "0: returns do not diminish, there is nothing to flatten"


@pytest.mark.parametrize(
    ("view", "bad"),
    [
        ("geometry", {"n_features": 61}),
        ("geometry", {"d_hidden": 21}),
        ("geometry", {"steps": 10**9}),
        ("geometry", {"feature_probability": "nan"}),
        ("geometry", {"kurtosis": 1}),
        ("geometry", {"kurtosis": 1.5}),
        ("geometry", {"architecture": "hidden relu"}),
        ("geometry", {"architecture": "x" * 100}),
        ("geometry", {"n_seeds": 0}),
        ("geometry", {"unknown": 1}),
        ("geometry", {"seed": -1}),
        ("interventions", {"n_features": 21}),
        ("interventions", {"share": 1.5}),
        ("interventions", {"share": "nan"}),
        ("interventions", {"masked": "0"}),
        ("interventions", {"masked": "7"}),
        ("interventions", {"masked": "x"}),
        ("interventions", {"masked": "1,2,3,4,5,6"}),
        ("interventions", {"architecture": "tied tanh"}),
    ],
)
def test_bad_parameters_are_refused(client: TestClient, view: str, bad: dict[str, object]) -> None:
    answer = client.get(f"/api/{view}/train", params=bad)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_work_that_fails_ends_its_answer(caplog: pytest.LogCaptureFixture) -> None:
    app, works = FastAPI(), Works(at_once=1, waiting=0)

    def fail(emit: object) -> None:
        raise KeyError("lost")

    app.add_api_route("/", lambda: works.stream(fail))
    with TestClient(app) as client:
        for _ in range(2):  # the place is free again
            assert "has failed" in client.get("/").json()["error"]
    assert "lost" in caplog.text


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def served(app: FastAPI, port: int) -> Iterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def listening() -> Iterator[tuple[str, Works]]:
    port = free_port()
    config = ExploreConfig(port=port)
    app = create_app(config, access_of(config))
    with served(app, port):
        yield f"http://127.0.0.1:{port}", app.state.works


def until(reached: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.02)


def workers() -> int:
    return sum(thread.name.startswith("asyncio_") and _busy(thread) for thread in threading.enumerate())


def _busy(thread: threading.Thread) -> bool:
    """Whether a thread of the pool stands in `training.fit`."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_name == "fit":
            return True
        frame = frame.f_back
    return False


def test_a_page_that_goes_ends_its_work(listening: tuple[str, Works]) -> None:
    address, works = listening
    with httpx.stream("GET", f"{address}/api/geometry/train", params=LONG) as answer:
        next(answer.iter_lines())
        until(lambda: workers() == 1)
    until(lambda: workers() == 0 and works._taken == 0)


def test_a_place_is_free_when_its_work_has_ended() -> None:
    """Not already when its page has gone."""
    app, works = FastAPI(), Works(at_once=1, waiting=1)
    noticed, release = threading.Event(), threading.Event()

    def deaf(emit: Callable[[dict], None]) -> None:
        with suppress(GoneError):
            while True:
                emit({"share": 0.5})
        noticed.set()
        release.wait(20)

    app.add_api_route("/deaf", lambda: works.stream(deaf))
    app.add_api_route("/next", lambda: works.stream(lambda emit: emit({"released": release.is_set()})))
    port = free_port()
    with served(app, port), httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        try:
            with client.stream("GET", "/deaf") as answer:
                next(answer.iter_lines())
            assert noticed.wait(20)
            with client.stream("GET", "/next") as answer:
                until(lambda: works._taken == 2, 5)
                release.set()
                assert json.loads(answer.read()) == {"released": True}
        finally:
            release.set()


def test_a_thousand_trainings_are_bounded(listening: tuple[str, Works]) -> None:
    address, works = listening
    most = works.at_once + works.waiting
    with httpx.Client(base_url=address, timeout=30, limits=httpx.Limits(max_connections=None)) as client:
        held = [
            client.send(client.build_request("GET", "/api/geometry/train", params=LONG), stream=True)
            for _ in range(most)
        ]
        until(lambda: works._taken == most)
        codes = [client.get("/api/geometry/train", params=LONG).status_code for _ in range(1000 - most)]
        assert set(codes) == {503}
        assert workers() <= works.at_once
        assert client.get("/api/phase/place").status_code == 200
        for answer in held:
            answer.close()
        until(lambda: works._taken == 0 and workers() == 0)
        answer = client.get("/api/geometry/train", params={**GEOMETRY})
        assert json.loads(answer.text.splitlines()[-1])["done"]
    assert torch.is_grad_enabled()
