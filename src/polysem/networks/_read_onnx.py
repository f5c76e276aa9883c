"""ONNX models: their initialisers and constants, read where the numbers lie; nothing is run."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from typing import IO

import torch

from polysem.networks._bytes import LARGEST_DIRECTORY, FileBytes, WeightFileError
from polysem.networks._folder import beneath
from polysem.networks._stored import Content, Entry, NoMatrix, raw_entry

_MOST_FIELDS = 2_000_000
_MOST_AXES = 32
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protobuf

# Numbers of fields, by message, as in onnx.proto
_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OUTPUT, _NODE_KIND, _NODE_ATTRIBUTE = 2, 4, 5
_ATTRIBUTE_TENSOR = 5
_DIMS, _DATA_TYPE, _FLOATS, _NAME, _RAW, _DOUBLES, _EXTERNAL, _LOCATION = 1, 2, 4, 8, 9, 10, 13, 14
_SPARSE_VALUES = 1
_KEY, _VALUE = 1, 2

_DTYPES = {
    1: torch.float32,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
    17: torch.float8_e4m3fn,
    18: torch.float8_e4m3fnuz,
    19: torch.float8_e5m2,
    20: torch.float8_e5m2fnuz,
}
_OTHER_NAMES = {
    **dict(enumerate(("uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool"), 2)),
    **dict(enumerate(("uint32", "uint64", "complex64", "complex128"), 12)),
}


def read_onnx(source: FileBytes) -> Content:
    """The initialisers of the main graph and the tensors of its Constant nodes, and the model's metadata.

    Protobuf is read by its wire format: names and shapes into memory (at most `LARGEST_DIRECTORY` bytes in at most
    `_MOST_FIELDS` fields), numbers not at all.
    """
    with source.open() as file, BufferedReader(file) as buffered:
        return _Model(source, buffered).content()


@dataclass(frozen=True)
class _Field:
    """A field of a message: its value if it is a number, else the bytes of the file that hold it."""

    number: int
    kind: int
    value: int
    start: int
    stop: int


@dataclass
class _Tensor:
    """What a TensorProto says of itself; `places` are where numbers lie, by the field that holds them."""

    name: str = ""
    shape: list[int] = field(default_factory=list)
    data_type: int = 0
    places: list[_Field] = field(default_factory=list)
    is_external: bool = False
    external: dict[str, str] = field(default_factory=dict)


class _Model:
    """A model file while it is open."""

    def __init__(self, source: FileBytes, file: IO[bytes]) -> None:
        self._source = source
        self._file = file
        self._fields_left = _MOST_FIELDS
        self._text_left = LARGEST_DIRECTORY
        self._beside: dict[str, FileBytes] = {}

    def content(self) -> Content:
        entries: list[Entry] = []
        metadata: dict[str, str] = {}
        n_graphs = 0
        for part in self._fields(0, self._source.size):
            if part.number == _MODEL_GRAPH:
                entries += self._graph(part)
                n_graphs += 1
            elif part.number == _MODEL_METADATA:
                key, value = self._pair(part)
                metadata[key] = value
        if not n_graphs:
            raise self._damaged("it has no graph")
        return Content(entries, metadata)

    def _graph(self, graph: _Field) -> Iterator[Entry]:
        for part in self._inside(graph):
            if part.number == _GRAPH_INITIALIZER:
                yield self._entry(self._tensor(part))
            elif part.number == _GRAPH_NODE:
                yield from self._node(part)
            elif part.number == _GRAPH_SPARSE:
                for values in self._inside(part):
                    if values.number == _SPARSE_VALUES:
                        yield self._tensor(values).name, NoMatrix("sparse")

    def _node(self, node: _Field) -> Iterator[Entry]:
        """The tensor of a node, if it is a Constant, under the name of its output."""
        kind, outputs, attributes = "", [], []
        for part in self._inside(node):
            if part.number == _NODE_KIND:
                kind = self._text(part)
            elif part.number == _NODE_OUTPUT:
                outputs.append(part)
            elif part.number == _NODE_ATTRIBUTE:
                attributes.append(part)
        if kind != "Constant" or not outputs:
            return
        for attribute in attributes:
            parts = {part.number: part for part in self._inside(attribute)}
            if _ATTRIBUTE_TENSOR in parts:
                tensor = self._tensor(parts[_ATTRIBUTE_TENSOR])
                tensor.name = self._text(outputs[0])
                yield self._entry(tensor)

    def _tensor(self, message: _Field) -> _Tensor:
        tensor = _Tensor()
        for part in self._inside(message):
            if part.number == _DIMS:
                tensor.shape += self._integers(part)
            elif part.number == _DATA_TYPE:
                tensor.data_type = part.value
            elif part.number == _NAME:
                tensor.name = self._text(part)
            elif part.number == _LOCATION:
                tensor.is_external = part.value == 1
            elif part.number == _EXTERNAL:
                key, value = self._pair(part)
                tensor.external[key] = value
            elif 4 <= part.number <= 11:
                tensor.places.append(part)
        if len(tensor.shape) > _MOST_AXES or max(tensor.shape, default=0) >= 2**63:
            raise self._damaged(f"{tensor.name!r} has an impossible shape")
        return tensor

    def _entry(self, tensor: _Tensor) -> Entry:
        name, shape = tensor.name, tuple(tensor.shape)
        dtype = _DTYPES.get(tensor.data_type)
        dtype_name = str(dtype).removeprefix("torch.") if dtype else _OTHER_NAMES.get(tensor.data_type, "")
        if dtype is None:
            return raw_entry(name, shape, None, dtype_name or f"type {tensor.data_type}", self._source, 0)
        size = math.prod(shape) * dtype.itemsize
        if tensor.is_external:
            file, start, present = self._outside(tensor)
        else:
            plain = {_RAW, {torch.float32: _FLOATS, torch.float64: _DOUBLES}.get(dtype, _RAW)}
            if len(tensor.places) > 1 or any(p.number not in plain or p.kind != _BYTES for p in tensor.places):
                return name, NoMatrix(f"{dtype_name} of shape {shape}, not stored as plain numbers")
            file = self._source
            start, present = (tensor.places[0].start, tensor.places[0].value) if tensor.places else (0, 0)
        if size != present:
            raise self._damaged(f"{name!r} is {dtype_name} of shape {shape}, {size} bytes, but {present} are there")
        return raw_entry(name, shape, dtype, dtype_name, file, start)

    def _outside(self, tensor: _Tensor) -> tuple[FileBytes, int, int]:
        """The file beside the model that holds a tensor's numbers, and where they begin and how long they are."""
        location = tensor.external.get("location", "")
        if location not in self._beside:
            self._beside[location] = FileBytes.of(beneath(self._source.path.parent, location, self._source.path))
        file = self._beside[location]
        texts = tensor.external.get("offset", "0"), tensor.external.get("length", "")
        if not all(text.isascii() and text.isdigit() and len(text) < 20 for text in texts if text):
            raise self._damaged(f"{tensor.name!r} has the offset and length {texts[0]!r:.40} and {texts[1]!r:.40}")
        start = int(texts[0] or 0)
        length = int(texts[1]) if texts[1] else math.prod(tensor.shape) * _DTYPES[tensor.data_type].itemsize
        if start + length > file.size:
            raise WeightFileError(
                f"{self._source.path}: {tensor.name!r} goes on to byte {start + length} of {file.path.name}, "
                f"which has {file.size}"
            )
        return file, start, length

    def _pair(self, message: _Field) -> tuple[str, str]:
        parts = {part.number: part for part in self._inside(message)}
        key, value = (self._text(parts[number]) if number in parts else "" for number in (_KEY, _VALUE))
        return key, value

    def _text(self, part: _Field) -> str:
        try:
            return self._read(part).decode()
        except UnicodeDecodeError as error:
            raise self._damaged("a name is not UTF-8") from error

    def _read(self, part: _Field) -> bytes:
        self._text_left -= part.stop - part.start
        if self._text_left < 0:
            raise WeightFileError(f"{self._source.path}: names and texts of more than {LARGEST_DIRECTORY} bytes")
        self._file.seek(part.start)
        return self._file.read(part.stop - part.start)

    def _integers(self, part: _Field) -> list[int]:
        """A repeated integer: one of them, or several packed into bytes."""
        if part.kind != _BYTES:
            return [part.value]
        found, position = [], part.start
        while position < part.stop:
            value, position = self._varint(position, part.stop)
            found.append(value)
        return found

    def _inside(self, message: _Field) -> Iterator[_Field]:
        if message.kind != _BYTES:
            raise self._damaged("a number stands where a message belongs")
        return self._fields(message.start, message.stop)

    def _fields(self, position: int, end: int) -> Iterator[_Field]:
        """The fields of the message between two bytes of the file."""
        while position < end:
            key, position = self._varint(position, end)
            number, kind = key >> 3, key & 7
            if kind == _VARINT:
                value, stop = self._varint(position, end)
            elif kind == _BYTES:
                value, position = self._varint(position, end)
                stop = position + value
            elif kind in (_FIXED64, _FIXED32):
                value, stop = 0, position + (8 if kind == _FIXED64 else 4)
            else:
                raise self._damaged(f"unknown wire type {kind}")
            if stop > end:
                raise self._damaged(f"a field ends at byte {stop}, its message at byte {end}")
            yield _Field(number, kind, value, position, stop)
            position = stop

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        """The number that begins at a byte, and where it ends."""
        self._fields_left -= 1
        if self._fields_left < 0:
            raise WeightFileError(f"{self._source.path}: more than {_MOST_FIELDS} fields")
        self._file.seek(position)
        value = 0
        for shift in range(0, 70, 7):
            byte = self._file.read(1)
            position += 1
            if position > end or not byte:
                break
            value |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return value, position
        raise self._damaged("a number goes on beyond its message")

    def _damaged(self, detail: str) -> WeightFileError:
        return WeightFileError(f"{self._source.path}: a damaged or truncated ONNX file ({detail})")
