"""Weight files are read as their libraries wrote them: whole, by rows, by columns, in bounded memory."""

import io
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from polysem.measure import RowBlocks
from polysem.networks import StoredMatrix, WeightFile, load

Save = Callable[[Path, dict[str, Tensor]], None]

FLOATS = [torch.float64, torch.float32, torch.float16]
OTHERS = [
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
]


def save_legacy(path: Path, tensors: dict[str, Tensor]) -> None:
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


def save_npz(path: Path, tensors: dict[str, Tensor]) -> None:
    np.savez(path, **{name: tensor.numpy() for name, tensor in tensors.items()})


def save_compressed(path: Path, tensors: dict[str, Tensor]) -> None:
    np.savez_compressed(path, **{name: tensor.numpy() for name, tensor in tensors.items()})


SAVERS: dict[str, tuple[str, Save]] = {
    "safetensors": ("m.safetensors", lambda path, tensors: safetensors.torch.save_file(tensors, path)),
    "torch": ("m.pt", lambda path, tensors: torch.save(tensors, path)),
    "legacy torch": ("m.bin", save_legacy),
    "npz": ("m.npz", save_npz),
    "compressed npz": ("m.npz", save_compressed),
}
CASES = [
    pytest.param(kind, dtype, id=f"{kind}-{str(dtype).removeprefix('torch.')}")
    for kind in SAVERS
    for dtype in {"npz": FLOATS, "compressed npz": FLOATS, "legacy torch": FLOATS + OTHERS[:1]}.get(
        kind, FLOATS + OTHERS
    )
]


@pytest.fixture
def blocks_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[RowBlocks, int], list[Tensor]]:
    """Read in blocks of about that many rows."""

    def read(rows: RowBlocks, n: int) -> list[Tensor]:
        monkeypatch.setattr("polysem.measure._rows.LARGEST_BLOCK_BYTES", n * 8 * rows.shape[1])
        return list(rows.blocks())

    return read


def same(actual: Tensor, expected: Tensor) -> None:
    assert actual.dtype == expected.dtype
    torch.testing.assert_close(actual.double(), expected.double(), rtol=0, atol=0)


def random(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_every_format_and_dtype_comes_back(
    kind: str, dtype: torch.dtype, tmp_path: Path, blocks_of: Callable[[RowBlocks, int], list[Tensor]]
) -> None:
    name, save = SAVERS[kind]
    W = random((23, 5), dtype)
    save(tmp_path / name, {"other": random((4, 4), torch.float32, 1), "W": W, "tall": random((1, 9), dtype, 2)})
    file = load(tmp_path / name)

    assert set(file) == {"other", "W", "tall"}
    assert file.format == kind.split()[-1]
    matrix = file["W"]
    assert isinstance(matrix, StoredMatrix)
    assert (matrix.name, matrix.shape, matrix.dtype) == ("W", (23, 5), dtype)
    same(matrix.tensor(), W)
    for features, expected in (("rows", W), ("columns", W.mT)):
        rows = matrix.rows_of(features)
        assert isinstance(rows, RowBlocks)
        assert (rows.shape, rows.dtype) == (tuple(expected.shape), dtype)
        for size in (1, 3, 100):
            blocks = blocks_of(rows, size)
            assert [len(block) for block in blocks] == [
                min(size, len(expected) - start) for start in range(0, len(expected), size)
            ]
            same(torch.cat(blocks), expected)
            same(torch.cat(blocks_of(rows, size)), expected)  # again from the start


@pytest.mark.parametrize("skip", [0, 2**30], ids=["jumping", "reading through"])
@pytest.mark.parametrize("group", [1, 100, 2**20])
def test_columns_are_cut_alike_whatever_the_reads(
    skip: int,
    group: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    blocks_of: Callable[..., list[Tensor]],
) -> None:
    monkeypatch.setattr("polysem.networks._stored._SKIP", skip)
    monkeypatch.setattr("polysem.networks._stored._GROUP", group)
    W = random((31, 17), torch.float32)
    np.save(tmp_path / "W.npy", W.numpy())
    for size in (1, 4, 17):
        same(torch.cat(blocks_of(load(tmp_path / "W.npy")["W"].rows_of("columns"), size)), W.mT)


@settings(deadline=None, max_examples=60)
@given(
    array=st.sampled_from(["f2", "f4", "f8"]).flatmap(
        lambda kind: hnp.arrays(
            st.sampled_from([f"<{kind}", f">{kind}"]).map(np.dtype),
            hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9),
            elements={"allow_nan": False},
        )
    ),
    order=st.sampled_from(["C", "F"]),
    kind=st.sampled_from(["npy", "npz", "compressed"]),
    size=st.integers(1, 12),
)
def test_numpy_arrays_of_any_shape_order_and_byte_order(array: np.ndarray, order: str, kind: str, size: int) -> None:
    array = np.asarray(array, order=order)
    expected = torch.from_numpy(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / ("a.npy" if kind == "npy" else "a.npz")
        if kind == "npy":
            np.save(path, array)
        else:
            (np.savez if kind == "npz" else np.savez_compressed)(path, a=array)
        matrix = load(path)["a"]
        patch.setattr("polysem.measure._rows.LARGEST_BLOCK_BYTES", size * 8 * 5)
        same(matrix.tensor(), expected)
        for rows, whole in ((matrix.rows_of("rows"), expected), (matrix.rows_of("columns"), expected.mT)):
            assert rows.shape == tuple(whole.shape)
            same(torch.cat([whole[:0], *rows.blocks()]), whole)


def test_order_and_what_is_skipped(tmp_path: Path) -> None:
    tensors = {
        "z": random((2, 3), torch.float32),
        "a": random((3, 2), torch.float32),
        "bias": torch.zeros(384),
        "ids": torch.zeros(2, 2, dtype=torch.int64),
        "conv": torch.zeros(2, 3, 4, dtype=torch.float16),
        "wave": torch.zeros(2, 2, dtype=torch.complex64),
        "count": torch.tensor(3),
    }
    reasons = {
        "bias": "1-D of shape (384,)",
        "ids": "int64",
        "conv": "3-D of shape (2, 3, 4)",
        "wave": "complex64",
        "count": "0-D of shape (), int64",
    }
    for name, save in SAVERS.values():
        save(tmp_path / name, tensors)
        file = load(tmp_path / name)
        assert file.skipped == reasons
        assert set(file) == {"z", "a"}
        if file.format != "safetensors":
            assert list(file) == ["z", "a"]
    names = safetensors.safe_open(tmp_path / "m.safetensors", "pt").offset_keys()
    assert list(load(tmp_path / "m.safetensors")) == [name for name in names if name in {"z", "a"}]


def test_safetensors_come_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    header = b'{"late":{"dtype":"F64","shape":[1,2],"data_offsets":[8,24]},'
    header += b'"early":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}'
    numbers = np.array([1, 2], "<f4").tobytes() + np.array([3, 4], "<f8").tobytes()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + numbers)
    file = load(tmp_path / "w.safetensors")
    assert list(file) == ["early", "late"]
    same(file["early"].tensor(), torch.tensor([[1.0], [2.0]]))
    same(file["late"].tensor(), torch.tensor([[3.0, 4.0]], dtype=torch.float64))


