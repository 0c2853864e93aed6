"""The backbone: its size, its start, its options, its biases, and decoding with explicit state."""

from __future__ import annotations

import cmath
import math
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from extrapo import GPT, GPTConfig, attention, encodings
from extrapo.attention import Choice
from extrapo.config import RunConfig
from extrapo.encodings import Encoded, Encoding
from extrapo.errors import UserError

V, T = 37, 20


def build(**changes: Any) -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(**{"vocab_size": V, "layers": 2, "heads": 2, "dim": 16, "train_length": T} | changes)).eval()


def sample(batch: int = 2, length: int = T) -> Tensor:
    return torch.randint(0, V, (batch, length), generator=torch.Generator().manual_seed(1))


def block(model: GPT, layer: int) -> Any:
    """A block, as the untyped thing that nn.ModuleList holds."""
    return model.blocks[layer]


@pytest.mark.parametrize(("preset", "millions"), [("tiny", 44.6), ("small", 123.6), ("medium", 353.5)])
def test_sizes_of_the_papers(preset: str, millions: float) -> None:
    shipped = yaml.safe_load((Path(__file__).parents[1] / "conf" / f"{preset}.yaml").read_text())
    with torch.device("meta"):
        model = GPT(RunConfig(**shipped, encoding="nope").resolved().gpt(shipped["vocab_size"]))
    assert model.num_parameters() == pytest.approx(millions * 1e6, rel=2e-3)


def test_starts_as_gpt2() -> None:
    model = build(layers=8, dim=128, heads=4, vocab_size=512)
    stds = {
        name: float(p.detach().std()) for name, p in model.named_parameters() if p.dim() == 2 and "encoding" not in name
    }
    residual = {name for name in stds if name.endswith(("attention.out.weight", "mlp.out.weight"))}
    assert len(residual) == 16
    for name, std in stds.items():
        assert std == pytest.approx(0.02 / math.sqrt(16) if name in residual else 0.02, rel=0.05), name
    for name, parameter in model.named_parameters():
        if name.endswith("bias") and "encoding" not in name:
            assert not parameter.any(), name
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all()


def test_tied_weights_are_one_tensor_and_count_once() -> None:
    tied, untied = build(), build(tied=False)
    assert tied.unembedding.weight is tied.embedding.weight
    assert untied.unembedding.weight is not untied.embedding.weight
    assert untied.num_parameters() - tied.num_parameters() == V * 16
    untied.embedding.requires_grad_(False)
    assert untied.num_parameters() == tied.num_parameters()


@pytest.mark.parametrize("changes", [{"norm": "rmsnorm"}, {"mlp": "swiglu"}, {"tied": False}, {"bias": False}])
def test_options_run_and_train(changes: dict[str, Any]) -> None:
    model = build(**changes)
    logits = model(sample())
    assert logits.shape == (2, T, V)
    logits.logsumexp(-1).mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_without_biases() -> None:
    names = [name for name, _ in build(bias=False, encoding="nope").named_parameters()]
    assert not [name for name in names if name.endswith("bias")]


def test_rmsnorm_does_not_centre() -> None:
    # A constant added to every dimension vanishes in a layer norm and not in an RMS norm.
    x = torch.randn(1, 3, 16)
    for norm, vanishes in (("layernorm", True), ("rmsnorm", False)):
        model = build(norm=norm)
        assert torch.allclose(model.norm(x), model.norm(x + 3.0), atol=1e-5) == vanishes


def test_swiglu_is_as_large_as_gelu_and_gated() -> None:
    sizes = [build(dim=768, heads=12, mlp=mlp, layers=1).num_parameters() for mlp in ("gelu", "swiglu")]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.01)
    mlp = block(build(mlp="swiglu"), 0).mlp
    x = torch.randn(1, 3, 16)
    gate, value = mlp.up(x).chunk(2, dim=-1)
    torch.testing.assert_close(mlp(x), mlp.out(gate * torch.sigmoid(gate) * value))


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValidationError, match="7 heads do not divide the width 512; 8 would"):
        GPTConfig(heads=7, dim=512)


