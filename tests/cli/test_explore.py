"""`polysem explore` that cannot begin: one line, and nothing said as if it listened."""

import socket
from pathlib import Path

import pytest

from commands import Run, assert_refused


@pytest.mark.bad_input
def test_a_port_that_is_taken(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert_refused(
            run("explore", "--port", port), f"cannot listen on 127.0.0.1, port {port}: Address already in use"
        )


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "no-such-name.invalid"], "cannot listen on no-such-name.invalid, port 8765"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
        (["--port", "0"], "port must be"),
        (["--port", "65536"], "port must be"),
        (["--models", "absent"], "models must be a folder that exists, got"),
        (["--models", "file"], "models must be a folder that exists, got"),
    ],
)
def test_what_cannot_be_served(arguments: list[str], said: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_refused(run("explore", *arguments), said)
