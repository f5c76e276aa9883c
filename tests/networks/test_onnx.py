"""ONNX models are read as the onnx library reads them, and what is wrong with them ends in one line."""

import struct
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch.testing import assert_close

from polysem.networks import WeightFileError, analyze, load

W = np.arange(12.0).reshape(3, 4)


def model(*initializers: TensorProto, constants: tuple[TensorProto, ...] = ()) -> onnx.ModelProto:
    nodes = [helper.make_node("Constant", [], [f"{tensor.name}/out"], value=tensor) for tensor in constants]
    nodes.append(helper.make_node("Constant", [], ["scalar"], value_float=3.0))
    nodes.append(helper.make_node("Identity", ["scalar"], ["result"]))
    graph = helper.make_graph(nodes, "graph", [], [], initializer=initializers)
    found = helper.make_model(graph, producer_name="us")
    helper.set_model_props(found, {"labels": "a\nb\nç", "empty": ""})
    return found


def tensor(name: str = "W", array: np.ndarray = W, **changes: object) -> TensorProto:
    made = numpy_helper.from_array(array.astype(np.float32), name)
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def save(folder: Path, *initializers: TensorProto) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model(*initializers).SerializeToString())
    return path


def problem(path: Path) -> str:
    with pytest.raises(WeightFileError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_initialisers_and_constants(tmp_path: Path) -> None:
    kernel = np.arange(24.0).reshape(2, 3, 2, 2)
    (tmp_path / "m.onnx").write_bytes(
        model(
            tensor(),
            tensor("b", W[0]),
            numpy_helper.from_array(np.array([[1, 2]]), "ids"),
            constants=(tensor("V", W.T), tensor("conv", kernel)),
        ).SerializeToString()
    )
    file = load(tmp_path / "m.onnx")
    assert list(file) == ["V/out", "W"]
    assert file.skipped == {"conv/out": "4-D of shape (2, 3, 2, 2)", "b": "1-D of shape (4,)", "ids": "int64"}
    assert (file.format, file.metadata) == ("onnx", {"labels": "a\nb\nç", "empty": ""})
    assert_close(file["W"].tensor(), torch.from_numpy(W).float(), rtol=0, atol=0)
    assert_close(torch.cat(list(file["V/out"].rows_of("columns").blocks())), torch.from_numpy(W).float())
    assert_close(file.tensor("conv/out"), torch.from_numpy(kernel).float(), rtol=0, atol=0)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2fnuz"])
def test_every_floating_point_type(kind: str, raw: bool, tmp_path: Path) -> None:
    """Only 32 and 64 bits can be plain numbers when they are not raw."""
    code = TensorProto.DataType.Value(
        {"float64": "DOUBLE", "float32": "FLOAT"}.get(kind, kind.upper().replace("_", ""))
    )
    expected = torch.from_numpy(W).to(getattr(torch, kind))
    if raw:
        numbers = expected.view(torch.uint8).numpy().tobytes()
        made = TensorProto(name="W", dims=[3, 4], data_type=code, raw_data=numbers)
    else:
        made = helper.make_tensor("W", code, [3, 4], W.reshape(-1).tolist())
    file = load(save(tmp_path, made))
    if raw or kind in ("float64", "float32"):
        assert_close(file["W"].tensor().double(), expected.double(), rtol=0, atol=0)
        assert file["W"].dtype == expected.dtype
    else:
        assert file.skipped == {"W": f"{kind} of shape (3, 4), not stored as plain numbers"}


@pytest.mark.parametrize("one_file", [True, False])
def test_numbers_in_files_beside_the_model(one_file: bool, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    whole = model(tensor(), tensor("V", W.T))
    place = {"location": "numbers.bin"} if one_file else {}
    onnx.save(whole, path, save_as_external_data=True, all_tensors_to_one_file=one_file, size_threshold=0, **place)
    assert len(list(tmp_path.iterdir())) == (2 if one_file else 3)
    file = load(path)
    for name, expected in (("W", W), ("V", W.T)):
        assert_close(file[name].tensor(), torch.from_numpy(expected).float(), rtol=0, atol=0)
    for beside in tmp_path.iterdir():
        if beside != path:
            beside.write_bytes(beside.read_bytes() + b"more")
    with pytest.raises(WeightFileError, match="the file has changed since it was loaded"):
        file["W"].tensor()


def external(**entries: str) -> TensorProto:
    made = TensorProto(name="W", dims=[3, 4], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        made.external_data.add(key=key, value=value)
    return made


@pytest.mark.bad_input
def test_numbers_in_files_that_are_not_beneath(tmp_path: Path) -> None:
    folder, numbers = tmp_path / "model", W.astype("<f4").tobytes()
    (folder / "below").mkdir(parents=True)
    for where in (tmp_path, folder, folder / "below"):
        (where / "w.bin").write_bytes(b"1234" + numbers)
    (folder / "link").symlink_to(tmp_path / "w.bin")
    (folder / "loop").symlink_to("loop")
    for location in ("w.bin", "below/w.bin", "./w.bin"):
        file = load(save(folder, external(location=location, offset="4", length="48")))
        assert_close(file["W"].tensor(), torch.from_numpy(W).float(), rtol=0, atol=0)
    for location in ("../w.bin", str(folder / "w.bin"), "below/../../w.bin", "", "..\\w.bin", "w\0"):
        message = problem(save(folder, external(location=location, offset="4")))
        assert message == f"it names the file {location!r}, which is no path beneath its folder"
    for location, said in (
        ("link", "a link that leaves the folder"),
        ("loop", "cannot be read"),
        ("no", "no such file"),
    ):
        with pytest.raises(WeightFileError, match=f"{folder / location}: {said}"):
            load(save(folder, external(location=location, offset="4")))
    with pytest.raises(WeightFileError, match=f"{folder / 'below'}: not a regular file"):
        load(save(folder, external(location="below")))
    goes_on = problem(save(folder, external(location="w.bin", offset="8")))
    assert goes_on == "'W' goes on to byte 56 of w.bin, which has 52"
    assert "goes on to byte" in problem(save(folder, external(location="w.bin", offset="4", length="9" * 19)))
    assert "48 bytes, but 44 are there" in problem(save(folder, external(location="w.bin", length="44")))
    for offset in ("-4", "4.0", "0x4", "9" * 30, "²"):
        assert "has the offset and length" in problem(save(folder, external(location="w.bin", offset=offset)))


@pytest.mark.bad_input
def test_tensors_that_lie(tmp_path: Path) -> None:
    short = "'W' is float32 of shape (3, 4), 48 bytes, but 44 are there"
    assert short in problem(save(tmp_path, tensor(raw_data=W.astype("<f4").tobytes()[:-4])))
    large = TensorProto(name="W", dims=[2**40, 2**40], data_type=TensorProto.FLOAT, raw_data=b"1234")
    assert "but 4 are there" in problem(save(tmp_path, large))
    empty = TensorProto(name="W", dims=[3, 4], data_type=TensorProto.FLOAT)
    assert "but 0 are there" in problem(save(tmp_path, empty))
    negative = TensorProto(name="W", dims=[-3, -4], data_type=TensorProto.FLOAT, raw_data=bytes(48))
    assert "an impossible shape" in problem(save(tmp_path, negative))
    deep = TensorProto(name="W", dims=[1] * 33, data_type=TensorProto.FLOAT, raw_data=bytes(4))
    assert "an impossible shape" in problem(save(tmp_path, deep))
    assert problem(save(tmp_path, tensor(), tensor())) == "two entries have the name 'W'"
    twice = tensor()
    twice.float_data.append(1.0)
    assert "not stored as plain numbers" in load(save(tmp_path, twice)).skipped["W"]
    assert load(save(tmp_path, TensorProto(name="W", dims=[1, 1], data_type=99))).skipped == {"W": "type 99"}


def field(number: int, content: bytes) -> bytes:
    assert number < 16
    length = len(content)
    varint = bytes([(length >> shift & 0x7F) | 0x80 for shift in range(0, 28, 7)]) + b"\x00"
    return bytes([number << 3 | 2]) + varint + content


HEAD = b"\x08\x08"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (HEAD + field(2, b"us"), "it has no graph"),
        (HEAD + b"\x3a\x05abc", "a field ends at byte 9, its message at byte 7"),
        (HEAD + b"\x3a" + b"\xff" * 9 + b"\x7f", "a field ends at byte"),
        (HEAD + b"\x3a" + b"\xff" * 20, "a number goes on beyond its message"),
        (HEAD + b"\x3a\x02\x2a\xff", "a number goes on beyond its message"),
        (HEAD + field(7, b"\x2b"), "unknown wire type 3"),
        (HEAD + field(7, b"\x28\x03"), "a number stands where a message belongs"),
        (HEAD + field(7, field(5, field(8, b"\xff\xfe"))), "a name is not UTF-8"),
        (HEAD + field(7, field(5, b"\x2d1234" + field(1, b"\x83"))), "a number goes on beyond its message"),
    ],
)
def test_damaged_protobuf(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    assert problem(tmp_path / "m.onnx").startswith(f"a damaged or truncated ONNX file ({said}")


@pytest.mark.bad_input
def test_what_costs_time_or_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty node takes two bytes of the file, but hundreds in memory."""
    (tmp_path / "m.onnx").write_bytes(HEAD + field(7, b"\x0a\x00" * 1000))
    assert list(load(tmp_path / "m.onnx")) == []
    monkeypatch.setattr("polysem.networks._read_onnx._MOST_FIELDS", 2000)
    assert problem(tmp_path / "m.onnx") == "more than 2000 fields"
    monkeypatch.setattr("polysem.networks._read_onnx.LARGEST_DIRECTORY", 1000)
    assert problem(save(tmp_path, *(tensor("n" * 400 + str(i)) for i in range(3)))) == (
        "names and texts of more than 1000 bytes"
    )


@pytest.mark.bad_input
def test_truncated(tmp_path: Path) -> None:
    path = save(tmp_path, tensor(), tensor("V", W.T))
    whole = path.read_bytes()
    ends = whole.index(b"\x72")  # the graph; after it metadata could end anywhere between two fields
    for length in range(ends):
        path.write_bytes(whole[:length])
        assert problem(path)


@pytest.mark.bad_input
@settings(deadline=None, max_examples=100)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1))
def test_flipped_bytes_never_end_in_another_error(
    flips: list[tuple[float, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("flipped") / "m.onnx"
    content = bytearray(
        model(tensor(), external(location="a", offset="3"), constants=(tensor("V"),)).SerializeToString()
    )
    for where, change in flips:
        content[int(where * len(content))] ^= change
    path.write_bytes(content)
    try:
        file = load(path)
    except WeightFileError:
        return
    for name in file:
        file[name].tensor()


@pytest.mark.bad_input
def test_suffix_and_content(tmp_path: Path) -> None:
    path = save(tmp_path, tensor())
    assert list(load(path.rename(tmp_path / "blob"))) == ["W"]
    (tmp_path / "blob").rename(tmp_path / "m.pt")
    assert problem(tmp_path / "m.pt") == "the suffix '.pt' stands for torch, and the content is onnx"
    (tmp_path / "m.onnx").write_bytes(struct.pack("<Q", 2) + b"{}")
    assert problem(tmp_path / "m.onnx") == "the suffix '.onnx' stands for onnx, and the content is safetensors"
    (tmp_path / "m.onnx").write_bytes(b"")
    assert problem(tmp_path / "m.onnx") == "the suffix '.onnx' stands for onnx, and the content is empty"


def test_every_tensor_of_a_real_model(ocr_file: Path) -> None:
    """All its weights are Constant nodes."""
    file = load(ocr_file)
    graph = onnx.load(ocr_file).graph
    constants = {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    assert set(constants) == {*file, *file.skipped}
    arrays = {name: numpy_helper.to_array(constant) for name, constant in constants.items()}
    floats = {name: array for name, array in arrays.items() if array.dtype.kind == "f"}
    assert len(floats) > 300
    for name, array in floats.items():
        assert_close(file.tensor(name), torch.from_numpy(array.copy()), rtol=0, atol=0)
    assert set(file) == {name for name, array in floats.items() if array.ndim == 2}


def test_the_readout_of_a_real_model(ocr_file: Path) -> None:
    """6,625 characters in R^120 share directions far more than random ones: its labels are in the file."""
    assert len(load(ocr_file).metadata["character"].splitlines()) == 6623  # besides these a blank and a space
    (found,) = analyze(ocr_file, "linear_85.w_0", features="columns", draws=2)
    assert (found.report.n_features, found.report.d_hidden) == (6625, 120)
    readout = load(ocr_file)["linear_85.w_0"].tensor().double().T
    G = readout @ readout.T
    assert_close(found.report.capacity, G.diagonal().square() / G.square().sum(1), rtol=1e-6, atol=0)
    assert found.report.total / 120 == pytest.approx(0.163, abs=5e-4)
    assert found.report.null / 120 == pytest.approx(0.979, abs=1e-3)
