"""Every example runs as it stands, and writes what it says."""

import re
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
    "real_network.py": ("after  outputs   capacity 22.", ["words-kinds.html", "words-prices.html"]),
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


def run_from_the_readme(section: str, folder: Path) -> str:
    readme = (FOLDER.parent / "README.md").read_text().partition(f"## {section}")[2]
    code = readme.partition("```python\n")[2].partition("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", f"import torch; torch.manual_seed(1)\n{code}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_prices_of_a_network_as_the_readme_has_them(tmp_path: Path) -> None:
    assert "unequal: prices of " in run_from_the_readme("What is more capacity worth", tmp_path)


def test_features_become_monosemantic_as_in_the_readme(tmp_path: Path) -> None:
    found = run_from_the_readme("Making features monosemantic", tmp_path)
    C = [float(value) for value in re.findall(r"\d\.\d+e?[-+]?\d*", found)]
    assert len(C) == 64
    assert sum(0.05 < value < 0.95 for value in C) <= 16  # more than 32 without the penalty
    assert sum(value > 0.95 for value in C) >= 1


def test_features_inside_a_network_as_in_the_readme(tmp_path: Path) -> None:
    lines = run_from_the_readme("Features inside your network", tmp_path).splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2"]
    found = [re.search(r"capacity (.*) of 5 features .* samples: .* to (.*)\); explained", line) for line in lines]
    assert all(match is not None and float(match[1]) > float(match[2]) for match in found)


def test_capacity_while_a_network_trains_as_in_the_readme(tmp_path: Path) -> None:
    lines = run_from_the_readme("Capacity while your network trains", tmp_path).splitlines()
    assert lines[0].split() == ["matrix", "0.weight", "1.weight"]
    table = [[float(value) for value in line.split()] for line in lines[2:]]
    assert [row[0] for row in table] == [0, 100, 200, 300, 400]
    assert all(last > first for first, last in zip(table[0][1:], table[-1][1:], strict=True))
    assert (tmp_path / "trajectories.html").stat().st_size > 10_000
