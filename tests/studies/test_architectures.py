import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from polysem.measure import capacity
from polysem.studies import ARCHITECTURES, architecture
from polysem.zoo import expected_loss

P = torch.tensor([[1.0, 1.0, 1.0], [0.3, 0.3, 0.3]], dtype=torch.float64)
PLAIN = ("identity", "relu")
IMPORTANCE = torch.tensor([1.0, 0.7, 0.2], dtype=torch.float64)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def means(name: str) -> Tensor:
    """Mean target of each instance: `p/2` of x and |x|, `p/3` of x²; written out."""
    return (P / 3 if architecture(name).target == "square" else P / 2)[:, 0]


def plain_outputs() -> list[str]:
    """Where a bias alone can give the mean: no activation but ReLU stands between it and the output."""
    autoencoders = ("tied", "untied")
    return [n for n, one in ARCHITECTURES.items() if one.family not in autoencoders or one.activation in PLAIN]


@pytest.mark.parametrize("name", plain_outputs())
def test_ignoring_everything_costs_the_stated_variance(name: str) -> None:
    """Every parameter 0 but a bias at the mean target: the sampled loss must be what is claimed for it."""
    one = architecture(name)
    features, model = one.features(P), one.model(3, 2, 2, generator())
    bias = {"quadratic": "b", "tied": "b", "untied": "b", "hidden": "b_out", "residual": ""}[one.family]
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.zero_()
            if key == bias:
                mean = IMPORTANCE.sqrt().sum() if one.family == "quadratic" else means(name)[:, None]
                parameter.copy_(mean.expand_as(parameter))
    stated = IMPORTANCE * one.target_variance(features)
    if one.family == "residual":  # without a bias on its outputs it cannot take the mean away
        stated = stated + IMPORTANCE * means(name)[:, None] ** 2
    weights = one.importance(IMPORTANCE)
    sampled = expected_loss(model, features, weights, method="sampled", n_samples=40_000, generator=generator())
    assert ((sampled.value - stated.sum(-1)).abs() <= 4 * sampled.stderr + 1e-6).all()
    assert (sampled.stderr > 0).all()


@pytest.mark.parametrize("name", ["quadratic", "tied relu", "untied gelu"])
def test_capacity_of_linear_readouts_is_that_of_the_response(name: str) -> None:
    one = architecture(name)
    model = one.model(3, 2, 2, generator())
    C, size = one.capacity(model, one.features(P), generator())
    R = model.response().detach().double()
    looped = torch.tensor(
        [[R[k, i, i] ** 2 / sum(R[k, i, j] ** 2 for j in range(3)) for i in range(3)] for k in (0, 1)]
    )
    assert_close(C, looped.double(), rtol=1e-5, atol=0)
    assert_close(size, R.diagonal(dim1=-2, dim2=-1).abs().sqrt(), rtol=1e-5, atol=0)
    if one.family == "tied":
        assert_close(C, capacity(model.embedding.detach()).double(), rtol=1e-5, atol=0)


def test_capacity_of_neurons_is_measured_from_their_response() -> None:
    """Feature 1 on two neurons of its own, feature 2 on none."""
    one = architecture("hidden relu |x|")
    model = one.model(2, 2, 1, generator())
    state = {"W_in": torch.tensor([[[1.0, -1.0], [0.0, 0.0]]]), "W_out": torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])}
    model.load_state_dict(state, strict=False)
    C, size = one.capacity(model, one.features(P[1:, :2]), generator())
    assert_close(C[0, 0].item(), 1.0, rtol=0, atol=1e-3)
    assert_close(size[0], torch.tensor([1.0, 0.0], dtype=torch.float64), rtol=0, atol=0.01)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_can_be_trained(name: str) -> None:
    from polysem.training import fit

    one = architecture(name)
    model, features = one.model(3, 2, 2, generator()), one.features(P)
    source = None if one.exact else generator()
    done = fit(model, features, one.importance(IMPORTANCE), one.fit_config(3, 8), generator=source)
    assert done.loss.isfinite().all()
    assert (done.stderr == 0).all() == one.exact


@pytest.mark.bad_input
def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match='architecture must be "quadratic" or "tied identity" .*, got'):
        architecture("transformer")
