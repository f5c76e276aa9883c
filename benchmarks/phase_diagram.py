"""The phase diagram of two features in one dimension: exact losses and Newton against sampled Adam.

    python benchmarks/phase_diagram.py [--cells 32] [--restarts 8] [--against 8] [--epochs 10000] [--seed 0]

Fits tied ReLU autoencoders over density (1 ... 0.01) x relative importance (0.1 ... 10), each cell with restarts, on
the exact loss of uniform features until no entry of the gradient exceeds 1e-8 (goals: 32x32x8 in 10 s, 100x100x8 in
90 s). Then, on a grid of `--against` cells a side, the same problems are given to the usual trainer: one start a cell,
fresh batches of 1,024 samples, Adam at 1e-3, float32. Both ends are judged by the exact loss; the ratio of times is
that of this one run.
"""

import argparse
import time

import torch
from torch import Tensor

from polysem.features import SparseUniform
from polysem.training import Fit, FitConfig, FitStatus, fit
from polysem.zoo import TiedAutoencoder

CONFIG = FitConfig(adam_steps=50, learning_rate=0.1)
GRADIENT = 1e-8
BATCH, RATE = 1024, 1e-3
PROBES, RADIUS, FALL = 200, 1e-3, 1e-3


def problems(cells: int, restarts: int) -> tuple[Tensor, Tensor]:
    density = torch.logspace(0, -2, cells, dtype=torch.float64)
    importance = torch.logspace(-1, 1, cells, dtype=torch.float64)
    p, second = (
        axis.flatten().repeat_interleave(restarts) for axis in torch.meshgrid(density, importance, indexing="ij")
    )
    return p[:, None].expand(-1, 2), torch.stack([torch.ones_like(second), second], -1)


def start(n_inst: int, seed: int, dtype: torch.dtype = torch.float64) -> TiedAutoencoder:
    return TiedAutoencoder(2, 1, n_inst=n_inst, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def fit_exactly(p: Tensor, importance: Tensor, seed: int) -> tuple[Fit, float]:
    model, begin = start(len(p), seed), time.perf_counter()
    return fit(model, SparseUniform(p), importance, CONFIG), time.perf_counter() - begin


def fit_by_samples(p: Tensor, importance: Tensor, epochs: int, seed: int) -> tuple[Tensor, float]:
    model, begin = start(len(p), seed, torch.float32), time.perf_counter()
    generator = torch.Generator().manual_seed(seed + 1)
    adam = torch.optim.Adam(model.parameters(), lr=RATE)
    p32, weight = p.float(), importance.float()
    for _ in range(epochs):
        active = torch.rand(BATCH, *p.shape, generator=generator) < p32
        x = active * torch.rand(BATCH, *p.shape, generator=generator)
        loss = (weight * (model(x) - x).square()).sum(-1).mean(0).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    seconds = time.perf_counter() - begin
    return model.exact_loss(SparseUniform(p), importance).detach(), seconds


def report(done: Fit, p: Tensor, importance: Tensor, restarts: int, seed: int) -> None:
    """How the instances ended: by gradient, by status, and by looking around for anything lower."""
    objective = done.model.objective(SparseUniform(p), importance)
    theta = objective.pack(done.model.state_dict())
    steepest = objective.gradient(theta).abs().amax(-1)
    loss = objective.loss(theta)
    lowest = torch.full_like(loss, torch.inf)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(PROBES):
        step = torch.nn.functional.normalize(torch.randn(theta.shape, generator=generator, dtype=torch.float64), dim=-1)
        lowest = torch.minimum(lowest, objective.loss(theta + RADIUS * step) - loss)
    curvature = objective.hessian(theta).diagonal(dim1=-2, dim2=-1).abs().amax(-1)
    leaks = lowest < -FALL * curvature * RADIUS**2
    W, b = done.model.embedding.detach(), objective.unpack(theta)["b"]
    dead = ((done.model.response().detach().clamp(min=0).sum(-1) + b) <= 0).any(-1)
    per_cell = done.loss.reshape(-1, restarts)
    best = per_cell.argmin(-1) + torch.arange(len(per_cell)) * restarts
    at_best = (per_cell <= per_cell.amin(-1, keepdim=True) * (1 + 1e-6)).double().mean()
    kinked = ((W.abs().amax(-1) == 0) & (b == 0)).any(-1)
    converged = (done.status == int(FitStatus.CONVERGED)).double().mean()
    print(
        f"  gradient <= {GRADIENT:g}: {(steepest <= GRADIENT).double().mean():.2%} (largest {steepest.max():.1e}), "
        f"status converged {converged:.2%}, at W = 0, b = 0: {int(kinked.sum())}"
    )
    print(
        f"  Newton steps: mean {(done.n_steps - CONFIG.adam_steps).double().mean():.1f}, "
        f"most {int(done.n_steps.max()) - CONFIG.adam_steps}; restarts at their cell's best {at_best:.1%}; "
        f"with an output that is never on {dead.double().mean():.1%}"
    )
    print(
        f"  a lower loss found at distance {RADIUS:g} in {PROBES} directions (beyond a kink): "
        f"{int(leaks.sum())} of {len(loss)} instances, {int(leaks[best].sum())} of {len(best)} cells' best"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=32, help="cells a side of the exact diagram")
    parser.add_argument("--restarts", type=int, default=8)
    parser.add_argument("--against", type=int, default=8, help="cells a side of the comparison, 0 for none")
    parser.add_argument("--epochs", type=int, default=10_000, help="of the sampled trainer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    p, importance = problems(options.cells, options.restarts)
    cpu = time.process_time()
    done, seconds = fit_exactly(p, importance, options.seed)
    cpu = time.process_time() - cpu
    print(
        f"exact, {options.cells}x{options.cells} cells x {options.restarts} restarts: {seconds:.1f} s ({cpu:.1f} s CPU)"
    )
    report(done, p, importance, options.restarts, options.seed)
    if not options.against:
        return

    p, importance = problems(options.against, options.restarts)
    done, exact_seconds = fit_exactly(p, importance, options.seed)
    exact = done.loss.reshape(-1, options.restarts).amin(-1)
    p, importance = problems(options.against, 1)
    sampled, sampled_seconds = fit_by_samples(p, importance, options.epochs, options.seed)
    excess = sampled / exact - 1
    print(
        f"both, {options.against}x{options.against} cells: exact, {options.restarts} restarts: {exact_seconds:.2f} s, "
        f"sampled Adam with one start and {options.epochs} epochs {sampled_seconds:.1f} s: "
        f"{sampled_seconds / exact_seconds:.0f} times as long"
    )
    print(
        f"  cells where the exact fit's loss is equal or lower: {(excess >= -1e-9).double().mean():.2%} "
        f"(lowest excess of the sampled one {excess.min():+.1e})"
    )
    print(
        f"  cells where the sampled fit ends within 0.1 %: {(excess < 1e-3).double().mean():.1%}, 1 %: "
        f"{(excess < 1e-2).double().mean():.1%}, 10 %: {(excess < 0.1).double().mean():.1%}; "
        f"median excess {excess.median():.1e}"
    )


if __name__ == "__main__":
    main()
