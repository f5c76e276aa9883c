"""Capacity against its floor, against the N×N way, and against float64.

Prints, measured side by side in one run:

- time over the time of the two matrix products that no method can avoid (goal: at most 1.5);
- speed-up and peak-memory ratio over the way that forms the N×N Gram matrix (goals: at least 100× and 50×);
- the worst relative error of float32 input against pairwise float64 arithmetic (goal: at most 1e-5).

Usage: python benchmarks/capacity.py [--threads 2] [--device cpu]
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

import polysem as ps


def best_times(*functions: Callable[[], object], repeats: int = 7) -> list[float]:
    """Best wall time of each function, the functions taking turns."""
    best = [float("inf")] * len(functions)
    for _ in range(repeats):
        for index, function in enumerate(functions):
            synchronise()
            start = time.perf_counter()
            function()
            synchronise()
            best[index] = min(best[index], time.perf_counter() - start)
    return best


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_bytes(function: Callable[[Tensor], object], W: Tensor) -> int:
    """Most memory beyond the input that a call holds at once; on CPU in a process of its own, whose heap is fresh."""
    if W.is_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function(W)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_here, function, tuple(W.shape)).result()


def _peak_here(function: Callable[[Tensor], object], shape: tuple[int, int]) -> int:
    function(torch.randn(16, 4))  # load what is loaded once
    W = torch.randn(shape)
    Path("/proc/self/clear_refs").write_text("5")  # start the high-water mark anew
    before = _status("VmRSS")
    function(W)
    return _status("VmHWM") - before


def _status(field: str) -> int:
    """A memory figure of this process in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def by_gram_matrix(W: Tensor) -> Tensor:
    gram = W @ W.mT
    return gram.diagonal().square() / gram.square().sum(-1)


def pairwise_float64(W: Tensor, rows: Tensor) -> Tensor:
    """Capacities of some rows, pair by pair in float64."""
    wide = W.double()
    dots = wide[rows] @ wide.mT
    return dots[torch.arange(len(rows)), rows].square() / dots.square().sum(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)

    def matrix(n: int, d: int) -> Tensor:
        return torch.randn(n, d, generator=generator).to(options.device)

    name = torch.cuda.get_device_name() if options.device == "cuda" else f"{options.threads} threads"
    print(f"torch {torch.__version__}, {name}")
    for n, d in [(65_536, 512), (30_522, 384)]:
        W = matrix(n, d)
        floor, ours = best_times(lambda W=W: W @ (W.mT @ W), lambda W=W: ps.capacity(W))
        ratio = ours / floor
        print(f"time over two products  {n:>6} × {d}: {ratio:.2f}  ({ours:.4f} s over {floor:.4f} s; goal <= 1.5)")

    W = matrix(32_768, 256)
    (gram,), (ours,) = best_times(lambda: by_gram_matrix(W), repeats=2), best_times(lambda: ps.capacity(W))
    print(f"speed-up over N×N        32768 × 256: {gram / ours:.0f}x  ({gram:.2f} s over {ours:.4f} s; goal >= 100)")
    small, large = peak_bytes(ps.capacity, W), peak_bytes(by_gram_matrix, W)
    print(
        f"memory ratio over N×N    32768 × 256: {large / small:.0f}x  "
        f"({large / 2**20:.0f} MiB over {small / 2**20:.1f} MiB beyond the input; goal >= 50)"
    )

    worst = 0.0
    for n, d, decades in [(8192, 256, 0), (8192, 256, 4), (8192, 64, 12), (300, 512, 2), (8192, 256, 60)]:
        exponents = (torch.rand(n, 1, generator=generator) - 0.5) * decades
        W = torch.randn(n, d, generator=generator) * 10**exponents
        rows = torch.randperm(n, generator=generator)[:256]
        expected = pairwise_float64(W, rows)
        told = expected > 1e-30  # smaller capacities are below float32's own range
        result = ps.capacity(W.to(options.device)).cpu().double()[rows]
        error = float(((result - expected).abs() / expected)[told].max())
        worst = max(worst, error)
        print(f"relative error, float32  {n:>6} × {d}, norms over {decades:>2} decades: {error:.1e}")
    print(f"worst relative error: {worst:.1e}  (goal <= 1e-5)")


if __name__ == "__main__":
    main()
