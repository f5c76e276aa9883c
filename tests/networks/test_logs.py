"""What reaches TensorBoard and Weights & Biases, read back from what the real libraries wrote."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from polysem.networks import CapacityMonitor, Log, to_tensorboard, to_wandb


def watched(log: Log) -> CapacityMonitor:
    """Measured at steps 0, 2 and 3 of a training run."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 6)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    with CapacityMonitor(layer, every=2, optimizer=optimizer, log=log) as monitor:
        for _ in range(3):
            layer(torch.eye(4)).square().sum().backward()
            optimizer.step()
    return monitor


def test_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        history = watched(to_tensorboard(writer)).history.sel(matrix="weight")
    events = EventAccumulator(str(tmp_path)).Reload()
    tags = events.Tags()["scalars"]
    assert len(tags) == 7 + 5
    for name, values in (
        ("total", history.total),
        ("n_impure", history.n_impure),
        ("quantile_0.5", history.capacity[:, 2]),
    ):
        scalars = events.Scalars(f"capacity/weight/{name}")
        assert [one.step for one in scalars] == [0, 2, 3]
        assert [one.value for one in scalars] == pytest.approx(values.values.tolist(), rel=1e-6)


def records(file: bytes) -> Iterator[bytes]:
    """The records of a run: blocks of 32 KiB after 7 bytes; each piece has a checksum, a length and its kind."""
    at, pieces = 7, b""
    while at + 7 <= len(file):
        if 2**15 - at % 2**15 < 7:
            at += 2**15 - at % 2**15
            continue
        length, kind = struct.unpack_from("<HB", file, at + 4)
        pieces += file[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield pieces
            pieces = b""


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG_DIR", "CACHE_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    with wandb.init(mode="offline", dir=tmp_path) as run:
        run.log({"loss": 1.0})
        history = watched(to_wandb(run)).history.sel(matrix="weight")
        run.log({"loss": 0.5})
    wandb.teardown()  # ends the process that writes the file
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    rows, axes = [], {}
    for data in records(path.read_bytes()):
        record = Record.FromString(data)
        axes[record.metric.glob_name or record.metric.name] = record.metric.step_metric
        row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        rows += [row] if "capacity/step" in row else []
    assert axes["capacity/*"] == "capacity/step"
    assert [row["capacity/step"] for row in rows] == [0, 2, 3]
    for name in ("total", "n_impure"):
        assert [row[f"capacity/weight/{name}"] for row in rows] == history[name].values.tolist()
