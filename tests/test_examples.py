"""Every example runs as it stands, and writes what it says."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(example)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "agree in 100.0% of 576 cells" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "superposition-built.html",
        "superposition-trained.html",
    ]
