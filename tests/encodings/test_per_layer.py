"""An encoding for each layer: the pattern, what layers share and bring, and the model that they make."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo import GPT, GPTConfig, encodings, kernels
from extrapo.encodings import Composed, Encoding, LayerSpec
from extrapo.encodings.absolute import LearnedEmbedding, SinusoidalEmbedding
from extrapo.encodings.accumulated import ANGLES
from extrapo.encodings.core.compose import Embeddings
from extrapo.encodings.per_layer import Stack, layer_names, options_by_name, pattern
from extrapo.errors import UserError

HYBRID = "rope+window:3,nope:1"
V, T, WINDOW = 31, 20, 5


def stack(name: str, layers: int = 4, **more: Any) -> Stack:
    return Stack(name, LayerSpec(2, 8, 16, layers=layers, train_length=T, vocab_size=V), **more)


def build(name: str, layers: int = 4, **changes: Any) -> GPT:
    torch.manual_seed(0)
    shape = {"layers": layers, "heads": 2, "dim": 16, "vocab_size": V, "train_length": T}
    return GPT(GPTConfig(**shape | {"encoding": name} | changes)).eval()


def sample(batch: int = 2, length: int = T) -> Tensor:
    return torch.randint(0, V, (batch, length), generator=torch.Generator().manual_seed(1))


def part(encoding: Encoding, name: str) -> Any:
    """A part of a composition."""
    assert isinstance(encoding, Composed)
    return encoding.part(name)


def layers_of(model: GPT) -> list[Any]:
    return [block.attention.encoding for block in model.blocks]  # type: ignore[union-attr]


# -- the pattern -----------------------------------------------------------------------------------------------------

entries = st.tuples(st.sampled_from(["rope", "nope", "rope+k-cable", "t5"]), st.integers(1, 5))


@given(chosen=st.lists(entries, min_size=1, max_size=4), layers=st.integers(1, 40), blank=st.sampled_from(["", " "]))
def test_names_repeat_until_every_layer_has_one(chosen: list[tuple[str, int]], layers: int, blank: str) -> None:
    # A count of one may be left out.
    written = [name if count == 1 else f"{name}{blank}:{blank}{count}" for name, count in chosen]
    expected = [name for name, count in chosen for _ in range(count)]
    assert pattern(f"{blank},{blank}".join(written)) == expected
    if layers >= len(expected):
        names = layer_names(",".join(written), layers)
        assert names[: len(expected)] == expected
        assert len(names) == layers
        assert all(a == b for a, b in zip(names, names[len(expected) :], strict=False))


@pytest.mark.parametrize(
    "name",
    [
        *("rope:0", "rope:-1", "rope:x", "rope:1.5", "rope:", ":2", "rope,,nope", "rope,"),
        *("rope:100000", f"rope:{10**12}"),
    ],
)
def test_what_is_no_pattern(name: str) -> None:
    with pytest.raises(UserError, match="must be NAME or NAME:COUNT, COUNT at least 1") as refused:
        build(name)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "changes", "cause"),
    [
        (HYBRID, {"layers": 3}, "encoding 'rope.window:3,nope:1' names 4 layers, and the model has 3"),
        ("rope:1,nopee:1", {}, "unknown encoding 'nopee'; did you mean 'nope'"),
        ("rope:1,nope:1", {"kernel": "log"}, "encoding 'rope,nope' has no kernel to choose"),
        (HYBRID, {"encoding_options": {"base": 5e5}}, "options of layers that differ go by part .*, not 'base'"),
        (HYBRID, {"encoding_options": {"cable": {}}}, "go by part .rope, window, nope., not 'cable'"),
        (HYBRID, {"encoding_options": {"rope": {"bas": 1.0}}}, "'bas'"),
        ("randomized-rope:1,bipe-rope:1", {}, "'randomized' and 'bipe' both say where tokens stand: only one can"),
        ("cable+alibi:1,nope:1", {}, "'cable' and 'alibi' both bring a bias"),
    ],
)
def test_mistakes_are_told_in_a_line(name: str, changes: dict[str, Any], cause: str) -> None:
    with pytest.raises(UserError, match=cause) as refused:
        build(name, **changes)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["k-cable:1", "k-cable:3", "k-cable,k-cable", "k-cable:7"])
def test_a_pattern_of_one_name_is_that_name(name: str) -> None:
    one, other = build("k-cable"), build(name)
    tokens = sample()
    assert torch.equal(one(tokens), other(tokens))
    assert {n: p.shape for n, p in one.state_dict().items()} == {n: p.shape for n, p in other.state_dict().items()}
    # And its options are its own, not by part.
    assert build(name, encoding_options={"input": "head"}).num_parameters() < other.num_parameters()


# -- what layers are made of -----------------------------------------------------------------------------------------


def test_each_layer_knows_where_it_stands() -> None:
    made = stack("rope:2,k-cable:1", layers=7)
    assert [layer.spec.layer for layer in made.layers] == list(range(7))
    assert {layer.spec.layers for layer in made.layers} == {7}
    assert list(made.distinct) == ["rope", "k-cable"]
    assert len({id(layer) for layer in made.layers}) == 7


@given(chosen=st.lists(st.sampled_from(["tape", "tape+alibi", "nope", "randomized-tape"]), min_size=1, max_size=6))
@settings(max_examples=20, deadline=None)
def test_a_part_knows_which_layers_have_it(chosen: list[str]) -> None:
    """Alone, or in whatever composition."""
    made = zip(chosen, stack(",".join(chosen), layers=len(chosen)).layers, strict=True)
    parts = [dict(layer.members()) if isinstance(layer, Composed) else {name: layer} for name, layer in made]
    for name in {part for own in parts for part in own}:
        specs = [own[name].spec for own in parts if name in own]
        assert {spec.holders for spec in specs} == {len(specs)}
        assert [spec.is_first for spec in specs] == [n == 0 for n in range(len(specs))]
        assert [spec.is_last for spec in specs] == [n == len(specs) - 1 for n in range(len(specs))]


@pytest.mark.parametrize(
    ("share", "modules"), [(None, [0, 1, 0, 3, 0, 5]), (True, [0, 1] * 3), (False, list(range(6)))]
)
def test_layers_of_one_name_share_as_its_authors_do(share: bool | None, modules: list[int]) -> None:
    """T5 has one table for all layers that are T5's; k-cable has one each. Another choice goes for both."""
    made = stack("t5:1,k-cable:1", layers=6, share=share)
    first = [next(n for n, other in enumerate(made.layers) if other is layer) for layer in made.layers]
    assert first == modules
    model = build("t5:1,k-cable:1", layers=6, share_encoding=share)
    assert len({id(p) for layer in layers_of(model) for p in layer.parameters()}) == sum(
        len(list(made.layers[n].parameters())) for n in set(modules)
    )


