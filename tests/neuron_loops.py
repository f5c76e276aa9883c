"""Models with neurons, number by number in plain Python, and the exact laws of small sets of inputs."""

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Numbers = list[float]


def top_two(z: Numbers) -> Numbers:
    largest = sorted(range(len(z)), key=lambda k: z[k])[-2:]
    return [value if k in largest else 0.0 for k, value in enumerate(z)]


def solu(z: Numbers) -> Numbers:
    total = sum(math.exp(value) for value in z)
    return [value * math.exp(value) / total for value in z]


def each(f: Callable[[float], float]) -> Callable[[Numbers], Numbers]:
    return lambda z: [f(value) for value in z]


LAYERS: dict[str, Callable[[Numbers], Numbers]] = {
    "identity": each(lambda z: z),
    "relu": each(lambda z: max(z, 0.0)),
    "gelu": each(lambda z: z * (1 + math.erf(z / math.sqrt(2))) / 2),
    "softplus": each(lambda z: math.log1p(math.exp(z))),
    "abs": each(abs),
    "square": each(lambda z: z * z),
    "tanh": each(math.tanh),
    "solu": solu,
    "topk": top_two,
}
TARGETS: dict[str, Callable[[float], float]] = {"identity": lambda x: x, "abs": abs, "square": lambda x: x * x}


def times(x: Numbers, W: list[Numbers]) -> Numbers:
    return [sum(x[i] * W[i][k] for i in range(len(x))) for k in range(len(W[0]))]


def plus(x: Numbers, y: Numbers) -> Numbers:
    return [a + b for a, b in zip(x, y, strict=True)]


def neurons(x: Numbers, W_in: Tensor, b_in: Tensor, W_gate: Tensor | None, activation: str) -> Numbers:
    linear = plus(times(x, W_in.tolist()), b_in.tolist())
    if W_gate is not None:
        return [a * g for a, g in zip(linear, times(x, W_gate.tolist()), strict=True)]
    return LAYERS[activation](linear)


def loss(x: Numbers, outputs: Numbers, target: str, importance: Numbers) -> float:
    t = TARGETS[target]
    return sum(w * (y - t(value)) ** 2 for w, y, value in zip(importance, outputs, x, strict=True))


def signs(active: dict[tuple[bool, ...], float]) -> Iterator[tuple[float, Numbers]]:
    """Every outcome of sparse signs with its probability, given the law of which are active."""
    for s, chance in active.items():
        values = [[1.0, -1.0] if on else [0.0] for on in s]
        for x in itertools.product(*values):
            yield chance / 2 ** sum(s), list(x)


def independent(p: Numbers) -> dict[tuple[bool, ...], float]:
    """The law of which independent features are active."""
    return {
        s: math.prod(q if on else 1 - q for q, on in zip(p, s, strict=True))
        for s in itertools.product([False, True], repeat=len(p))
    }


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Random values for all parameters, biases too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
