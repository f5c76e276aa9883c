"""The explorer served on a port of its own, and a browser that looks at it."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, sync_playwright

from polysem.app import ExploreConfig, access_of, create_app


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Where the explorer listens while tests run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = ExploreConfig(port=port)
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


@pytest.fixture(scope="session")
def browser(chromium: Path) -> Iterator[Browser]:
    """A real browser."""
    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=str(chromium), args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()