def test_options_go_by_part() -> None:
    options = {"rope": {"base": 5e5}, "window": {"window": 3}, "alibi": {"learned": True}}
    made = stack("rope+window:1,rope:1,alibi:1", layers=3, options=options)
    assert part(made.layers[0], "rope").base == 5e5
    assert part(made.layers[0], "window").window == 3
    assert made.layers[1].base == 5e5
    assert list(made.layers[2].parameters())


def test_a_kernel_is_for_those_that_take_one() -> None:
    made: list[Any] = stack("cable:1,rope:1,rope+alibi:1", layers=3, kernel="log").layers
    log = kernels.get("log")
    assert isinstance(made[0].kernel, log)
    assert isinstance(part(made[2], "alibi").kernel, log)


@pytest.mark.parametrize("share", [None, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in encodings.names() if name != "head-scale"),
        *(("accumulated-rotation", {"angles": angles}) for angles in ANGLES),
        ("tape", {"mixing": "heads"}),
        ("randomized-tape", {}),
    ],
)
def test_no_parameter_is_idle_whichever_layers_have_the_part(
    name: str, options: dict[str, Any], share: bool | None
) -> None:
    """A process that trains one of several copies waits for the gradient of each. What serves several layers is made
    once, also for those whose encoding is another composition, and what a layer leaves is for one that reads it.
    """
    by_part = {name: options} if options else {}
    for hybrid in (f"{name}:1,nope:1", f"nope:1,{name}:1,{name}+head-scale:1", f"{name}+head-scale:1,{name}:2,nope:2"):
        model = build(hybrid, layers=len(pattern(hybrid)) + 1, encoding_options=by_part, share_encoding=share).train()
        model(sample(length=8)).logsumexp(-1).square().mean().backward()
        assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == [], hybrid


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tape:1,nope:1", {}),
        ("tape:1,tape+alibi:1,nope:1", {}),
        *(
            ("accumulated-rotation:1,accumulated-rotation+alibi:1", {"accumulated-rotation": {"angles": angles}})
            for angles in ("pmlp", "rpemb", "lf", "fsr", "codebook")
        ),
    ],
)
def test_weights_that_never_had_a_gradient_are_forgotten(name: str, options: dict[str, Any]) -> None:
    """A checkpoint in which every layer but the model's last, or every composition, has weights of its own."""
    model, tokens = build(name, encoding_options=options), sample()
    wanted, old = model(tokens), dict(model.state_dict())
    names, spec = layer_names(name, 4), layers_of(model)[0].spec
    own = options_by_name(names, None, options)
    for layer, one in enumerate(names):
        # As if it were the first of several layers: with all weights that there may be.
        peers = dict.fromkeys(encodings.split(one), (layer, layer + 1))
        whole = encodings.build(one, replace(spec, layer=layer), peers=peers, **own[one])
        for key, weight in whole.state_dict().items():
            old.setdefault(f"blocks.{layer}.attention.encodings.0.{key}", weight)
    assert len(old) > len(model.state_dict())
    model.load_state_dict(old)
    assert torch.equal(model(tokens), wanted)