def test_reads_that_end_early_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system hands out at most 2 GiB at once, a slow one less."""

    class Hesitant(io.FileIO):
        def readinto(self, buffer: memoryview) -> int:
            return super().readinto(memoryview(buffer)[:7])

    W = random((9, 5), torch.float32)
    np.save(tmp_path / "W.npy", W.numpy())
    matrix = load(tmp_path / "W.npy")["W"]
    monkeypatch.setattr(Path, "open", lambda path, *_, **__: Hesitant(path))
    same(matrix.tensor(), W)
    same(torch.cat(list(matrix.rows_of("columns").blocks())), W.mT)


def test_nested_checkpoints_are_flattened(tmp_path: Path) -> None:
    layer = torch.nn.Linear(3, 2)
    shared = {"m": torch.ones(2, 2)}
    loop: list[object] = [torch.ones(1, 2)]
    loop.append(loop)
    content = {
        "model": layer.state_dict(),
        "parameter": layer.weight,
        "epoch": 3,
        "optimizer": {"state": {0: shared, 1: shared}, "groups": [{"lr": 0.1, "params": [0, 1]}]},
        "transposed": layer.weight.detach().T,
        "strided": torch.arange(24.0).reshape(6, 4)[::2, 1:3],
        "expanded": torch.ones(3, 1).expand(3, 4),
        "sparse": torch.eye(2).to_sparse(),
        "loop": loop,
    }
    torch.save(content, tmp_path / "c.pt")
    file = load(tmp_path / "c.pt")
    assert list(file) == [
        "model.weight",
        "parameter",
        "optimizer.state.0.m",
        "transposed",
        "strided",
        "expanded",
        "loop.0",
    ]
    assert file.skipped == {
        "model.bias": "1-D of shape (2,)",
        "epoch": "int",
        "optimizer.state.1": "dict that occurs twice",
        "optimizer.groups.0.lr": "float",
        "optimizer.groups.0.params": "list",
        "sparse": "torch.sparse_coo on device cpu",
        "loop.1": "list that occurs twice",
    }
    for name in ("transposed", "strided", "expanded"):
        expected = content[name]
        assert isinstance(expected, Tensor)
        same(file[name].tensor(), expected)
        same(torch.cat(list(file[name].rows_of("rows").blocks())), expected)
        same(torch.cat(list(file[name].rows_of("columns").blocks())), expected.T)
    assert not file["model.weight"].tensor().requires_grad
    file["parameter"].tensor().zero_()
    same(file["parameter"].tensor(), layer.weight.detach())  # what is handed out is the caller's own


def test_a_single_array_is_called_after_its_file(tmp_path: Path) -> None:
    torch.save(torch.ones(2, 3), tmp_path / "decoder.pt")
    np.save(tmp_path / "vectors.npy", np.ones((2, 3)))
    assert list(load(tmp_path / "decoder.pt")) == ["decoder"]
    assert list(load(str(tmp_path / "vectors.npy"))) == ["vectors"]


def test_the_content_decides_where_the_suffix_says_nothing(tmp_path: Path) -> None:
    for kind, (name, save) in SAVERS.items():
        save(tmp_path / name, {"W": torch.ones(2, 3)})
        (tmp_path / name).rename(tmp_path / "blob")
        assert load(tmp_path / "blob").format == kind.split()[-1]


def test_a_file_is_a_mapping(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", W=np.ones((2, 3)), V=np.ones((3, 3)), b=np.ones(3))
    file = load(tmp_path / "m.npz")
    assert isinstance(file, WeightFile)
    assert len(file) == 2
    assert "W" in file
    assert "b" not in file
    assert "x" not in file
    assert file.get("b") is None
    assert file.matrix("W") is file["W"]
    assert repr(file) == f"WeightFile('{tmp_path}/m.npz': npz, 2 matrices, 1 skipped)"
    np.savez(tmp_path / "none.npz")
    assert len(load(tmp_path / "none.npz")) == 0


def test_compressed_arrays_are_unpacked_once(tmp_path: Path) -> None:
    W = random((50, 4), torch.float32)
    save_compressed(tmp_path / "m.npz", {"W": W})
    matrix = load(tmp_path / "m.npz")["W"]
    same(matrix.tensor(), W)
    (tmp_path / "m.npz").unlink()
    one, two = matrix.rows_of("rows").blocks(), matrix.rows_of("columns").blocks()
    for first, second in itertools.zip_longest(one, two):
        same(first, W)
        same(second, W.mT)


def test_token_embeddings_of_a_real_model(minilm_file: Path) -> None:
    file = load(minilm_file)
    matrix = file["embeddings.word_embeddings.weight"]
    assert matrix.shape == (30_522, 384)
    expected = safetensors.torch.load_file(minilm_file)
    assert set(file) == {name for name, tensor in expected.items() if tensor.ndim == 2 and tensor.is_floating_point()}
    W = expected[matrix.name]
    same(torch.cat(list(matrix.rows_of("rows").blocks())), W)
    same(torch.cat(list(matrix.rows_of("columns").blocks())), W.mT)


def test_real_word_vectors(glove_folder: Path) -> None:
    matrix = load(glove_folder / "glove_6B_50d_emb.npy")["glove_6B_50d_emb"]
    W = torch.from_numpy(np.load(glove_folder / "glove_6B_50d_emb.npy"))
    assert matrix.shape == (400_000, 50)
    for features, expected in (("rows", W), ("columns", W.mT)):
        start = 0
        for block in matrix.rows_of(features).blocks():
            same(block, expected[start : start + len(block)])
            start += len(block)
        assert start == len(expected)


STREAM = """
import sys
from pathlib import Path
import torch
from polysem.networks import load

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

