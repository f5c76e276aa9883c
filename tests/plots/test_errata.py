"""The figure shows the losses it was given, all of them inside its axes."""

import plotly.graph_objects as go
import pytest
import torch
from torch.testing import assert_close

from polysem.plots import errata_figure
from polysem.studies import Errata, ErrataConfig, errata


@pytest.fixture(scope="module")
def result() -> Errata:
    return errata(ErrataConfig(n_matrices=7))


@pytest.fixture(scope="module")
def figure(result: Errata) -> go.Figure:
    return errata_figure(result)


def test_points_are_the_losses(result: Errata, figure: go.Figure) -> None:
    line, independent, dependent = figure.data
    assert_close(torch.as_tensor(line.x), torch.as_tensor(line.y))
    for trace, losses in ((independent, result.independent), (dependent, result.dependent)):
        assert_close(torch.as_tensor(trace.x), result.formula, rtol=0, atol=0)
        assert_close(torch.as_tensor(trace.y), losses, rtol=0, atol=0)
    assert independent.name == "independent inputs"


def test_everything_lies_inside_the_axes(figure: go.Figure) -> None:
    for trace in figure.data[1:]:
        for axis, values in ((figure.layout.xaxis, trace.x), (figure.layout.yaxis, trace.y)):
            assert axis.type == "log"
            low, high = axis.range
            logs = torch.as_tensor(values).log10()
            assert low < logs.min()
            assert logs.max() < high


def test_axes_and_caption_say_what_is_shown(figure: go.Figure) -> None:
    assert figure.layout.xaxis.title.text == "loss by the formula"
    assert figure.layout.yaxis.title.text == "exact loss by enumeration"
    assert figure.layout.meta["caption"].startswith("The losses of 7 random embeddings")
