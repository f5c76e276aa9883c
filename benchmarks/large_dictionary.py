"""A dictionary larger than memory allows, analysed from disk.

Writes a dictionary of 1,048,576 × 1,024 in float32 (4.3 GB) as safetensors to a folder, analyses it with both nulls,
and removes it. Prints, measured in one run:

- the largest resident memory while analysing, mapped pages included (goal: under 1.5 GB);
- the rate of the whole analysis, reading and drawing included, over that of bare matrix products (goal: at least 0.7).
  The products: `M = WᵀW` and `W V` in float64, and for each draw of each null two in float32. The time that they take
  at the rates of `torch.matmul` on blocks of the same shapes and dtypes, over the time the analysis took. `M` is
  symmetric, and only 5/8 of it are multiplied; the second figure counts only those.
- the worst relative error of 64 capacities against all pairs in float64.

Rates are means over seconds before and after the analysis: the machine may be busy, and then the best of a few short
runs would say nothing.

Usage: python benchmarks/large_dictionary.py [--rows 1048576] [--draws 2] [--threads 2] [--folder /tmp]
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from polysem.networks import analyze, load

D = 1024
BLOCK = 2048


def write(path: Path, n_rows: int) -> None:
    """Rows in directions that are used unequally, of unequal norms, a tenth of them in pairs."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.arange(1.0, D + 1) ** -0.25
    header = {"W_dec": {"dtype": "F32", "shape": [n_rows, D], "data_offsets": [0, 4 * n_rows * D]}}
    with path.open("wb") as file:
        text = json.dumps(header).encode()
        file.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, n_rows, BLOCK):
            rows = torch.randn(min(BLOCK, n_rows - start), D, generator=generator) * spread
            rows[: len(rows) // 20] = rows[len(rows) - len(rows) // 20 :]
            file.write((rows * (1 + torch.rand(len(rows), 1, generator=generator))).numpy())


def product_rate(dtype: torch.dtype, seconds: float) -> float:
    """Operations a second of `Xᵀ X` and `X M`, taking turns."""
    X, M = torch.randn(BLOCK, D).to(dtype), torch.randn(D, D).to(dtype)
    start, n = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        X.mT @ X
        X @ M
        n += 2
    return n * 2 * BLOCK * D**2 / spent


def memory(field: str) -> float:
    """A memory figure of this process in GB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e9


def pairwise(path: Path, rows: Tensor) -> Tensor:
    """Capacities of some rows, pair by pair in float64."""
    blocks = load(path)["W_dec"].rows_of("rows")
    n, own, found = 0, [], []
    for block in blocks.blocks():
        inside = rows[(rows >= n) & (rows < n + len(block))]
        found.append(block[inside - n].double())
        n += len(block)
    wanted = torch.cat(found)
    own = wanted.square().sum(-1)
    return own.square() / sum((wanted @ block.double().mT).square().sum(-1) for block in blocks.blocks())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2**20)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seconds = min(20.0, options.rows / 2**15)
    dtypes = {torch.float64: 2, torch.float32: 4 * options.draws}

    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "dictionary.safetensors"
        write(path, options.rows)
        print(f"torch {torch.__version__}, {options.threads} threads, load {os.getloadavg()[0]:.1f} before")
        print(f"dictionary              {options.rows:,} × {D:,} in float32, {path.stat().st_size / 1e9:.2f} GB")
        before = {dtype: product_rate(dtype, seconds) for dtype in dtypes}
        Path("/proc/self/clear_refs").write_text("5")  # start the high-water mark anew
        start = time.perf_counter()
        (found,) = analyze(path, "W_dec", draws=options.draws)
        spent = time.perf_counter() - start
        peak = memory("VmHWM")
        rates = {dtype: (before[dtype] + product_rate(dtype, seconds)) / 2 for dtype in dtypes}
        sample = torch.randperm(options.rows, generator=torch.Generator().manual_seed(1))[:64].sort().values
        expected = pairwise(path, sample)

    error = ((found.report.capacity[sample] - expected).abs() / expected).max()
    products = sum(n * 2 * options.rows * D**2 / rates[dtype] for dtype, n in dtypes.items())
    print(f"total / D               {found.report.total / D:.4f}, null {found.report.null / D:.4f}")
    print(f"peak memory             {peak:.2f} GB, of it {memory('VmRSS'):.2f} GB after  (goal < 1.5)")
    print(f"matrix products         {', '.join(f'{r / 1e9:.0f} GFLOP/s in {str(d)[6:]}' for d, r in rates.items())}")
    print(f"analysis                {spent:.0f} s; its {sum(dtypes.values())} products alone {products:.0f} s")
    print(f"rate over products      {products / spent:.2f}  (goal >= 0.7)")
    print(f"without mirrored halves {products / spent * (1 + 5 / 8) / 2:.2f}")
    print(f"worst relative error    {error:.1e}")


if __name__ == "__main__":
    main()
