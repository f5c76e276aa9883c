"""Who may speak to the explorer: requests that a page elsewhere, or a liar, could send."""

import re

import pytest
from starlette.testclient import TestClient

from polysem.app import ExploreConfig, access_of, create_app
from polysem.app._guard import is_loopback

HOME = "http://127.0.0.1:8765"
ABROAD = "http://192.0.2.7:8765"


def client(config: ExploreConfig = ExploreConfig(), base: str = HOME) -> tuple[TestClient, str | None]:
    access = access_of(config)
    return TestClient(create_app(config, access), base_url=base, follow_redirects=False), access.token


def test_its_own_pages_may() -> None:
    browser, token = client()
    assert token is None
    assert browser.get("/").status_code == 200
    answer = browser.get("/api/phase/place", headers={"origin": HOME, "sec-fetch-site": "same-origin"})
    assert answer.status_code == 200
    assert answer.json()["numbers"]["capacity"] == pytest.approx([19 / 24, 5 / 24])
    for name in ("localhost:8765", "[::1]:8765", "LOCALHOST:8765"):
        assert browser.get("/", headers={"host": name}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example:8765", "127.0.0.1", "127.0.0.1:80", "localhost.evil.example:8765", "192.0.2.7:8765", ""]
)
def test_a_foreign_name_that_resolves_here_is_refused(host: str) -> None:
    """Rebinding: a page from a name of the attacker's that now stands for this address."""
    browser, _ = client()
    assert browser.get("/api/phase/map", headers={"host": host}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "https://127.0.0.1:8765"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/api/phase/map"), ("POST", "/api/allocation/table")])
def test_pages_from_elsewhere_are_refused(headers: dict[str, str], method: str, path: str) -> None:
    browser, _ = client()
    assert browser.request(method, path, headers=headers).status_code == 403


def test_a_link_from_elsewhere_opens_the_page_but_no_more() -> None:
    browser, _ = client()
    following = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert browser.get("/", headers=following).status_code == 200
    assert browser.post("/api/allocation/table", headers=following).status_code == 403


def test_every_answer_says_what_pages_may_do() -> None:
    browser, _ = client()
    for path in ("/", "/plotly.js", "/api/phase/map", "/absent", "/api/phase/place?kurtosis=0"):
        policy = browser.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert re.search(r"script-src [^;]*(unsafe|http|\*)", policy) is None
    assert browser.get("/", headers={"host": "evil.example"}).headers["x-content-type-options"] == "nosniff"


def test_beyond_this_machine_a_token_is_needed() -> None:
    config = ExploreConfig(host="0.0.0.0")
    browser, token = client(config, ABROAD)
    assert token is not None
    assert len(token) >= 32
    for path in ("/", "/api/phase/map", f"/?token={token[:-1]}", "/?token=", "/static/main.js"):
        assert browser.get(path).status_code == 401
    opened = browser.get(f"/?view=phase&token={token}")
    assert (opened.status_code, opened.headers["location"]) == (303, "/?view=phase")
    assert "HttpOnly" in opened.headers["set-cookie"]
    assert "SameSite=strict" in opened.headers["set-cookie"]
    assert browser.get("/api/phase/map").status_code == 200  # the cookie is kept
    assert browser.get("/api/phase/map", headers={"host": "evil.example:8765"}).status_code == 421
    assert access_of(config).token != token


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.4", "example.org", "localhost.example.org", "")))


@pytest.mark.parametrize("declared", ["1001", "9" * 30, "-1", "x", "1e3"])
def test_bodies_that_declare_too_much(declared: str) -> None:
    browser, _ = client(ExploreConfig(largest_upload=1000))
    answer = browser.post("/api/allocation/table", content=b"importance\n1\n", headers={"content-length": declared})
    assert answer.status_code in (400, 413)


def test_bodies_that_are_longer_than_they_may_be() -> None:
    browser, _ = client(ExploreConfig(largest_upload=1000))
    assert browser.post("/api/allocation/table", content=b"importance\n1\n").status_code == 200
    answer = browser.post("/api/allocation/table", content=(b"1\n" * 50 for _ in range(100)))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/static/../_server.py",
        "/static/..%2f_server.py",
        "/static/%2e%2e/_server.py",
        "/static/%2fetc%2fpasswd",
        "/static//etc/passwd",
        "/static/index.html%00.js",
        "/static/__init__.py",
    ],
)
def test_nothing_but_its_pages_is_served(path: str) -> None:
    browser, _ = client()
    answer = browser.get(path)
    assert answer.status_code == 404
    assert b"import" not in answer.content
    assert b"root:" not in answer.content