def test_logit_scale_is_used() -> None:
    # Halving the queries' weights and doubling the scale changes nothing; doubling the scale alone does.
    plain, scaled = build(encoding="nope"), build(encoding="nope", logit_scale=2 / math.sqrt(8))
    tokens = sample()
    assert not torch.allclose(plain(tokens), scaled(tokens), atol=1e-5)
    with torch.no_grad():
        for layer in range(2):
            block(scaled, layer).attention.qkv.weight[:16] *= 0.5
    torch.testing.assert_close(plain(tokens), scaled(tokens), rtol=1e-5, atol=1e-6)


def test_dropout_only_in_training() -> None:
    model, tokens = build(dropout=0.5), sample()
    assert torch.equal(model(tokens), model(tokens))
    model.train()
    assert not torch.equal(model(tokens), model(tokens))


@pytest.mark.parametrize("shape", [(5,), (2, 0), (1, 2, 3)])
def test_tokens_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"tokens must be \(batch, length\) with at least one token"):
        build()(torch.zeros(shape, dtype=torch.int64))


DECODED = ["cable-weighted", "rope+k-cable", "adaptive", "sinusoidal"]


@cache
def decoded(encoding: str) -> tuple[GPT, Tensor]:
    """A model in float64, so that only a mistake can show, and its logits in one pass."""
    model = build(encoding=encoding).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        return model, model(sample())


@pytest.mark.parametrize("encoding", DECODED)
@given(cuts=st.sets(st.integers(1, T - 1)))
@example(cuts=set(range(1, T)))
@settings(max_examples=15, deadline=None)
def test_decoding_in_chunks_equals_one_pass(encoding: str, cuts: set[int]) -> None:
    model, expected = decoded(encoding)
    edges = [0, *sorted(cuts), T]
    state, parts = model.start(batch_size=2), []
    for begin, end in pairwise(edges):
        logits, state = model.step(sample()[:, begin:end], state)
        parts.append(logits)
        assert state.length == end
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("encoding", DECODED)
def test_a_state_can_be_used_twice(encoding: str) -> None:
    model, _ = decoded(encoding)
    tokens = sample()
    _, state = model.step(tokens[:, :5], model.start(batch_size=2))
    first, after = model.step(tokens[:, 5:8], state)
    model.step(tokens[:, 9:12], state)
    model.step(tokens[:, 12:13], after)
    again, _ = model.step(tokens[:, 5:8], state)
    assert torch.equal(first, again)
    assert state.length == 5


def test_a_state_of_another_batch() -> None:
    model, _ = decoded("sinusoidal")
    with pytest.raises(UserError, match="the state is for a batch of 1, the tokens are 2"):
        model.step(sample(), model.start(batch_size=1))
    with pytest.raises(UserError, match="at least one token"):
        model.step(sample()[:, :0], model.start(batch_size=2))


@torch.no_grad()
def test_biases_of_a_scheme_that_owns_its_logits() -> None:
    """Logit minus s q.k, pair by pair from the paper's formula, on the input that the layer really has."""
    model, tokens = decoded("adaptive")[0], sample(1, 5)
    x = model.embedding(tokens)
    for layer, got in enumerate(model.biases(tokens)):
        attention = block(model, layer).attention
        encoding = attention.encoding
        q, k, _ = attention.project(block(model, layer).attention_norm(x))
        delta, beta, gamma = encoding.kernel.values()
        for h in range(2):
            for i in range(5):
                for j in range(i + 1):
                    n = i - j
                    alpha = 1 + float(encoding.stretch()[h]) * math.log(1 + n)
                    rotated = 0.0
                    for c in range(4):
                        a = complex(q[0, h, i, c], q[0, h, i, c + 4])
                        b = complex(k[0, h, j, c], k[0, h, j, c + 4])
                        rotated += (a * b.conjugate() * cmath.exp(1j * n / alpha * 10_000 ** (-c / 4))).real
                    bias = -float(delta[h]) * n - float(beta[h]) * math.log(1 + n) - float(gamma[h]) * math.sqrt(n)
                    logit = rotated / math.sqrt(8) / (1 + float(encoding.damping()[h]) * n) + bias
                    plain = float(q[0, h, i] @ k[0, h, j]) / math.sqrt(8)
                    assert float(got[0, h, i, j]) == pytest.approx(logit - plain, abs=1e-5)
        x, _ = block(model, layer)(x, model.context(tokens)[0])


