"""The server: the pages of this package, and the figures and numbers that they ask for."""

import asyncio
import json
import logging
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import torch
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from plotly.offline import get_plotlyjs
from starlette.responses import Response

from polysem._checks import require, whole
from polysem.app import _allocation, _geometry, _interventions, _live, _models, _phase, _phase_trained, _sweeps
from polysem.app._guard import Access, Guard, is_loopback
from polysem.app._shelf import Shelf
from polysem.app._work import Works
from polysem.plots import TEMPLATE

LARGEST_UPLOAD = 2**30
GRACE = 2
"""Seconds that answers may take to end when the explorer ends."""

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


@dataclass(frozen=True)
class ExploreConfig:
    """Where the explorer listens, and what it may open.

    Attributes:
        host: address to bind to; whoever opens the pages from beyond a loopback one needs a token.
        port: its port.
        models: folder whose weight files may be opened; none without it.
        largest_upload: bytes of an uploaded file.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    models: Path | None = None
    largest_upload: int = LARGEST_UPLOAD

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(whole("port", self.port) < 2**16, "port", self.port, "from 1 to 65535")
        whole("largest_upload", self.largest_upload)
        if self.models is not None:
            require(self.models.is_dir(), "models", self.models, "a folder that exists")
            parents = self.models.resolve().parents
            linked = any(one.name == "snapshots" and one.parent.name.startswith("models--") for one in parents)
            require(not linked, "models", self.models, "the folder above `snapshots`, whose files lie beside it")


def access_of(config: ExploreConfig) -> Access:
    """Who may speak to the explorer: with a fresh token, where it listens beyond this machine."""
    token = None if is_loopback(config.host) else secrets.token_urlsafe(24)
    return Access(config.host, config.port, token, config.largest_upload)


def create_app(config: ExploreConfig, access: Access) -> FastAPI:
    """The explorer as an ASGI application, guarded.

    Args:
        config: what it may open.
        access: who may speak to it.

    Returns:
        The application; it does not listen to anything yet.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=_life)
    app.include_router(_phase.router)
    app.include_router(_phase_trained.router)
    app.include_router(_allocation.router)
    app.include_router(_live.router)
    app.include_router(_geometry.router)
    app.include_router(_interventions.router)
    app.include_router(_models.router)
    app.include_router(_sweeps.router)
    app.state.works = Works()
    app.state.shelf = Shelf(config.models, config.largest_upload)
    app.state.measurements = _models.Measurements()
    app.add_api_route("/", lambda: _page("index.html"))
    app.add_api_route("/static/{name}", _page)
    app.add_api_route("/plotly.js", _plotly)
    app.add_api_route("/template.json", _template)
    app.add_exception_handler(ValueError, _mistake)
    app.add_exception_handler(RequestValidationError, _mistake)
    app.add_middleware(Guard, access=access)
    return app


def listen(config: ExploreConfig) -> socket.socket:
    """Take the address and port: from now on requests wait for `serve`.

    Raises:
        ValueError: they cannot be had.
    """
    host = config.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, config.port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot listen on {config.host}, port {config.port}: {said}; --port names another") from error


def serve(config: ExploreConfig, access: Access, listening: socket.socket) -> None:
    """Answer requests that come to a socket, until interrupted."""
    import uvicorn

    torch.set_num_threads(1)  # requests run side by side
    settings = uvicorn.Config(
        create_app(config, access), log_level="warning", server_header=False, timeout_graceful_shutdown=GRACE
    )
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    with suppress(KeyboardInterrupt):  # which is how one ends it
        uvicorn.Server(settings).run(sockets=[listening])


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a message is about more than an answer that was cut off because the explorer ends."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


@asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    """What was brought goes when the explorer ends, whatever ends it."""
    yield
    app.state.shelf.close()


def _page(name: str) -> Response:
    """A file of the pages."""
    kind = KINDS.get(Path(name).suffix)
    file = files("polysem.app") / "static" / name
    if kind is None or name != Path(name).name or not file.is_file():
        return Response("There is no such page.", 404, media_type="text/plain")
    return Response(file.read_bytes(), media_type=kind, headers={"cache-control": "no-cache"})


@lru_cache
def _plotly() -> Response:
    return Response(get_plotlyjs(), media_type="text/javascript", headers={"cache-control": "max-age=86400"})


@lru_cache
def _template() -> Response:
    return Response(json.dumps(TEMPLATE.to_plotly_json()), media_type="application/json")


async def _mistake(request: Request, error: Exception) -> Response:
    """A user's mistake, in one line."""
    said = str(error)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        said = f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}"
    return Response(json.dumps({"error": " ".join(said.split())}), 400, media_type="application/json")
