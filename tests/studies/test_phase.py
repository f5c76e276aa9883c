"""The phase diagram: theory by inequalities written out here, and measures that notice a wrong diagram."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from polysem.studies import PhaseConfig, PhaseDiagram, phase_diagram
from polysem.theory import Phase

SMALL = PhaseConfig(n_kurtosis=12, n_ratio=20, restarts=8)


def expected(F: float, ratio: float) -> tuple[Phase, float]:
    """Phase, and the second feature's capacity: `(F−1) √(2/μ) (1 + r) = F + 1` where both are represented."""
    if F <= 3:
        return (Phase.FIRST_ONLY, 0.0) if ratio <= 1 else (Phase.SECOND_ONLY, 1.0)
    if ratio <= 2 / (F - 1):
        return Phase.FIRST_ONLY, 0.0
    if ratio >= (F - 1) / 2:
        return Phase.SECOND_ONLY, 1.0
    return Phase.BOTH, (ratio * (F + 1) / (1 + ratio) - 2) / (F - 3)


def check_theory(result: PhaseDiagram) -> None:
    cells = [[expected(F, r) for F in result.kurtosis.tolist()] for r in result.ratio.tolist()]
    phases = torch.tensor([[phase for phase, _ in row] for row in cells])
    second = torch.tensor([[C for _, C in row] for row in cells], dtype=torch.float64)
    assert_close(result.phases, phases, rtol=0, atol=0)
    assert_close(result.theory[..., 1], second, rtol=0, atol=1e-9)
    assert_close(result.theory[..., 0], 1 - second, rtol=0, atol=1e-9)
    assert set(phases.flatten().tolist()) == {0, 1, 2}


def test_the_whole_diagram() -> None:
    """64 × 64 cells, as the report shows them: the measured boundary lies within a cell of the formula's."""
    result = phase_diagram()
    assert result.trained.shape == (64, 64, 2)
    check_theory(result)
    assert 0 < result.boundary_offset <= 1
    assert result.deviation < 1e-6
    assert abs(result.excess) < 1e-9
    assert result.same_phase == 1
    assert result.deviation == float((result.trained - result.theory).abs().max())


def test_the_grid() -> None:
    result = phase_diagram(
        PhaseConfig(n_kurtosis=5, n_ratio=4, kurtosis_range=(2.0, 32.0), largest_ratio=8, restarts=2)
    )
    assert_close(result.kurtosis, torch.tensor([2.0, 4.0, 8.0, 16.0, 32.0], dtype=torch.float64))
    assert_close(result.ratio, torch.tensor([1 / 8, 1 / 2, 2.0, 8.0], dtype=torch.float64))


def train_wrongly(monkeypatch: pytest.MonkeyPatch, right: PhaseDiagram, wrong: Tensor) -> PhaseDiagram:
    """The diagram as it would be had training ended at other capacities, with the losses unchanged."""
    from polysem.studies import _phase

    train = _phase.train_pairs
    monkeypatch.setattr(
        _phase, "train_pairs", lambda *args, **kwargs: (wrong.reshape(-1, 2), train(*args, **kwargs)[1])
    )
    result = phase_diagram(SMALL)
    assert_close(result.theory, right.theory, rtol=0, atol=0)
    return result


@pytest.fixture(scope="module")
def small() -> PhaseDiagram:
    return phase_diagram(SMALL)


def test_the_small_diagram_is_right(small: PhaseDiagram) -> None:
    check_theory(small)
    assert small.boundary_offset <= 1
    assert small.same_phase == 1
    assert small.deviation < 1e-6


@pytest.mark.parametrize("cells", [-3, -1, 1, 3])
def test_shifted_capacities_are_noticed(cells: int, small: PhaseDiagram, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (torch.arange(20) - cells).clamp(0, 19)
    result = train_wrongly(monkeypatch, small, small.trained[rows])
    assert result.boundary_offset == pytest.approx(abs(cells), abs=0.5)
    assert result.boundary_offset > small.boundary_offset
    assert result.same_phase < 1
    assert result.deviation > 0.05


def test_swapped_features_are_noticed(small: PhaseDiagram, monkeypatch: pytest.MonkeyPatch) -> None:
    result = train_wrongly(monkeypatch, small, small.trained.flip(-1))
    assert result.boundary_offset > 3
    assert result.same_phase < 0.5
    assert result.deviation == pytest.approx(1)


def test_features_kept_or_dropped_everywhere_are_noticed(small: PhaseDiagram, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = train_wrongly(monkeypatch, small, small.trained.clamp(0.01, 0.99))
    assert kept.boundary_offset > 3
    assert kept.same_phase == float((small.phases == Phase.BOTH).double().mean())
    dropped = torch.where(small.trained == small.trained.amax(-1, keepdim=True), 1.0, 0.0).double()
    assert train_wrongly(monkeypatch, small, dropped).boundary_offset > 3


def test_one_wrong_column_is_noticed(small: PhaseDiagram, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where F < 3, the wrong winner in three cells beyond the tie."""
    wrong = small.trained.clone()
    assert small.kurtosis[1] < 3
    wrong[10:13, 1] = torch.tensor([1.0, 0.0], dtype=torch.float64)
    result = train_wrongly(monkeypatch, small, wrong)
    assert result.boundary_offset == pytest.approx(3, abs=0.01)
    assert result.same_phase == pytest.approx(1 - 3 / 240)
