"""The monitor under Lightning's own trainer: what it records, and that training stays the same to the bit."""

from pathlib import Path

import pytest
import torch
import xarray as xr
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from polysem.networks import CapacityMonitor, LightningCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"),
]


class Autoencoder(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 3), nn.Dropout(0.2), nn.Linear(3, 8))

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return (self.net(batch[0]) - batch[0]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def fit(
    folder: Path, steps: int, *, watch: bool = True, resume: Path | None = None, accumulate: int = 1
) -> tuple[Autoencoder, CapacityMonitor]:
    torch.manual_seed(0)
    model = Autoencoder()
    data = DataLoader(TensorDataset(torch.rand(24, 8)), batch_size=4)
    monitor = CapacityMonitor(model.net, every=4)
    checkpoint = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=6, save_top_k=-1)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        callbacks=[checkpoint, *([LightningCallback(monitor)] if watch else [])],
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    torch.manual_seed(1)
    trainer.fit(model, data, ckpt_path=resume)
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
    assert monitor.history.matrix.values.tolist() == ["0.weight", "2.weight"]
    last = CapacityMonitor(watched.net)
    last.measure()
    xr.testing.assert_equal(last.history.isel(step=0, drop=True), monitor.history.isel(step=-1, drop=True))


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_training_and_history_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    fit(tmp_path / "plain", 6, watch=False)
    fit(tmp_path / "watched", 6)
    plain, _ = fit(tmp_path / "plain", 10, watch=False, resume=tmp_path / "plain" / "step=6.ckpt")
    watched, monitor = fit(tmp_path / "watched", 10, resume=tmp_path / "watched" / "step=6.ckpt")
    assert same(plain, watched)
    assert monitor.history.step.values.tolist() == [0, 4, 6, 8, 10]
    _, late = fit(tmp_path / "plain", 10, resume=tmp_path / "plain" / "step=6.ckpt")  # it was not watched before
    assert late.history.step.values.tolist() == [6, 8, 10]


def test_several_batches_a_step(tmp_path: Path) -> None:
    _, monitor = fit(tmp_path, 5, accumulate=2)
    assert monitor.history.step.values.tolist() == [0, 4, 5]