torch.set_num_threads(1)
torch.ones(300, 300) @ torch.ones(300, 300)
file = load(sys.argv[1])
(matrix,) = file.values()
start = peak()
for features in ("rows", "columns"):
    total = sum(int(block.count_nonzero()) for block in matrix.rows_of(features).blocks())
    assert total == int(sys.argv[2]), total
streamed = peak()
matrix.tensor()
print(streamed - start, peak() - start)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(("kind", "shape"), [("safetensors", (150_000, 512)), ("npy", (512, 150_000))])
def test_memory_stays_bounded(kind: str, shape: tuple[int, int], tmp_path: Path) -> None:
    """A file of 307 MB; reading it whole, which takes that much, shows that the gauge works."""
    path = tmp_path / f"m.{kind}"
    n_bytes = shape[0] * shape[1] * 4
    with path.open("wb") as file:
        if kind == "npy":
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        else:
            header = f'{{"W":{{"dtype":"F32","shape":{list(shape)},"data_offsets":[0,{n_bytes}]}}}}'.encode()
            file.write(len(header).to_bytes(8, "little") + header)
        start = file.tell()
        file.truncate(start + n_bytes)
        for position in (0, n_bytes // 2, n_bytes - 4):
            file.seek(start + position)
            file.write(np.float32(1).tobytes())
    done = subprocess.run(
        [sys.executable, "-c", STREAM, path, "3"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    streamed, whole = map(float, done.stdout.split())
    assert streamed < 100
    assert whole > 250


@pytest.fixture(autouse=True)
def _no_open_files_left() -> Iterator[None]:
    """Whatever a test opened is closed, also where reading stopped half-way."""
    folder = Path("/proc/self/fd")
    before = len(list(folder.iterdir())) if folder.exists() else 0
    yield
    if folder.exists():
        assert len(list(folder.iterdir())) <= before
