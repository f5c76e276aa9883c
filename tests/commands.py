"""Running commands in tests: how one ended, and what it left."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    def json(self) -> dict:
        def reject(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        assert self.status == 0, self.err
        assert self.err == ""
        return json.loads(self.out, parse_constant=reject)


Run = Callable[..., Done]


def process(*arguments: object, cwd: Path) -> Done:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "polysem", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that lies in a folder, with the content of files."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def assert_refused(done: Done, said: str) -> None:
    assert done.status == 2
    assert done.out == ""
    assert done.err.startswith("polysem: error: ")
    assert done.err.count("\n") == 1
    assert done.err.endswith("\n")
    assert "Traceback" not in done.err
    assert said in done.err
