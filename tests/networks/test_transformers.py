"""The monitor under the trainer of transformers: what it records, and that training stays the same to the bit."""

from pathlib import Path

import torch
import xarray as xr
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from polysem.networks import CapacityMonitor, TransformersCallback


class Sequences(Dataset[dict[str, Tensor]]):
    """Tokens that repeat."""

    tokens = torch.arange(6).repeat(16, 2)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


def fit(
    folder: Path, steps: int, *, watch: bool = True, resume: Path | None = None
) -> tuple[GPT2LMHeadModel, CapacityMonitor]:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_positions=12, n_embd=4, n_layer=1, n_head=2))
    monitor = CapacityMonitor(model, every=4)
    arguments = TrainingArguments(
        str(folder),
        max_steps=steps,
        per_device_train_batch_size=4,
        save_steps=6,
        learning_rate=0.01,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        seed=1,
    )
    callbacks = [TransformersCallback(monitor)] if watch else []
    Trainer(model, arguments, train_dataset=Sequences(), callbacks=callbacks).train(resume_from_checkpoint=resume)
    return model, monitor


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_weights_are_the_same_to_the_bit(tmp_path: Path) -> None:
    plain, _ = fit(tmp_path / "plain", 10, watch=False)
    after = torch.get_rng_state()
    watched, monitor = fit(tmp_path / "watched", 10)
    assert same(plain, watched)
    assert torch.equal(after, torch.get_rng_state())
    assert monitor.history.step.values.tolist() == [0, 4, 8, 10]
    assert {"transformer.wte.weight", "transformer.h.0.mlp.c_fc.weight"} <= set(monitor.history.matrix.values)
    last = CapacityMonitor(watched)
    last.measure()
    xr.testing.assert_equal(last.history.isel(step=0, drop=True), monitor.history.isel(step=-1, drop=True))

    plain, _ = fit(tmp_path / "plain", 12, watch=False, resume=tmp_path / "plain" / "checkpoint-6")
    watched, monitor = fit(tmp_path / "watched", 12, resume=tmp_path / "watched" / "checkpoint-6")
    assert same(plain, watched)
    assert monitor.history.step.values.tolist() == [6, 8, 12]