# -- what layers bring to the bottom of the model --------------------------------------------------------------------


def test_embeddings_come_from_any_layer_and_are_added_once() -> None:
    model = build("rope:1,sinusoidal:2", layers=6)
    assert isinstance(model.positions[0], SinusoidalEmbedding)
    both = build("learned+rope:1,sinusoidal:1")
    assert isinstance(both.positions[0], Embeddings)
    assert [type(one) for one in both.positions[0].parts] == [LearnedEmbedding, SinusoidalEmbedding]
    tokens = sample()
    with torch.no_grad():
        expected = both.embedding(tokens)
        for one in both.positions[0].parts:
            expected = expected + one(torch.zeros_like(expected), both.context(tokens)[0])
        torch.testing.assert_close(both.embed(tokens, both.context(tokens)[0]), expected)
    assert isinstance(build("rope:1,nope:1").positions[0], torch.nn.Identity)


def test_positions_come_from_any_layer() -> None:
    """Layers without a source of their own stand where the model's one says."""
    for name in ("nope:1,bipe-rope:1", "bipe-rope:1,alibi:1", "bipe-rope:1,bipe-alibi:1"):
        tokens = sample()
        (alone, _), (hybrid, _) = build("bipe-rope").context(tokens), build(name).context(tokens)
        assert torch.equal(alone.index, hybrid.index)
        assert alone.offset is not None
        assert hybrid.offset is not None
        assert torch.equal(alone.offset, hybrid.offset)
    assert isinstance(build("rope:1,nope:1").sources[0], torch.nn.Identity)


# -- the model -------------------------------------------------------------------------------------------------------