def test_biases_are_those_of_the_real_inputs() -> None:
    model, tokens = decoded("cable-weighted")[0], sample(2, 6)
    seen: list[Tensor] = []
    hooks = [
        block(model, layer).attention.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        for layer in (0, 1)
    ]
    model(tokens)
    for hook in hooks:
        hook.remove()
    for layer, got in enumerate(model.biases(tokens)):
        expected = block(model, layer).attention.encoding.bias(seen[layer]).dense()
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", [*encodings.names(), "path+k-cable"])
def test_biases_are_looked_at_on_the_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one encoding step a layer, which is that of the output too: what is random is drawn once."""
    steps: list[Encoded] = []
    encode = Encoding.encode

    def counted(self: Encoding, *args: Any, **options: Any) -> Encoded:
        steps.append(encode(self, *args, **options))
        return steps[-1]

    monkeypatch.setattr(Encoding, "encode", counted)
    model = build(encoding=name)
    biases = model.biases(sample())
    assert len(steps) == len(biases) == 2
    for step, got in zip(steps, biases, strict=True):
        assert got.shape == (2, 2, T, T)
        if step.bias.additive:
            torch.testing.assert_close(got, step.bias.dense().expand_as(got))


def test_says_what_serves_each_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {one.name: one for one in attention.BACKENDS}
    monkeypatch.setattr(attention, "BACKENDS", tuple(named[name] for name in ("decode", "fold", "tiles", "reference")))
    tokens = sample()
    assert [choice.impl for choice in build(encoding="rope+k-cable").choices(tokens)] == ["tiles", "tiles"]
    assert [choice.impl for choice in build(encoding="k-cable:1,alibi:1").choices(tokens)] == ["tiles", "fold"]
    assert build(encoding="alibi").choices(tokens[:, :1])[0].impl == "decode"
    asked = Choice(named["reference"], "asked for")
    assert build(encoding="alibi", impl="reference").choices(tokens) == [asked, asked]
    with pytest.raises(UserError, match="impl 'fold' cannot serve here: the bias has full rank; use 'auto'"):
        build(encoding="k-cable", impl="fold").choices(tokens)


def test_what_serves_may_differ_between_training_and_evaluation() -> None:
    """FlexAttention has no backward pass on a CPU."""
    model = build(encoding="k-cable", impl="flex")
    with torch.no_grad():
        assert {choice.impl for choice in model.choices(sample())} == {"flex"}
    with pytest.raises(UserError, match="no backward pass on a CPU"):
        model.choices(sample())


def test_a_name_of_no_back_end() -> None:
    with pytest.raises(UserError, match="unknown impl 'tile'; did you mean 'tiles'"):
        build(impl="tile")


@pytest.mark.parametrize("encoding", ["alibi", "cable-weighted", "rope", "k-cable", "cope"])
def test_all_back_ends_give_one_model(encoding: str) -> None:
    tokens = sample()
    expected = build(encoding=encoding, impl="reference")(tokens)
    for impl in ("auto", "tiles"):
        torch.testing.assert_close(build(encoding=encoding, impl=impl)(tokens), expected, rtol=1e-4, atol=1e-5)
