"""Every example runs as it stands, and writes what it says."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
EXPECTED = {
    "superposition_phase_diagram.py": (
        "agree in 100.0% of 576 cells",
        ["superposition-built.html", "superposition-trained.html"],
    ),
    "layers_of_a_network.py": ("before stream capacity 19.6 of 20; unequal: prices of 100 impure", ["prices.html"]),
    "phase_diagram_from_a_store.py": ("1024 of 1024 cells are there", ["superposition.html", "superposition.zarr"]),
}


def test_these_are_all() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_example(name: str, tmp_path: Path) -> None:
    says, writes = EXPECTED[name]
    done = subprocess.run(
        [sys.executable, str(FOLDER / name)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert says in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == writes


def test_prices_of_a_network_as_the_readme_has_them(tmp_path: Path) -> None:
    readme = (FOLDER.parent / "README.md").read_text().partition("## What is more capacity worth")[2]
    code = readme.partition("```python\n")[2].partition("```")[0]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "unequal: prices of " in done.stdout
