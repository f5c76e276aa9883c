"""The figure of a monitor's history: every number shown is one of the history."""

import pytest
import torch
import xarray as xr
from torch import nn
from torch.testing import assert_close

from drawn import numbers
from polysem.networks import CapacityMonitor
from polysem.plots import capacity_trajectories


def history(n_layers: int = 3) -> xr.Dataset:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(4, 9)][:n_layers]
    with CapacityMonitor(nn.Sequential(*layers), every=1) as monitor:
        for scale in (2.0, 0.5):
            with torch.no_grad():
                layers[0].weight[:3] *= scale
                layers[-1].weight[:] = torch.eye(*layers[-1].weight.shape)
            monitor.step()
    return monitor.history


def test_areas_are_shares_and_lines_are_totals() -> None:
    shown = history()
    traces = list(capacity_trajectories(shown).data)
    assert len(traces) == 3 * 5
    for index, name in enumerate(shown.matrix.values):
        one = shown.sel(matrix=name)
        panel = {trace.name: trace for trace in traces[5 * index : 5 * index + 5]}
        assert list(panel) == ["ignored", "impure", "pure", "total / D", "random directions"]
        n_features = {"0.weight": 6, "1.weight": 4, "2.weight": 9}[name]
        for kind in ("ignored", "impure", "pure"):
            assert_close(numbers(panel[kind].y), torch.from_numpy(one[f"n_{kind}"].values).double() / n_features)
        assert_close(numbers(panel["total / D"].y), torch.from_numpy(one.total_per_dimension.values))
        assert_close(numbers(panel["random directions"].y), torch.from_numpy(one.null_per_dimension.values))
        assert all(numbers(trace.x).tolist() == [0, 1, 2] for trace in panel.values())
        assert {(trace.xaxis, trace.yaxis) for trace in panel.values()} == {
            (f"x{index + 1 if index else ''}", f"y{index + 1 if index else ''}")
        }
        assert all(trace.showlegend is (index == 0) for trace in panel.values())


def test_titles_name_matrix_and_shape() -> None:
    figure = capacity_trajectories(history())
    assert [note.text for note in figure.layout.annotations] == [
        "0.weight (6 × 4)",
        "1.weight (4 × 6)",
        "2.weight (9 × 4)",
    ]


def test_the_caption_names_what_moved_most() -> None:
    shown = history()
    ends = shown.total_per_dimension.sel(matrix="2.weight").values
    caption = capacity_trajectories(shown).layout.meta["caption"]
    assert caption.endswith(
        f"Most moved 2.weight: total / D from {ends[0]:.3f} to {ends[-1]:.3f}, pure features from 0 to 4."
    )


def test_weights_that_were_not_finite_leave_gaps() -> None:
    shown = history(1)
    gap = shown.where(shown.step != 1)
    for trace in capacity_trajectories(gap).data:
        assert numbers(trace.y).isnan().tolist() == [False, True, False]
    caption = capacity_trajectories(shown.where(shown.step < 0)).layout.meta["caption"]
    assert caption.endswith("No matrix is finite at both ends.")


def test_nothing_measured() -> None:
    with pytest.raises(ValueError, match=r"history must be of at least one step"):
        capacity_trajectories(CapacityMonitor(nn.Linear(2, 2)).history)
