"""Transformers of every family, as `transformers` builds and saves them: what their files hold is what they do."""

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers
from torch import Tensor, nn
from torch.testing import assert_close

import reference
from polysem.networks import Analysis, Measured, WeightFileError, analyze, family_of, load
from polysem.networks._heads import head_directions

VOCABULARY, D_MODEL, N_LAYERS = 40, 24, 2
LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": D_MODEL,
    "intermediate_size": 36,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16,
}
BERT = {**LLAMA, "intermediate_size": 32}
del BERT["num_key_value_heads"]
GPT2 = {"vocab_size": VOCABULARY, "n_embd": D_MODEL, "n_layer": N_LAYERS, "n_head": 4, "n_positions": 16, "n_inner": 30}

MODELS: dict[str, tuple[str, str, dict]] = {
    "bert": ("BertModel", "BERT", BERT),
    "bert-mlm": ("BertForMaskedLM", "BERT", BERT),
    "roberta": ("RobertaForMaskedLM", "BERT", {**BERT, "max_position_embeddings": 20}),
    "gpt2": ("GPT2LMHeadModel", "GPT-2", GPT2),
    "llama": ("LlamaForCausalLM", "Llama, Mistral or Gemma", LLAMA),
    "mistral": ("MistralForCausalLM", "Llama, Mistral or Gemma", {**LLAMA, "num_key_value_heads": 1}),
    "gemma": ("GemmaForCausalLM", "Llama, Mistral or Gemma", {**LLAMA, "head_dim": 8}),
    "gemma2": ("Gemma2ForCausalLM", "Llama, Mistral or Gemma", {**LLAMA, "head_dim": 8, "tie_word_embeddings": False}),
    "pythia": ("GPTNeoXForCausalLM", "GPT-NeoX (Pythia)", BERT),
}
"""Class, family and configuration."""


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    return made(request.param)


def made(name: str) -> nn.Module:
    kind, _, settings = MODELS[name]
    class_ = getattr(transformers, kind)
    torch.manual_seed(0)
    network = class_(class_.config_class(**settings)).eval().requires_grad_(False)
    for value in network.parameters():  # initial values are alike, and zero for biases
        value.copy_(torch.randn_like(value) / value.shape[-1] ** 0.5)
    network.tie_weights()
    return network


def rows(one: Measured) -> Tensor:
    assert one.rows is not None
    return torch.cat(list(one.rows.blocks()))


def named(network: nn.Module, ending: str) -> nn.Module:
    """The only submodule of that name, in the last layer."""
    found = [module for name, module in network.named_modules() if name.endswith(f"{N_LAYERS - 1}.{ending}")]
    (module,) = found
    return module


