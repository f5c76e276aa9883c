"""What needs an optional library says so in one line, and nothing else needs one."""

import subprocess
import sys

BEHIND = {
    "CapacityMetric": "torchmetrics",
    "LightningCallback": "lightning",
    "TransformersCallback": "transformers",
}
CODE = f"""
import sys, torch
from polysem import networks
networks.to_tensorboard, networks.to_wandb
networks.CapacityMonitor(torch.nn.Linear(4, 6)).measure()
print({{"torchmetrics", "lightning", "transformers", "tensorboard", "wandb"}} & set(sys.modules))
for name, library in {BEHIND}.items():
    sys.modules[library] = None
    try:
        getattr(networks, name)
    except ImportError as error:
        print(error)
"""


def test_a_missing_library_is_named_with_its_extra_and_the_monitor_needs_none() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "set()",
        *(f'{name} needs {library}: pip install "polysem[training]"' for name, library in BEHIND.items()),
    ]
