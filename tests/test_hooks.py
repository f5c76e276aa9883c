"""Hooks replace outputs inside their block and are gone after it."""

import pytest
import torch
from torch import nn

from polysem._hooks import replaced_output, watched


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:
        return x, "kept"


class Strange(nn.Module):
    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x]


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def fail(h: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("on purpose")


def test_the_hook_is_gone_after_an_error() -> None:
    model = nn.Sequential(nn.Identity())
    with replaced_output(model, "0", torch.neg):
        assert hooks(model) == 1
    assert hooks(model) == 0
    with pytest.raises(RuntimeError, match="on purpose"), replaced_output(model, "0", fail):
        model(torch.tensor(2.0))
    assert hooks(model) == 0


def test_the_rest_of_a_tuple_stays() -> None:
    model = nn.Sequential(Pair())
    with replaced_output(model, "0", torch.neg):
        assert model(torch.tensor(2.0)) == (torch.tensor(-2.0), "kept")
    assert model(torch.tensor(2.0)) == (torch.tensor(2.0), "kept")


@pytest.mark.bad_input
def test_bad_input() -> None:
    model = nn.Sequential(Strange())
    message = "name of the submodule must be one of '0', got '1'"
    with pytest.raises(ValueError, match=message), replaced_output(model, "1", torch.neg):
        pass
    message = "output of submodule '0' must be a tensor or start with one, got list"
    with pytest.raises(TypeError, match=message), replaced_output(model, "0", torch.neg):
        model(torch.tensor(2.0))
    assert hooks(model) == 0


def test_watching_changes_nothing_and_ends_with_the_block() -> None:
    model = nn.Sequential(Pair())
    seen: list[torch.Tensor] = []
    with watched(model, "0", seen.append), watched(model, "0", seen.append, of="input"):
        assert model(torch.tensor(2.0)) == (torch.tensor(2.0), "kept")
        assert model[0](x=torch.tensor(3.0)) == (torch.tensor(3.0), "kept")
    model(torch.tensor(4.0))
    assert [value.item() for value in seen] == [2, 2, 3, 3]
    assert hooks(model) == sum(len(module._forward_pre_hooks) for module in model.modules()) == 0