def changes(network: nn.Module, *modules: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """How input and output of modules change from one sequence of a single token to another."""
    seen: dict[int, list[tuple[Tensor, Tensor]]] = {index: [] for index in range(len(modules))}

    def watch(index: int) -> Callable[..., None]:
        return lambda _, inputs, output: seen[index].append((inputs[0].flatten(), output.flatten()))

    hooks = [module.register_forward_hook(watch(index)) for index, module in enumerate(modules)]
    for token in (3, 7):
        network(input_ids=torch.tensor([[token]]))
    for hook in hooks:
        hook.remove()
    return [(b[0] - a[0], b[1] - a[1]) for a, b in seen.values()]


PLACES = {
    "BERT": ("attention.self.value", "attention.output.dense", {"MLP in": "intermediate.dense"}, "output.dense"),
    "GPT-2": ("attn.c_attn", "attn.c_proj", {"MLP in": "mlp.c_fc"}, "mlp.c_proj"),
    "Llama, Mistral or Gemma": (
        "self_attn.v_proj",
        "self_attn.o_proj",
        {"MLP gate": "mlp.gate_proj", "MLP up": "mlp.up_proj"},
        "mlp.down_proj",
    ),
    "GPT-NeoX (Pythia)": (
        "attention.query_key_value",
        "attention.dense",
        {"MLP in": "mlp.dense_h_to_4h"},
        "mlp.dense_4h_to_h",
    ),
}
"""Submodules that attend, read and write."""


def test_what_is_measured_is_what_the_network_does(model: nn.Module) -> None:
    """Values, neurons and what they write, against the changes that a forward pass shows in its last layer."""
    found = analyze(model, draws=2)
    value, output, reads, out = PLACES[found.family or ""]
    last = {one.kind: rows(one) for one in found if one.layer == N_LAYERS - 1}
    assert list(last) == ["attention in", "attention out", *reads, "MLP out"]

    (attended, _), (_, written) = changes(model, named(model, value), named(model, output))
    scale = last["attention in"].norm(dim=1)
    assert_close(scale, last["attention out"].norm(dim=1))
    strength = (last["attention in"] @ attended) / torch.where(scale > 0, scale, 1.0)
    assert_close(strength @ last["attention out"], written, rtol=1e-4, atol=1e-5)

    for kind, name in reads.items():
        ((before, after),) = changes(model, named(model, name))
        assert_close(last[kind] @ before, after, rtol=1e-4, atol=1e-5)
    ((before, after),) = changes(model, named(model, out))
    assert_close(before @ last["MLP out"], after, rtol=1e-4, atol=1e-5)


def test_embeddings(model: nn.Module) -> None:
    found = analyze(model, draws=2)
    embedding = model.get_input_embeddings().weight
    (token,) = found.of_kind("token embedding")
    assert_close(rows(token), embedding, rtol=0, atol=0)
    assert_close(token.report.capacity, reference.capacity(embedding.double()), rtol=1e-6, atol=1e-12)
    outputs = model.get_output_embeddings()
    unembedding = found.of_kind("unembedding")
    tied = outputs is None or outputs.weight is embedding
    assert len(unembedding) == (not tied)
    if not tied:
        assert_close(rows(unembedding[0]), outputs.weight, rtol=0, atol=0)
    assert any("tied" in note for note in found.notes) == tied
    assert len(found.of_kind("position embedding")) == (found.family in ("BERT", "GPT-2"))


@pytest.mark.parametrize("shard", ["20KB", "5GB"])
def test_saved_files(model: nn.Module, shard: str, tmp_path: Path) -> None:
    """A folder, whole or in shards, holds what the module does; its config.json says how many heads there are."""
    model.save_pretrained(tmp_path, max_shard_size=shard)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1 or shard == "5GB"
    found, expected = analyze(tmp_path, draws=2), analyze(model, draws=2)
    assert found.family == expected.family == family_of(load(tmp_path))[0]
    assert [(one.layer, one.kind, one.stream) for one in found] == [(o.layer, o.kind, o.stream) for o in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.stored_shape == other.stored_shape
        assert one.features == other.features
        assert_close(rows(one), rows(other), rtol=0, atol=0)
        assert_close(one.report.capacity, other.report.capacity, rtol=1e-9, atol=0)


def saved(name: str, folder: Path) -> Path:
    """A network without its configuration."""
    made(name).save_pretrained(folder)
    (folder / "config.json").unlink()
    return folder / "model.safetensors"


def test_without_a_configuration_attention_is_left_out(tmp_path: Path) -> None:
    path = saved("pythia", tmp_path)
    without, told = analyze(path, draws=2), analyze(path, n_heads=4, draws=2)
    assert len(told) - len(without) == 2 * N_LAYERS
    assert not without.of_kind("attention in")
    assert "n_heads= says it" in " ".join(without.notes)
    (tmp_path / "config.json").write_text('{"text_config": {"num_attention_heads": 4}}')
    assert analyze(path, draws=2).to_dict() == told.to_dict()


@pytest.mark.parametrize("prefix", ["", "model.", "0.auto_model."])
def test_any_prefix(prefix: str, tmp_path: Path) -> None:
    state = {f"{prefix}{name}": value for name, value in made("bert").state_dict().items() if value.ndim == 2}
    safetensors.torch.save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "m.safetensors")
    found = analyze(tmp_path / "m.safetensors", n_heads=4, draws=2)
    assert (found.family, len(found)) == ("BERT", 2 + 4 * N_LAYERS)
    assert all(one.name.startswith(prefix) for one in found)


def analysed_with(changed: dict[str, Tensor | None], folder: Path, name: str = "llama", **options: object) -> Analysis:
    """A network some of whose tensors are others, or missing."""
    path = saved(name, folder)
    state = safetensors.torch.load_file(path) | {key: value for key, value in changed.items() if value is not None}
    state = {key: value for key, value in state.items() if changed.get(key, value) is not None}
    safetensors.torch.save_file({key: value.contiguous() for key, value in state.items()}, path)
    return analyze(path, draws=2, **options)


UP, VALUE = "model.layers.1.mlp.up_proj.weight", "model.layers.1.self_attn.v_proj.weight"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "changed", "options", "said"),
    [
        ("llama", {UP: torch.ones(D_MODEL, 36)}, {}, f"{UP} must have 24 columns, as model.embed_tokens.weight is 24"),
        ("llama", {UP: None}, {}, f"has 2 layers, and no matrix '{UP}'"),
        ("llama", {VALUE: torch.ones(12, 23)}, {}, f"{VALUE} must have 24 columns"),
        ("llama", {"lm_head.weight": torch.ones(41, D_MODEL)}, {}, "lm_head.weight must have 24 columns and 40 rows"),
        ("llama", {}, {"n_heads": 5}, "n_heads must divide the 24 inner coordinates"),
        ("llama", {}, {"n_heads": 1}, "got 1"),
        ("llama", {"a.lm_head.weight": torch.ones(3, 3)}, {}, "one unembedding is expected"),
        ("llama", {"model.layers.0.mlp.up_proj.weight": None}, {}, "there is no 'model.layers.0.mlp.up_proj.weight'"),
        ("gpt2", {"transformer.h.1.mlp.c_fc.weight": torch.ones(30, D_MODEL)}, {}, "must have 24 rows"),
        ("gpt2", {"transformer.h.1.attn.c_attn.weight": torch.ones(D_MODEL, 60)}, {}, "queries, keys and values of 24"),
        ("bert", {"b.embeddings.word_embeddings.weight": torch.ones(4, 4)}, {"labels": ["a"]}, "got 1"),
    ],
)
def test_what_does_not_fit(name: str, changed: dict, options: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=".") as caught:
        analysed_with(changed, tmp_path, name, **options)
    assert said in str(caught.value)


