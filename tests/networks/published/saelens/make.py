"""Write tiny dictionaries with SAELens itself, and beside each what the library's own model holds and computes.

python3 -m venv env && env/bin/pip install torch==2.13.0 sae-lens==6.54.12 && env/bin/python make.py
"""

import json
from pathlib import Path

import sae_lens
import torch

D_IN, D_OUT, D_SAE = 6, 5, 16
HERE = Path(__file__).parent
X = torch.randn(4, D_IN, generator=torch.Generator().manual_seed(1))
ORDINARY = {"d_in": D_IN, "d_sae": D_SAE, "device": "cpu", "dtype": "float32", "apply_b_dec_to_input": False}
MODELS = {
    "standard": (sae_lens.StandardSAE, sae_lens.StandardSAEConfig, {}),
    "gated": (sae_lens.GatedSAE, sae_lens.GatedSAEConfig, {}),
    "jumprelu": (sae_lens.JumpReLUSAE, sae_lens.JumpReLUSAEConfig, {}),
    "topk": (sae_lens.TopKSAE, sae_lens.TopKSAEConfig, {"k": 3}),
    "matching-pursuit": (sae_lens.MatchingPursuitSAE, sae_lens.MatchingPursuitSAEConfig, {}),
    "transcoder": (sae_lens.Transcoder, sae_lens.TranscoderConfig, {"d_out": D_OUT}),
    "transcoder-same-width": (sae_lens.SkipTranscoder, sae_lens.SkipTranscoderConfig, {"d_out": D_IN}),
}


def main() -> None:
    for seed, (name, (model_class, config_class, extra)) in enumerate(MODELS.items()):
        torch.manual_seed(seed)
        model = model_class(config_class(**ORDINARY, **extra))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter)
        model.save_model(HERE / name)
        expected = {
            "library": f"sae-lens {sae_lens.__version__}",
            "d_in": D_IN,
            "d_out": extra.get("d_out", D_IN),
            "d_sae": D_SAE,
            "x": X.tolist(),
            "pre_activation": (X @ model.W_enc).tolist(),
            "decoded": (torch.eye(D_SAE) @ model.W_dec).tolist(),
            "decoder_norm": model.W_dec.norm(dim=1).tolist(),
            "decoder_bias": model.b_dec.tolist(),
        }
        if name in ("standard", "jumprelu", "topk"):
            expected |= {"encoder_bias": model.b_enc.tolist(), "output": model(X).tolist()}
        (HERE / name / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    main()
