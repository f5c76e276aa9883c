"""Write tiny dictionaries with EleutherAI's sparsify itself, and beside each what its model holds and computes.

python3 -m venv env && env/bin/pip install torch==2.13.0 eai-sparsify==1.3.3 && env/bin/python make.py
"""

import json
from importlib.metadata import version
from pathlib import Path

import torch
from sparsify import SparseCoder, SparseCoderConfig

D_IN, D_SAE = 6, 16
HERE = Path(__file__).parent
X = torch.randn(4, D_IN, generator=torch.Generator().manual_seed(1))


def main() -> None:
    for name, options in {
        "sae": {"num_latents": D_SAE},
        "expansion": {"expansion_factor": 3},
        "transcoder": {"num_latents": D_SAE, "transcode": True, "skip_connection": True},
    }.items():
        torch.manual_seed(len(name))
        model = SparseCoder(D_IN, SparseCoderConfig(k=3, **options))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter)
        model.save_to_disk(HERE / name)
        expected = {
            "library": f"eai-sparsify {version('eai-sparsify')}",
            "d_in": D_IN,
            "d_out": D_IN,
            "d_sae": model.num_latents,
            "x": X.tolist(),
            "pre_activation": (X @ model.encoder.weight.T).tolist(),
            "decoded": torch.eye(model.num_latents).matmul(model.W_dec).tolist(),
            "decoder_norm": model.W_dec.norm(dim=1).tolist(),
            "decoder_bias": model.b_dec.tolist(),
            "encoder_bias": model.encoder.bias.tolist(),
        }
        if name == "sae":
            encoded = model.encode(X)
            expected["output"] = model.decode(encoded.top_acts, encoded.top_indices).tolist()
        (HERE / name / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    main()