@pytest.mark.bad_input
@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 10**6, '"' + "a" * 2**23 + '"'])
def test_a_configuration_that_is_none(text: str, tmp_path: Path) -> None:
    path = saved("llama", tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WeightFileError, match="config.json"):
        analyze(path)


def test_an_unembedding_that_is_the_embedding_is_measured_once(tmp_path: Path) -> None:
    path = saved("llama", tmp_path)
    embedding = safetensors.torch.load_file(path)["model.embed_tokens.weight"]
    found = analysed_with({"lm_head.weight": embedding.clone()}, tmp_path)
    assert not found.of_kind("unembedding")
    assert "lm_head.weight is tied" in " ".join(found.notes)


def test_heads_are_the_same_in_every_basis() -> None:
    """The directions of a head against the whole map from the stream to the stream, and after a change of its basis."""
    generator = torch.Generator().manual_seed(0)
    value, output = torch.randn(6, 10, generator=generator).double(), torch.randn(12, 10, generator=generator).double()
    reads, writes = (head_directions(value, output, 4, stream) for stream in ("reads", "writes"))
    for head in range(4):
        own, shared = slice(3 * head, 3 * head + 3), slice(3 * (head // 2), 3 * (head // 2) + 3)
        whole = output[own].mT @ value[shared]  # from what is read to what is written
        assert_close(reads[own].mT @ reads[own], whole.mT @ whole)
        assert_close(writes[own] @ writes[own].mT, torch.linalg.svdvals(whole)[:3].square().diag())
        assert_close(writes[own].mT @ writes[own], whole @ whole.mT)
    change = torch.randn(3, 3, generator=generator).double()
    other_value, other_output = value.clone(), output.clone()
    other_value[:3], other_output[:3] = change @ value[:3], torch.linalg.inv(change).mT @ output[:3]
    other_output[3:6] = torch.linalg.inv(change).mT @ output[3:6]
    assert_close(head_directions(other_value, other_output, 4, "reads").abs(), reads.abs())
