"""Matrices of one's own: the numbers are those of direct calls, and so are those of sweeps."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from starlette.testclient import TestClient
from torch.testing import assert_close

import polysem as ps
from polysem.app import ExploreConfig, access_of, create_app
from polysem.measure import partners as partners_of
from polysem.measure import report
from polysem.sweeps import Grid, Output, Stack, run, task

LABELS = [f"word {k}" for k in range(38)] + ["7", "<b>bold</b>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("own")
    generator = np.random.default_rng(0)
    np.savez(here / "model.npz", W=generator.normal(size=(40, 6)) * generator.uniform(0.5, 2, (40, 1)), b=np.ones(3))
    (here / "words.txt").write_text("\n".join(LABELS))
    (here / "deeper").mkdir()
    np.save(here / "deeper" / "wide.npy", np.ones((8193, 8193), dtype=np.float16))
    (here / "notes.md").write_text("no weights")
    return here


@pytest.fixture(scope="module")
def client(folder: Path) -> TestClient:
    config = ExploreConfig(models=folder)
    return TestClient(create_app(config, access_of(config)), base_url="http://127.0.0.1:8765")


@task(stacked=("ratio",), outputs={"area": Output(), "sides": Output({"side": 2})}, max_cells=4)
def rectangles(stack: Stack) -> dict[str, np.ndarray]:
    """Fails where the ratio is 3."""
    ratio = np.asarray(stack["ratio"], dtype=float)
    if (ratio == 3).any():
        raise ValueError("three")
    return {"area": ratio * (1 + stack.seeds % 2), "sides": np.stack([ratio, 2 * ratio], -1)}


@pytest.fixture(scope="module")
def swept(folder: Path) -> xr.Dataset:
    run(Grid({"ratio": [1.0, 2.0]}), rectangles, folder / "line.zarr")
    return run(Grid({"ratio": [1.0, 2.0, 3.0, 400.0], "seed": [0, 1, 2]}), rectangles, folder / "areas.zarr")


def lines(client: TestClient, path: str, **parameters: object) -> list[dict]:
    answer = client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def measured(client: TestClient, **parameters: object) -> dict:
    *progress, last = lines(client, "/api/models/measure", file="model.npz", tensor="W", **parameters)
    shares = [line["progress"] for line in progress]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    return last


def test_what_can_be_opened(client: TestClient, folder: Path, swept: xr.Dataset) -> None:
    assert swept.sizes["ratio"] == 4
    numbers = client.get("/api/models/files").json()["numbers"]
    assert numbers["folder"] == str(folder.resolve())
    assert not numbers["left_out"]
    found = {one["name"]: (one["kind"], one["size"]) for one in numbers["files"]}
    sizes = {name: (folder / name).stat().st_size for name in ("model.npz", "words.txt", "deeper/wide.npy")}
    assert found == {
        "model.npz": ("weights", sizes["model.npz"]),
        "words.txt": ("labels", sizes["words.txt"]),
        "deeper/wide.npy": ("weights", sizes["deeper/wide.npy"]),
        "areas.zarr": ("sweep", 0),
        "line.zarr": ("sweep", 0),
    }
    numbers = client.get("/api/models/matrices", params={"file": "model.npz"}).json()["numbers"]
    assert numbers["matrices"] == [{"name": "W", "shape": [40, 6], "dtype": "float64"}]
    assert (numbers["format"], numbers["skipped"]) == ("npz", 1)


@pytest.mark.parametrize(
    ("features", "norm", "draws", "seed"), [("rows", "raw", 3, 0), ("columns", "raw", 2, 5), ("rows", "unit", 2, 1)]
)
def test_a_matrix_is_measured_as_report_does(
    client: TestClient, folder: Path, features: str, norm: str, draws: int, seed: int
) -> None:
    answer = measured(client, features=features, norm=norm, draws=draws, seed=seed)
    stored = torch.from_numpy(np.load(folder / "model.npz")["W"])
    W = stored if features == "rows" else stored.mT.contiguous()
    truth = report(W, norm=norm, draws=draws, seed=seed)
    numbers = answer["numbers"]
    most, least = numbers.pop("most"), numbers.pop("least")
    assert numbers == json.loads(json.dumps(truth.to_dict()))
    order = torch.argsort(truth.capacity, descending=True)
    n = min(12, len(W))
    assert [one["index"] for one in most] == order[:n].tolist()
    assert [one["index"] for one in least] == order.flip(0)[:n].tolist()
    for one in (*most, *least):
        assert one["capacity"] == float(truth.capacity[one["index"]])
        assert one["norm"] == float(truth.row_norm[one["index"]])
        assert one["label"] is None
    assert dict(map(tuple, answer["facts"])) == dict(truth.table())
    assert list(answer["figures"]) == ["capacity", "norm", "spectrum"]


def test_partners_of_a_feature(client: TestClient, folder: Path) -> None:
    W = torch.from_numpy(np.load(folder / "model.npz")["W"])
    given = {"file": "model.npz", "tensor": "W", "draws": 2, "labels": "words.txt"}
    for feature, row in (("word 5", 5), ("5", 5), ("7", 38), ("<b>bold</b>", 39)):
        answer = lines(client, "/api/models/partners", **given, feature=feature)[-1]
        assert answer["numbers"]["feature"]["index"] == row
        truth = partners_of(W, (row,), k=12)
        found = answer["numbers"]["partners"]
        assert [one["index"] for one in found] == truth.index[0].tolist()
        assert [one["label"] for one in found] == [LABELS[i] for i in truth.index[0].tolist()]
        assert_close([one["cosine"] for one in found], truth.cosine[0].tolist(), rtol=1e-12, atol=0)
        assert_close([one["share"] for one in found], truth.share[0].tolist(), rtol=1e-12, atol=0)


def test_every_feature_as_a_table(client: TestClient, folder: Path) -> None:
    given = {"file": "model.npz", "tensor": "W", "draws": 2, "seed": 3, "labels": "words.txt"}
    early = client.get("/api/models/features.csv", params=given)
    assert (early.status_code, early.json()) == (400, {"error": "the matrix must be measured first"})
    lines(client, "/api/models/measure", **given)
    header, *rows = csv.reader(io.StringIO(client.get("/api/models/features.csv", params=given).text))
    assert header == ["feature", "label", "capacity", "leverage", "norm", "capacity of random directions"]
    truth = report(torch.from_numpy(np.load(folder / "model.npz")["W"]), draws=2, seed=3)
    assert [row[:2] for row in rows] == [[str(k), label] for k, label in enumerate(LABELS)]
    for column, values in ((2, truth.capacity), (3, truth.leverage), (4, truth.row_norm)):
        assert [float(row[column]) for row in rows] == values.tolist()


def test_code_that_is_copied_measures_the_same(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"file": "model.npz", "tensor": "W", "features": "columns", "norm": "unit", "draws": 3, "seed": 2}
    answer = lines(client, "/api/models/measure", **given)[-1]
    exec(compile(answer["code"], "copied", "exec"), {})
    said = capsys.readouterr().out
    assert f"total capacity             {answer['numbers']['total']:.4f}" in said
    assert answer["numbers"]["verdict"] in " ".join(said.split())
    least = [f"{one['index']} None {one['capacity']}" for one in answer["numbers"]["least"][:5]]
    assert said.splitlines()[-len(least) :] == least
    given = {"file": "model.npz", "tensor": "W", "draws": 2, "labels": "words.txt", "feature": "word 3"}
    answer = lines(client, "/api/models/partners", **given)[-1]
    exec(compile(answer["code"], "copied", "exec"), {})
    one = answer["numbers"]["partners"][0]
    assert f"{one['index']} {one['label']} {one['cosine']} {one['share']}" in capsys.readouterr().out


def test_a_file_that_has_changed_is_measured_again(client: TestClient, folder: Path) -> None:
    np.save(folder / "one.npy", np.eye(3))
    given = {"file": "one.npy", "tensor": "one", "draws": 2}
    assert lines(client, "/api/models/measure", **given)[-1]["numbers"]["total"] == pytest.approx(3)
    (again,) = lines(client, "/api/models/measure", **given)  # at once, without progress
    assert again["numbers"]["total"] == pytest.approx(3)
    np.save(folder / "one.npy", np.ones((4, 3)))
    assert lines(client, "/api/models/measure", **given)[-1]["numbers"]["total"] == pytest.approx(1)
    (folder / "one.npy").unlink()


def test_a_matrix_of_rank_0(client: TestClient, folder: Path) -> None:
    np.save(folder / "nothing.npy", np.zeros((4, 3)))
    numbers = lines(client, "/api/models/measure", file="nothing.npy", tensor="nothing", draws=2)[-1]["numbers"]
    (folder / "nothing.npy").unlink()
    assert (numbers["rank"], numbers["total"], numbers["n_zero"]) == (0, 0.0, 4)
    assert numbers["efficiency"] is None


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tensor": "V"}, "no matrix 'V' among the 1 matrix of the file"),
        ({"tensor": "b"}, "'b' is not a matrix of floating-point numbers: 1-D of shape (3,)"),
        ({"labels": "model.npz"}, "no vocabulary"),
        ({"feature": "nobody", "labels": "words.txt"}, "the label of one feature of W, not 0"),
        ({"feature": "40"}, "less than the 40 features of W"),
        ({"file": "deeper/wide.npy", "tensor": "wide"}, "the smaller side of the matrix must be at most 8,192 here"),
        ({"file": "gone.npz"}, "file must be a path below"),
    ],
)
def test_what_cannot_be_measured(client: TestClient, given: dict[str, str], said: str) -> None:
    asked = {"file": "model.npz", "tensor": "W", "draws": 2, **given}
    answer = lines(client, f"/api/models/{'partners' if 'feature' in given else 'measure'}", **asked)[-1]
    assert said in answer["error"]
    assert "\n" not in answer["error"]


@pytest.mark.bad_input
@pytest.mark.parametrize("bad", [{"draws": 1}, {"draws": 65}, {"norm": "l2"}, {"features": "both"}, {"other": 1}])
def test_bad_parameters_are_refused(client: TestClient, bad: dict[str, object]) -> None:
    answer = client.get("/api/models/measure", params={"file": "model.npz", "tensor": "W", **bad})
    assert answer.status_code == 400
    assert next(iter(bad)) in answer.json()["error"]


def test_a_sweep_is_shown_as_its_store_says(client: TestClient, swept: xr.Dataset) -> None:
    answer = lines(client, "/api/sweeps", file="areas.zarr")[-1]
    assert answer["numbers"] == {
        "outputs": ["area", "sides"],
        "dimensions": ["ratio", "seed"],
        "chosen": {"output": "area", "across": "ratio", "down": ""},
    }
    assert dict(map(tuple, answer["facts"]))["computed"].startswith("12/12 cells, 3 failed")
    computed = swept["area"].where(swept["status"] == 1)
    figure = ps.plots.sweep_figure(swept, "area", "ratio")
    assert_close(torch.tensor(figure.data[-1].y), torch.tensor(computed.mean("seed").to_numpy()), equal_nan=True)
    assert figure.layout.xaxis.type == "log"
    figure = ps.plots.sweep_figure(swept, "sides", "side", "ratio")
    expected = np.array([[1, 2], [2, 4], [np.nan, np.nan], [400, 800]])
    assert_close(torch.tensor(figure.data[0].z), torch.tensor(expected), equal_nan=True)
    assert figure.data[0].x == ("0", "1")
    assert figure.data[0].y == ("1", "2", "3", "400")


def test_places_of_a_sweep_stay_apart(tmp_path: Path) -> None:
    """However many digits that takes, on axes where equal names would share a place."""
    for ratios, names in (
        ([1.0, 1.00001], ("1", "1.00001")),
        ([1.0, 1.0 + 2**-52], ("1", "1.0000000000000002")),
    ):
        data = run(Grid({"ratio": ratios, "seed": [0, 1]}), rectangles, tmp_path / names[1])
        (drawn,) = ps.plots.sweep_figure(data, "area", "ratio", "seed").data
        assert drawn.x == names
        assert_close(torch.tensor(drawn.z), torch.from_numpy(data["area"].to_numpy().T.copy()))


def test_code_of_a_sweep(client: TestClient, swept: xr.Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    answer = lines(client, "/api/sweeps", file="areas.zarr", output="sides", across="side")[-1]
    exec(compile(answer["code"], "copied", "exec"), {})
    assert capsys.readouterr().out.splitlines()[-1] == "[134.33333333 268.66666667]"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"output": "volume"}, "output must be one of area, sides"),
        ({"across": "side"}, "across must be one of ratio, seed"),
        ({"across": "ratio", "down": "ratio"}, "down must be another dimension than across"),
        ({"file": "line.zarr", "down": "ratio"}, "down must be another dimension than across"),
        ({"file": "deeper"}, "store must be a sweep's"),
    ],
)
def test_what_is_no_sweep(client: TestClient, swept: xr.Dataset, given: dict[str, str], said: str) -> None:
    assert swept is not None
    assert said in lines(client, "/api/sweeps", **{"file": "areas.zarr", **given})[-1]["error"]
