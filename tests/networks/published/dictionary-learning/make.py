"""Write tiny dictionaries with dictionary_learning's own training run, and beside each what its model computes.

python3 -m venv env && env/bin/pip install torch==2.13.0 dictionary-learning==0.1.0 && env/bin/python make.py
"""

import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.gated_anneal import GatedAnnealTrainer
from dictionary_learning.trainers.jumprelu import JumpReluTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.standard import StandardTrainer
from dictionary_learning.trainers.top_k import TopKTrainer
from dictionary_learning.training import trainSAE
from dictionary_learning.utils import load_dictionary

D_IN, D_SAE = 6, 16
HERE = Path(__file__).parent
X = torch.randn(4, D_IN, generator=torch.Generator().manual_seed(1))
TRAINERS = {
    "standard": (StandardTrainer, {"warmup_steps": 1, "sparsity_warmup_steps": 1}),
    "gated": (GatedAnnealTrainer, {"warmup_steps": 1, "sparsity_warmup_steps": 1}),
    "jumprelu": (JumpReluTrainer, {"warmup_steps": 1, "sparsity_warmup_steps": 1}),
    "topk": (TopKTrainer, {"k": 3, "warmup_steps": 1}),
    "batchtopk": (BatchTopKTrainer, {"k": 3, "warmup_steps": 1}),
    "matryoshka": (MatryoshkaBatchTopKTrainer, {"k": 3, "warmup_steps": 1, "group_fractions": [0.25, 0.75]}),
}


def main() -> None:
    for seed, (name, (trainer, options)) in enumerate(TRAINERS.items()):
        torch.manual_seed(seed)
        data = [torch.randn(64, D_IN) for _ in range(6)]
        config = {
            "trainer": trainer,
            "activation_dim": D_IN,
            "dict_size": D_SAE,
            "steps": 5,
            "layer": 0,
            "lm_name": "none",
            "device": "cpu",
            "seed": seed,
        }
        with tempfile.TemporaryDirectory() as folder:
            trainSAE(data, [config | options], steps=5, save_dir=folder, device="cpu")
            (HERE / name).mkdir(exist_ok=True)
            for file in ("ae.pt", "config.json"):
                shutil.copy(Path(folder) / "trainer_0" / file, HERE / name / file)
        model, _ = load_dictionary(str(HERE / name), "cpu")
        linear = hasattr(model, "encoder")
        encoder = model.encoder.weight.T if linear else model.W_enc
        decoder = model.decoder.weight.T if linear else model.W_dec
        bias = {"standard": "bias", "gated": "decoder_bias"}.get(name, "b_dec")
        expected = {
            "library": f"dictionary-learning {version('dictionary-learning')}",
            "d_in": D_IN,
            "d_out": D_IN,
            "d_sae": D_SAE,
            "x": X.tolist(),
            "pre_activation": (X @ encoder).tolist(),
            "decoded": (torch.eye(D_SAE) @ decoder).tolist(),
            "decoder_norm": decoder.norm(dim=1).tolist(),
            "decoder_bias": getattr(model, bias).tolist(),
        }
        if name != "gated":
            expected["encoder_bias"] = (model.encoder.bias if linear else model.b_enc).tolist()
        if name == "standard":
            expected["output"] = model(X).tolist()
        (HERE / name / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    main()
