"""Safetensors files: the library checks the header, and the numbers are read from where it says they are."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from polysem.networks._bytes import FileBytes, WeightFileError, first_line
from polysem.networks._stored import Entry, RawMatrix, no_matrix

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}
_KINDS = {"I": "int", "U": "uint", "C": "complex"}


def read_safetensors(source: FileBytes) -> Iterator[Entry]:
    """The tensors of a safetensors file in the order of their bytes."""
    try:
        with safe_open(source.path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise WeightFileError(
            f"{source.path}: a damaged or truncated safetensors file ({first_line(error)})"
        ) from error
    with source.open() as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    for name, info in sorted(header.items(), key=lambda entry: entry[1]["data_offsets"]):
        code, shape = info["dtype"], tuple(info["shape"])
        dtype = _DTYPES.get(code)
        kind = _KINDS.get(code[0])
        reason = no_matrix(shape, dtype, kind + code[1:] if kind else code)
        if reason or dtype is None:
            yield name, reason or code
        else:
            yield name, RawMatrix(name, shape, dtype, source, 8 + length + info["data_offsets"][0])
