"""The explorer in a process of its own: after attacks it serves as before, and has given back what they took."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

LONG = {"architecture": "tied relu", "n_features": 40, "d_hidden": 10, "n_seeds": 4, "steps": 3000}
MEASURED = {"file": "w.npy", "tensor": "w", "draws": 64}
AT_ONCE, WAITING = 2, 6
SLACK = 60  # MB
ROUNDS, WARM = 4, 2
IDLE = 8
"""Threads that pools may keep beyond those of the first rounds: as many as work at once and wait."""


@dataclass(frozen=True)
class Running:
    """An explorer, where it listens, and where its temporary files lie."""

    process: subprocess.Popen[str]
    address: str
    temporary: Path

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def resident(self) -> float:
        """In MB."""
        return self._status("VmRSS") / 1000

    @property
    def threads(self) -> int:
        return self._status("Threads")

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    @property
    def uploads(self) -> list[Path]:
        return [own for place in self.temporary.iterdir() for own in place.iterdir()]

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        (found,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
        return int(found)


@contextmanager
def running(folder: Path) -> Iterator[Running]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    models, temporary = folder / "models", folder / "temporary"
    models.mkdir()
    temporary.mkdir()
    np.save(models / "w.npy", np.random.default_rng(0).normal(size=(40_000, 64)))
    command = [sys.executable, "-m", "polysem", "explore", "--port", str(port), "--models", str(models)]
    process = subprocess.Popen(
        command, env=os.environ | {"TMPDIR": str(temporary)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"Explorer: http://127.0.0.1:{port}/\n"
        yield Running(process, f"http://127.0.0.1:{port}", temporary)
    finally:
        process.kill()
        process.communicate()


def until(reached: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)


def send(explorer: Running, content: bytes) -> bytes:
    """What comes back where a client says what it likes, and goes."""
    with socket.create_connection(("127.0.0.1", explorer.port), timeout=30) as raw:
        raw.sendall(content)
        raw.shutdown(socket.SHUT_WR)
        try:
            return raw.recv(4096)
        except ConnectionResetError:
            return b""


def upload(explorer: Running, headers: str, body: bytes) -> bytes:
    start = f"POST /api/models/upload?name=w.npy HTTP/1.1\r\nHost: 127.0.0.1:{explorer.port}\r\n{headers}\r\n\r\n"
    return send(explorer, start.encode() + body)


def attack(explorer: Running) -> None:
    with httpx.Client(base_url=explorer.address, timeout=60, limits=httpx.Limits(max_connections=None)) as client:

        def begin(path: str, asked: dict[str, object]) -> httpx.Response:
            return client.send(client.build_request("GET", path, params=asked), stream=True)

        held = [begin("/api/geometry/train", LONG) for _ in range(AT_ONCE + WAITING)]
        reading = held[0].iter_lines()  # which ends its connection where it is let go
        next(reading)

        def refused() -> bool:
            answer = begin("/api/geometry/train", LONG)
            answer.close()
            return answer.status_code == 503

        until(refused)
        assert all(refused() for _ in range(1000 // ROUNDS))
        assert client.get("/api/phase/place").status_code == 200
        for answer in held:
            answer.close()

        def measuring() -> bool:
            answer = begin("/api/models/measure", {**MEASURED, "seed": time.monotonic_ns() % 10**6})
            try:
                return answer.status_code == 200 and "progress" in next(answer.iter_lines())
            finally:
                answer.close()

        for _ in range(3):
            until(measuring)
        assert upload(explorer, f"Content-Length: {2**31}", b"x").startswith(b"HTTP/1.1 413")
        assert upload(explorer, "Content-Length: x", b"x").startswith(b"HTTP/1.1 400")
        upload(explorer, "Content-Length: 100000000", bytes(10**6))
        upload(explorer, "Content-Length: 10", bytes(10**6))
        upload(explorer, "Transfer-Encoding: chunked", b"100000\r\n" + bytes(2**20) + b"\r\n")
        upload(explorer, "Transfer-Encoding: chunked", b"x\r\n")
        upload(explorer, "Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n")
        for name in ("w.pt", "w.npy", "w.npz", "w.safetensors"):
            answer = client.post("/api/models/upload", params={"name": name}, content=pickle.dumps(print) * 10**5)
            assert answer.status_code == 400
        sound = (explorer.temporary.parent / "models" / "w.npy").read_bytes()
        for _ in range(3):
            name = client.post("/api/models/upload", params={"name": "w.npy"}, content=sound).json()["numbers"]["name"]
            until(
                lambda name=name: (
                    "verdict" in client.get("/api/models/measure", params={**MEASURED, "file": name, "draws": 2}).text
                )
            )
        unread = begin("/api/models/features.csv", {**MEASURED, "file": name, "draws": 2})
        next(unread.iter_raw())
        unread.close()


def test_memory_goes_back_to_its_level(tmp_path: Path) -> None:
    """The first rounds warm up: what is loaded when it is first needed, and the allocator's pools, stay."""
    with running(tmp_path) as explorer:
        for _ in range(WARM):
            attack(explorer)
        level, threads, descriptors = explorer.resident, explorer.threads, explorer.descriptors
        for _ in range(ROUNDS - WARM):
            attack(explorer)
            until(lambda: explorer.descriptors <= descriptors)
            until(lambda: explorer.resident <= level + SLACK)
            until(lambda: explorer.threads <= threads + IDLE)
            assert len(explorer.uploads) <= 8
            assert all(len(list(own.iterdir())) == 1 for own in explorer.uploads)
            assert httpx.get(f"{explorer.address}/api/phase/map", timeout=5).status_code == 200


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_when_it_ends(how: signal.Signals, tmp_path: Path) -> None:
    """Even while a page looks on."""
    with running(tmp_path) as explorer:
        sound = (tmp_path / "models" / "w.npy").read_bytes()
        answer = httpx.post(f"{explorer.address}/api/models/upload", params={"name": "w.npy"}, content=sound)
        assert answer.status_code == 200
        assert len(explorer.uploads) == 1
        with httpx.stream("GET", f"{explorer.address}/api/geometry/train", params=LONG, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            explorer.process.send_signal(how)
            with suppress(httpx.HTTPError):
                list(lines)
        _, said = explorer.process.communicate(timeout=60)
        assert "Traceback" not in said
        assert list(explorer.temporary.iterdir()) == []
        assert explorer.process.returncode in (0, -signal.SIGTERM)
