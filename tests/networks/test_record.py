"""Activations are recorded as they are, in any run of the network, and nothing of the recording stays behind."""

import pytest
import torch
from torch import Tensor, nn

from polysem.networks import record


class Block(nn.Module):
    """A block like those of large networks: a named value inside, a tuple for output, work in place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.hook_pre = nn.Identity()
        self.act = nn.ReLU(inplace=True)

    def forward(self, hidden: Tensor, scale: float = 1.0) -> tuple[Tensor, str]:
        return hidden + scale * self.act(self.hook_pre(self.inner(hidden))), "rest"


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.blocks = nn.ModuleList([Block(6) for _ in range(3)])
        self.drop = nn.Dropout(0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.embed(tokens)
        for block in self.blocks:
            h = block(hidden=h)[0]
        return self.drop(h)


def made() -> tuple[Network, Tensor]:
    torch.manual_seed(0)
    return Network(), torch.randint(11, (5, 4))


def n_hooks(model: nn.Module) -> int:
    return sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in model.modules())


def test_values_are_those_of_a_run_by_hand() -> None:
    model, tokens = made()
    names = ["embed", "blocks.1.hook_pre", "blocks.2"]
    with record(model, names) as seen, record(model, ["blocks.2"], of="input") as given:
        model(tokens)
        model(tokens[:2])
    assert list(seen) == names
    both = torch.cat([tokens, tokens[:2]])
    h = [model.embed(both)]
    for block in model.blocks:
        h.append(h[-1] + (h[-1] @ block.inner.weight.mT + block.inner.bias).relu())
    torch.testing.assert_close(seen["embed"], h[0], rtol=0, atol=0)
    inner = model.blocks[1].inner
    torch.testing.assert_close(seen["blocks.1.hook_pre"], h[1] @ inner.weight.mT + inner.bias)
    torch.testing.assert_close(given["blocks.2"], h[2])
    torch.testing.assert_close(seen["blocks.2"], h[3])
    assert not any(seen[name].requires_grad for name in names)
    assert float(seen["blocks.1.hook_pre"].min()) < 0  # the ReLU in place came later


def test_the_network_and_its_training_are_the_same_to_the_bit() -> None:
    trained = []
    for watching in (False, True):
        model, tokens = made()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            if watching:
                with record(model, ["*"]) as seen, record(model, ["*"], of="input"):
                    output = model(tokens)
                assert len(seen) > 3
            else:
                output = model(tokens)
            optimiser.zero_grad()
            output.square().mean().backward()
            optimiser.step()
        trained.append((output.detach(), *(value.detach() for value in model.parameters())))
    for without, with_recording in zip(*trained, strict=True):
        assert torch.equal(without, with_recording)


def test_patterns_match_names_in_the_order_of_the_network() -> None:
    model, tokens = made()
    with record(model, ["blocks.*.hook_pre", "embed", "blocks.0.*"]) as seen:
        model(tokens)
    assert list(seen) == [
        *(f"blocks.{k}.hook_pre" for k in range(3)),
        "embed",
        "blocks.0.inner",
        "blocks.0.act",
    ]
    with record(model, [""]) as seen:
        output = model(tokens)
    assert torch.equal(seen[""], output)


def test_positions_rows_and_dtype_can_be_chosen() -> None:
    model, tokens = made()
    with (
        record(model, ["embed"]) as all_of_it,
        record(model, ["embed"], positions=-1) as last,
        record(model, ["embed"], positions=[0, 2], dtype=torch.float64) as two,
        record(model, ["embed"], positions=slice(1, 3), flatten=True) as middle,
        record(model, ["embed"], flatten=True, max_rows=23) as bounded,
        record(model, ["embed"], flatten=True) as rows,
    ):
        model(tokens)
        model(tokens)
    h = all_of_it["embed"]
    assert torch.equal(last["embed"], h[:, -1])
    assert torch.equal(two["embed"], h[:, [0, 2]].double())
    assert torch.equal(middle["embed"], h[:, 1:3].reshape(-1, 6))
    assert torch.equal(rows["embed"], h.reshape(-1, 6))
    assert torch.equal(bounded["embed"], rows["embed"][:23])
    assert bounded.left_out == {"embed": 17}
    assert repr(bounded) == "embed: 23 × [6] torch.float32, 17 left out"
    # What is kept is all that is held.
    assert last["embed"].untyped_storage().nbytes() == last["embed"].numel() * 4


def test_what_has_not_run_is_not_there() -> None:
    model, tokens = made()
    with record(model, ["embed", "blocks.0"]) as seen:
        assert list(seen) == []
        model.embed(tokens)
        assert list(seen) == ["embed"]
        with pytest.raises(KeyError, match="blocks.0: nothing was recorded, the submodule has not run"):
            seen["blocks.0"]
    assert "blocks.0" not in seen
    assert repr(seen).endswith("blocks.0: nothing")


def test_hooks_are_gone_after_an_error() -> None:
    model, tokens = made()
    with record(model, ["embed", "blocks.*"]):
        assert n_hooks(model) == 13
    assert n_hooks(model) == 0
    with pytest.raises(RuntimeError), record(model, ["embed", "blocks.*"]):
        model(tokens.double())
    assert n_hooks(model) == 0


@pytest.mark.bad_input
def test_bad_input() -> None:
    model, tokens = made()
    cases = [
        ({"layers": ["embed", "block"]}, ValueError, "layers must be names of submodules, 'embed', .*, got 'block'"),
        ({"layers": ["head.*"]}, ValueError, "or match some, got 'head.\\*'"),
        ({"layers": []}, ValueError, "layers must be at least one name, got \\[\\]"),
        ({"layers": "embed"}, TypeError, "layers must be several names, got one string 'embed'"),
        ({"layers": ["embed"], "of": "gradient"}, ValueError, "of must be 'output' or 'input', got 'gradient'"),
        ({"layers": ["embed"], "max_rows": 0}, ValueError, "max_rows must be a whole number of at least 1, got 0"),
    ]
    for given, kind, message in cases:
        with pytest.raises(kind, match=message), record(model, **given):
            pass
    with pytest.raises(TypeError, match="module must be a torch.nn.Module, got list"), record([], ["embed"]):
        pass
    message = "shape of output of 'act' must be .*, got \\(6,\\)"
    with pytest.raises(ValueError, match=message), record(model.blocks[0], ["act"]):
        model.blocks[0](torch.ones(6))
    with record(model, ["embed"]) as seen:
        model(tokens)
        model(tokens[:, :2])
    with pytest.raises(ValueError, match="positions of 'embed' must be as many in every run, or flattened"):
        seen["embed"]
    with (
        pytest.raises(ValueError, match="with at least one axis of positions, got \\(5, 6\\)"),
        record(model.blocks[0], ["inner"], positions=0),
    ):
        model.blocks[0](torch.ones(5, 6))
    assert n_hooks(model) == 0


def test_hidden_states_are_those_that_transformers_gives() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    for family, config, names in (
        ("BertModel", transformers.BertConfig(vocab_size=20, **sizes), ["embeddings", "encoder.layer.[0-9]"]),
        ("GPT2Model", transformers.GPT2Config(vocab_size=20, n_embd=8, n_layer=2, n_head=2), ["drop", "h.[0-9]"]),
    ):
        model = getattr(transformers, family)(config).eval()
        tokens = torch.randint(20, (3, 5), generator=torch.Generator().manual_seed(0))
        with torch.no_grad(), record(model, names) as seen:
            given = model(tokens, output_hidden_states=True).hidden_states
        last = 3 if family == "BertModel" else 2  # GPT-2 normalises what it gives last
        for h, expected in list(zip(seen.values(), given, strict=True))[:last]:
            assert torch.equal(h, expected)
