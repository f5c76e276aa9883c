"""Sample evaluations that sampled training needs to reach the same loss, by how samples are drawn.

    python benchmarks/sampling.py [--steps 400] [--instances 24] [--threads 2] [--model quadratic autoencoder]

Twenty features with importances 0.9^i in five dimensions. Stacks are trained by Adam on unconditional samples, on
samples with an active feature (the rest added exactly), and on samples stratified over the number of active features,
each in three batch sizes n. The final loss is L + c / n, with one L for all and a noise c for each way of drawing, by
least squares. Prints the batch that reaches the loss of the unconditional samples, and the ratio of sample evaluations,
the one inactive sample of each step counted (goals: at least 5× at p = 0.01 by conditioning alone, at least 4× at
p = 0.05 with strata).

All instances start alike and draw samples of their own: the quadratic model from a random start, since it has one
minimum; the autoencoder, which has many, from one that was trained before, so that the loss tells the noise of the
samples and not the basin. The loss is the mean over instances of the exact loss: in closed form for the quadratic
model, for the autoencoder exact up to two active features and over the same large sample beyond.
"""

import argparse
import time

import torch
from torch import Tensor

from polysem.features import SparseUniform, geometric
from polysem.training import FitConfig, fit
from polysem.zoo import QuadraticModel, TiedAutoencoder, ToyModel, expected_loss

MODELS = ["quadratic", "autoencoder"]
N_FEATURES, D_HIDDEN = 20, 5
CHECK_SAMPLES = 100_000
UNCONDITIONAL_BATCH = {0.01: 4096, 0.05: 2048}


class Unconditional(SparseUniform):
    """Uniform features whose batches are drawn without any condition."""

    def sample_active(  # noqa: D102
        self, n: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> tuple[Tensor, Tensor]:
        x = self.sample(n, generator=generator, dtype=dtype)
        return x, torch.ones(x.shape[1:-1], dtype=torch.float64, device=x.device)


class Trial:
    """Trains a stack in batches of a given size and measures its exact loss."""

    def __init__(self, kind: str, p: float, options: argparse.Namespace) -> None:
        quadratic = kind == "quadratic"
        settings = {"signed": quadratic, "standardise": quadratic}
        chances = torch.full((options.instances, N_FEATURES), p, dtype=torch.float64)
        self.features = SparseUniform(chances, **settings)
        self.unconditional = Unconditional(chances, **settings)
        self.importance = geometric(N_FEATURES, 0.9)
        family = QuadraticModel if quadratic else TiedAutoencoder
        self.start: ToyModel = family(
            N_FEATURES, D_HIDDEN, n_inst=options.instances, generator=torch.Generator().manual_seed(options.seed)
        )
        self.steps, self.seed, self.quadratic = options.steps, options.seed, quadratic
        self.learning_rate = 0.05
        if not quadratic:
            before = FitConfig(loss="sampled", stratified=True, adam_steps=1500, batch_size=512)
            generator = torch.Generator().manual_seed(options.seed + 3)
            self.start = fit(self.start, self.features, self.importance, before, generator=generator).model
            self.learning_rate = 0.02
        with torch.no_grad():
            for parameter in self.start.parameters():
                parameter.copy_(parameter[:1].clone().expand_as(parameter))

    def loss(self, scheme: str, batch_size: int) -> float:
        """Mean exact loss after training."""
        config = FitConfig(
            loss="sampled",
            adam_steps=self.steps,
            learning_rate=self.learning_rate,
            batch_size=batch_size,
            stratified=scheme == "stratified",
            record_every=self.steps,
        )
        features = self.unconditional if scheme == "unconditional" else self.features
        generator = torch.Generator().manual_seed(self.seed + 1)
        done = fit(self.start, features, self.importance, config, generator=generator)
        check = {}
        if not self.quadratic:
            check = {"n_samples": CHECK_SAMPLES, "generator": torch.Generator().manual_seed(self.seed + 2)}
        return float(expected_loss(done.model, self.features, self.importance, **check).value.mean())


def noise_of_schemes(losses: dict[str, dict[int, float]]) -> dict[str, float]:
    """The `c` of each scheme in `loss = L + c / batch_size`; errors are taken in proportion to `1 / batch_size`."""
    names, rows, values = list(losses), [], []
    for index, by_size in enumerate(losses.values()):
        for size, loss in by_size.items():
            weight = size / max(by_size)
            rows.append([weight, *(weight / size if k == index else 0.0 for k in range(len(names)))])
            values.append([weight * loss])
    solution = torch.linalg.lstsq(torch.tensor(rows, dtype=torch.float64), torch.tensor(values, dtype=torch.float64))
    return dict(zip(names, solution.solution[1:, 0].tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--instances", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--model", nargs="+", default=["quadratic", "autoencoder"], choices=["quadratic", "autoencoder"]
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for kind in options.model:
        for p, batch in UNCONDITIONAL_BATCH.items():
            start = time.perf_counter()
            trial, some = Trial(kind, p, options), 1 - (1 - p) ** N_FEATURES
            largest = {"unconditional": batch, "conditional": batch * some, "stratified": batch * some / 3}
            losses = {
                scheme: {round(size / part): trial.loss(scheme, round(size / part)) for part in (1, 2, 4)}
                for scheme, size in largest.items()
            }
            noise = noise_of_schemes(losses)
            print(
                f"{kind}, p = {p}: loss {losses['unconditional'][batch]:.5g} with {batch} unconditional samples a step"
            )
            for scheme in ("conditional", "stratified"):
                size = batch * noise[scheme] / noise["unconditional"]
                print(f"  {scheme:12} {size:7.1f} samples a step: {batch / (size + 1):5.2f}× fewer")
            print(f"  ({time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
