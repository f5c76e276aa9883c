"""The explorer served on a port of its own, and a browser that looks at it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlparse

import pytest
import uvicorn
from playwright.sync_api import Browser, Page

from polysem.app import ExploreConfig, access_of, create_app

Open = Callable[..., AbstractContextManager[Page]]
"""Opens a query, and waits for the element `ready`; the browser may say `refused` times that an answer was no."""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the explorer may open files from; tests put theirs there."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def address(models: Path) -> Iterator[str]:
    """Where the explorer listens while tests run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = ExploreConfig(port=port, models=models)
    app = create_app(config, access_of(config))
    server = uvicorn.Server(uvicorn.Config(app, host=config.host, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def open_page(browser: Browser, address: str) -> Open:
    """Open a view; at the end nothing may have gone wrong in it, and nothing may have been asked of anybody else."""

    @contextmanager
    def opened(
        query: str, width: int = 1280, scheme: str = "light", *, ready: str, refused: int = 0, motion: bool = False
    ) -> Iterator[Page]:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            reduced_motion="no-preference" if motion else "reduce",
            permissions=["clipboard-read", "clipboard-write"],
        )
        page, problems, asked = context.new_page(), [], set()
        page.on("console", lambda said: problems.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: asked.add(urlparse(request.url).netloc))
        page.goto(f"{address}/?{query}")
        page.wait_for_selector(ready)
        yield page
        assert [said for said in problems if "status of 400" not in said] == []
        assert len(problems) == refused
        assert asked - {urlparse(address).netloc, ""} == set()
        context.close()

    return opened
