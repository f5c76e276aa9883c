"""What `config.json` beside a network's weights says of its heads."""

import json
from collections.abc import Mapping
from pathlib import Path

from polysem.networks._bytes import WeightFileError

_LARGEST = 4 * 2**20
_HEADS = ("num_attention_heads", "n_head", "num_heads")


def read_config(folder: Path) -> dict[str, object]:
    """The entries of `config.json` in a folder; none where there is no such file."""
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
        content = json.loads(text) if len(text) <= _LARGEST else None
    except (OSError, ValueError, RecursionError) as error:
        raise WeightFileError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise WeightFileError(f"{path}: not a JSON object of at most {_LARGEST // 2**20} MiB")
    return content


def heads_of(config: Mapping[str, object]) -> int | None:
    """Number of heads of attention, if the configuration says it."""
    for part in (config, config.get("text_config")):
        if isinstance(part, Mapping):
            for key in _HEADS:
                found = part.get(key)
                if isinstance(found, int) and not isinstance(found, bool) and found > 0:
                    return found
    return None


def has_head(config: Mapping[str, object]) -> bool:
    """Whether the configuration names an architecture that predicts tokens."""
    names = config.get("architectures")
    return isinstance(names, list) and any(
        str(name).endswith(("LMHeadModel", "ForCausalLM", "ForMaskedLM", "ForPreTraining")) for name in names
    )
