"""L-BFGS against Newton and scipy, on minima, saddles and a curved valley."""

import pytest
import torch
from scipy import optimize
from torch import Tensor
from torch.testing import assert_close

from objectives import Ledge, Saddle, Valley
from polysem.features import SparseSign, SparseUniform
from polysem.measure import capacity
from polysem.training import FitConfig, FitStatus, fit
from polysem.training._lbfgs import lbfgs
from polysem.training._newton import newton
from polysem.zoo import QuadraticModel, TiedAutoencoder


def double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_follows_a_curved_valley_to_its_end_as_scipy_does() -> None:
    starts = double([[-1.2, 1.0], [3.0, -4.0], [0.0, 0.0], [1.0, 1.0]])
    objective = Valley(double([100.0, 100.0, 1e4, 100.0]))
    end = lbfgs(objective, starts, max_steps=1000, tolerance=1e-10)
    assert end.converged.all()
    assert_close(end.theta, torch.ones(4, 2, dtype=torch.float64), rtol=0, atol=1e-8)
    assert end.n_steps[3].item() == 0
    for i in range(3):
        one = objective.select(torch.tensor([i]))
        found = optimize.minimize(
            lambda t, one=one: one.loss(torch.from_numpy(t)[None]).item(),
            starts[i].numpy(),
            jac=lambda t, one=one: one.gradient(torch.from_numpy(t)[None])[0].numpy(),
            method="L-BFGS-B",
            options={"maxcor": 10, "ftol": 0, "gtol": 1e-10},
        )
        assert end.n_steps[i] < 3 * found.nfev  # a quasi-Newton method, not gradient descent


def test_instances_do_not_depend_on_each_other() -> None:
    starts = double([[-1.2, 1.0], [3.0, -4.0], [0.5, 2.0]])
    objective = Valley(double([100.0, 10.0, 1e3]))
    together = lbfgs(objective, starts, max_steps=500, tolerance=1e-10)
    for i in range(3):
        index = torch.tensor([i])
        alone = lbfgs(objective.select(index), starts[index], max_steps=500, tolerance=1e-10)
        assert_close(together.theta[index], alone.theta, rtol=1e-12, atol=1e-12)
        assert together.n_steps[i] == alone.n_steps[0]


def test_out_of_steps_on_a_saddle_or_above_a_ledge_is_not_converged() -> None:
    objective, start = Valley(double([100.0])), double([[-1.2, 1.0]])
    for max_steps in (0, 5):
        end = lbfgs(objective, start, max_steps=max_steps, tolerance=1e-10)
        assert not end.converged.any()
        assert end.n_steps.tolist() == [max_steps]
    assert objective.loss(end.theta) < objective.loss(start)
    on_saddle = lbfgs(Saddle(double([1.0])), double([[3.0, 0.0]]), max_steps=200, tolerance=1e-10)
    assert_close(on_saddle.theta, double([[0.0, 0.0]]), rtol=0, atol=1e-9)
    assert not on_saddle.converged.any()
    assert on_saddle.n_steps < 200  # it knows that nothing more can be done
    at_kink = lbfgs(Ledge(double([1.3, 0.7])), double([[1.0, 1.0]] * 2), max_steps=200, tolerance=1e-10)
    assert at_kink.converged.tolist() == [False, True]


@pytest.mark.parametrize("kurtosis", [20.0, 2.0])
def test_quadratic_model_ends_where_newton_does(kurtosis: float) -> None:
    v = [0.9**i for i in range(8)]
    features = SparseSign.from_kurtosis([kurtosis] * 8, standardise=True)
    model = QuadraticModel(8, 3, n_inst=12, generator=seeded(0))
    config = {"adam_steps": 300, "learning_rate": 0.05}
    first = fit(model, features, v, FitConfig(polish="newton", **config))
    second = fit(model, features, v, FitConfig(polish="lbfgs", **config))
    assert (second.status == FitStatus.CONVERGED).all()
    assert (second.gradient_norm <= 1e-10).all()
    assert_close(second.loss, first.loss, rtol=1e-12, atol=0)
    # Above F = 3 equally good tight frames differ in their angles, not in capacities.
    assert_close(*(capacity(done.model.embedding.detach()) for done in (second, first)), rtol=0, atol=1e-8)


def test_autoencoder_ends_where_newton_does() -> None:
    model, features = TiedAutoencoder(2, 1, n_inst=16, generator=seeded(1)), SparseUniform([0.1, 0.2])
    objective = model.objective(features, [1.0, 0.5])
    near = fit(model, features, [1.0, 0.5], FitConfig(polish="none"))
    start = objective.pack(near.model.state_dict())
    first = newton(objective, start, max_steps=500, tolerance=1e-11)
    second = lbfgs(objective, start, max_steps=2000, tolerance=1e-11)
    assert second.converged.sum() >= 12
    both = first.converged & second.converged
    assert_close(second.theta[both], first.theta[both], rtol=0, atol=1e-8)


@pytest.mark.parametrize("v", [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
def test_minima_without_curvature(v: list[float]) -> None:
    features = SparseSign.from_kurtosis([5.0] * 3, standardise=True)
    model = QuadraticModel(3, 2, n_inst=4, generator=seeded(2))
    done = fit(model, features, v, FitConfig(adam_steps=0, polish="lbfgs"))
    assert (done.status == FitStatus.CONVERGED).all()
    assert_close(done.loss, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-13)