def test_biases_of_each_layer_are_its_own() -> None:
    model = build(HYBRID, layers=8, encoding_options={"window": {"window": WINDOW}})
    i, j = torch.arange(T).unsqueeze(-1), torch.arange(T)
    for layer, bias in enumerate(model.biases(sample())):
        seen = (j <= i) if layer % 4 == 3 else (j <= i) & (i - j < WINDOW)
        assert bias.shape == (2, 2, T, T)
        assert torch.equal(bias == 0, seen.expand_as(bias)), layer
        assert torch.equal(bias.isneginf(), ~seen.expand_as(bias)), layer


def test_biases_of_a_learned_layer_among_others() -> None:
    model = build("nope:1,k-cable:1,cope:1", layers=3)
    with torch.no_grad():
        # It starts at zero.
        for parameter in layers_of(model)[2].parameters():
            parameter.fill_(0.3)
    zero, learned, own = model.biases(sample())
    seen = torch.ones(T, T, dtype=torch.bool).tril()
    assert not zero[..., seen].any()
    assert (learned[..., seen] <= 0).all()
    assert learned[..., seen].any()
    assert own[..., seen].any()


def test_a_window_reaches_through_the_layers_that_have_one() -> None:
    """With w tokens in each of 2 layers, no token further back than 2 (w - 1) is heard; one layer of nope hears all."""
    tokens = sample(1)
    changed = tokens.clone()
    changed[0, 0] = (changed[0, 0] + 1) % V
    options = {"window": {"window": WINDOW}}
    for name, heard in (("rope+window:2", False), ("rope+window:1,nope:1", True)):
        model = build(name, layers=2, encoding_options=options).double()
        off = (model(changed) - model(tokens)).abs().amax((0, 2))
        assert bool((off[2 * (WINDOW - 1) + 1 :] > 1e-9).any()) == heard


def test_each_layer_is_served_on_its_own() -> None:
    tokens = sample()
    model = build(HYBRID)
    windowed, plain = model.choices(tokens)[0], model.choices(tokens)[3]
    assert windowed in [model.choices(tokens)[n] for n in (1, 2)]
    assert plain == build("nope").choices(tokens)[0]
    assert windowed != plain


DECODED = [
    "rope+window:3,nope:1",
    "k-cable:1,nope:1",
    "path:1,rope+window:2",
    "t5:1,cope:1",
    "bipe-rope:1,alibi:1",
    "tape:1,cable-weighted:1",
    "tape:1,nope:1,tape+alibi:1",
    "accumulated-rotation:1,accumulated-rotation+alibi:1",
    "nope:1,rope:2,sinusoidal:1",
]


@pytest.mark.parametrize("name", DECODED)
@given(cuts=st.sets(st.integers(1, T - 1), max_size=5))
@settings(max_examples=4, deadline=None)
def test_decoding_is_the_parallel_pass(name: str, cuts: set[int]) -> None:
    options = {"window": {"window": WINDOW}} if "window" in name else {}
    model, tokens = build(name, encoding_options=options).double(), sample()
    state, parts = model.start(batch_size=2), []
    for begin, end in pairwise([0, *sorted(cuts), T]):
        logits, state = model.step(tokens[:, begin:end], state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), rtol=1e-9, atol=1e-9)


def test_weights_load_by_layer() -> None:
    first, second = build(HYBRID), build(HYBRID, encoding_options={"rope": {"learned": True}})
    assert first.state_dict().keys() < second.state_dict().keys()
    again = build("k-cable:1,nope:1")
    names = [name for name in again.state_dict() if "encoding" in name]
    assert {name.split(".")[1] for name in names} == {"0", "2"}


def test_layers_that_differ_may_take_over_from_one_that_does_not() -> None:
    """DroPE: rope everywhere, then nope in some layers."""
    model = build("rope", swap_to="rope:3,nope:1")
    tokens = sample()
    before = model(tokens)
    assert torch.equal(before, build("rope")(tokens))
    model.swap()
    torch.testing.assert_close(model(tokens), build("rope:3,nope:1")(tokens))
    assert not torch.equal(model(tokens), before)
