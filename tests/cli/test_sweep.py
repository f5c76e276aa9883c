"""`polysem sweep`: what it prints and writes."""

import json
import re
from pathlib import Path

import pytest
import torch
import xarray as xr

from commands import Run, assert_refused
from polysem import theory


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Six cells, one of which fails."""
    content = {"task": "sweep_tasks:fragile", "axes": {"x": [1, 4, -1, 9, 16, 25]}}
    (tmp_path / "roots.json").write_text(json.dumps(content))
    return tmp_path / "roots.json"


def test_sweep_computes_and_goes_on(run: Run, config: Path, tmp_path: Path) -> None:
    done = run("sweep", config)
    assert done.status == 0, done.err
    assert done.out.startswith("6/6 cells, 1 failed, 2/2 stacks, ")
    assert "--retry-failed" in done.out
    assert done.out.endswith(f"\nStore: {tmp_path / 'roots.zarr'}\n")
    (tmp_path / "roots.zarr" / "done" / "c" / "1").unlink()
    found = run("sweep", "--status", "roots.zarr", "--json").json()
    assert (found["n_cells"], found["n_ok"], found["n_failed"], found["n_missing"]) == (6, 2, 1, 3)
    assert (found["n_stacks"], found["n_done"], found["corrupted"]) == (2, 1, [])
    assert run("sweep", config, "--json").json()["n_missing"] == 0
    (tmp_path / "roots.zarr" / "root" / "c" / "1").unlink()
    assert "Damaged stacks, to be computed again: 1\n" in run("sweep", "--status", "roots.zarr").out


def test_sweep_as_readme_has_it(run: Run, tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text().partition("## Sweeps")[2]
    for language, file in (("python", "my_tasks.py"), ("json", "sweep.json")):
        (tmp_path / file).write_text(readme.partition(f"```{language}\n")[2].partition("```")[0])
    command = readme.partition("```sh\npolysem ")[2].partition(" --workers 2\n")[0]
    assert run(*command.split(), "--json").json()["n_ok"] == 9
    found = xr.open_zarr(tmp_path / "allocations.zarr").load()
    best = theory.allocate([0.8**i for i in range(10)], kurtosis=8.0, total=2.0)
    assert found.price.sel(kurtosis=8, total=2).item() == float(best.price)
    torch.testing.assert_close(torch.from_numpy(found.capacity.sel(kurtosis=8, total=2).values), best.capacity)


def test_sweep_interrupted_says_how_to_go_on(run: Run, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"task": "sweep_tasks:wrong", "axes": {"kind": ["good", "interrupt", "list"]}}')
    done = run("sweep", "c.json")
    assert done.status == 130
    assert re.fullmatch(
        r"polysem: interrupted: 1 of 3 stacks are finished and kept in c.zarr; the same call goes on from there\n",
        done.err,
    )


@pytest.mark.bad_input
def test_sweep_refuses(run: Run, config: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    for content in ("{", "[]", "{}", '{"task": "a:b"}', '{"task": "a:b", "axes": {"a": [1]}, "more": 1}'):
        (tmp_path / "bad.json").write_text(content)
        assert_refused(run("sweep", "bad.json"), "axes")
    for arguments, said in (
        ([], "either a CONFIG or --status"),
        ([config, "--status", "s.zarr"], "either a CONFIG or --status"),
        (["none.json"], "none.json"),
        ([config, "--out", "folder"], "store must be a sweep's"),
        (["--status", "folder"], "store must be a sweep's"),
        ([config, "--workers", "0"], "workers must be a whole number of at least 1, got 0"),
        ([config, "--workers", "2", "--scheduler", "tcp://localhost:1"], "give one of them"),
        ([config, "--scheduler", "nowhere"], "address must be like tcp://host:port, got 'nowhere'"),
    ):
        assert_refused(run("sweep", *arguments), said)
