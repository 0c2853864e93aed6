"""Encoding: `encode` calls transform, bias and bind once each per pass, and what it keeps grows by the new tokens."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from extrapo import GPT, GPTConfig, encodings
from extrapo.attention import attend, attend_under
from extrapo.attention.reference import Reference
from extrapo.encodings import (
    Bias,
    Composed,
    Context,
    Encoding,
    LayerSpec,
    LayerState,
    NoBias,
    Rowwise,
    Transformed,
    distance_bias,
    index_positions,
)
from extrapo.encodings.core.encoding import encodings as registry
from extrapo.encodings.core.encoding import unchanged
from extrapo.errors import UserError
from extrapo.kernels import Linear

HEADS, HEAD_DIM, DIM, T = 2, 8, 16, 12

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in encodings.names()),
    ("rope+k-cable", {}),
    ("path+k-cable", {}),
    ("path", {"qk_norm": True}),
    ("bam", {"ssmax": "inside"}),
    ("adaptive", {"alpha_mode": "const"}),
    ("rope+alibi", {}),
    ("window+grape-a-qk", {}),
    ("window+cable", {"window": {"window": 4}}),
    ("dape", {"host": "cable"}),
    ("stick-breaking+alibi", {}),
]
EVERY = pytest.mark.parametrize(("name", "options"), VARIANTS)


def layer(name: str, options: dict[str, Any]) -> Encoding:
    torch.manual_seed(0)
    made = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM, train_length=64, **options)
    return made.double().eval()


def draw() -> tuple[Tensor, Tensor]:
    """x (B, T, D); q, k, v."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, T, DIM, generator=generator, dtype=torch.float64)
    return x, torch.randn(3, 2, HEADS, T, HEAD_DIM, generator=generator, dtype=torch.float64)


# -- one caller ------------------------------------------------------------------------------------------------------


def parts(made: Encoding) -> list[Encoding]:
    return [part for _, part in made.members()] if isinstance(made, Composed) else [made]


@EVERY
@pytest.mark.parametrize("past", [0, T - 3])
def test_each_is_called_once_per_pass(
    name: str, options: dict[str, Any], past: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every class in play: transform and bias of each part, bind of the bias and of what it is made of."""
    made, calls = layer(name, options), Counter[str]()

    def counted(cls: type, method: str) -> None:
        original, depth = vars(cls)[method], 0

        def call(self: Any, *args: Any, **more: Any) -> Any:
            nonlocal depth
            # A class that asks its parent is one call.
            depth += 1
            calls[f"{method} of {id(self)}"] += depth == 1
            try:
                return original(self, *args, **more)
            finally:
                depth -= 1

        monkeypatch.setattr(cls, method, call)

    (x, qkv), state = draw(), None
    if past:
        state = made.encode(*qkv[:, :, :, :past], x=x[:, :past]).state
    for part in {type(one) for one in [made, *parts(made)]}:
        for method in ("transform", "bias"):
            if method in vars(part):
                counted(part, method)
    bound: list[type] = [cls for cls in subclasses(Bias) if "bind" in vars(cls)]
    for cls in bound:
        counted(cls, "bind")
    made.encode(*qkv[:, :, :, past:], x=x[:, past:], state=state)
    assert set(calls.values()) <= {1}
    turners = sum("transform" in vars(type(part)) for part in parts(made))
    assert sum("transform" in call for call in calls) >= turners
    assert sum("bind" in call for call in calls) >= 1


def subclasses(cls: type) -> set[type]:
    found = set(cls.__subclasses__())
    return {cls, *found, *(deeper for one in found for deeper in subclasses(one))}


@dataclass(frozen=True)
class Plain(Rowwise):
    """Logits as they are; says when it is bound."""

    inner: Bias
    log: list[str]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.inner.shape

    def bind(self, q: Tensor, k: Tensor) -> Bias:
        self.log.append(f"bind {q.size(2)} {k.size(2)}")
        return replace(self, inner=self.inner.bind(q, k))

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        return scale * q @ k.mT

    def rewrite_keys(self, k: Tensor) -> Tensor:
        self.log.append(f"rewrite {k.size(2)}")
        return k


class Noted(Encoding):
    """Writes down what it is asked."""

    bias_kind = "owns"

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.log: list[str] = []

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        self.log.append(f"transform {q.size(2)} at {int(context.index[0, 0, 0])} after {state}")
        return Transformed(q, k, v, (state or 0) + q.size(2))

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        before = 0 if past is None else past.shape[-1]
        self.log.append(f"bias {x.size(1)} after {before}")
        return Plain(NoBias(self.heads, x.size(1), before + x.size(1), x.device), self.log)


def test_the_order_of_a_pass_and_of_the_next() -> None:
    made, (x, qkv) = Noted(LayerSpec(HEADS, HEAD_DIM, DIM)), draw()
    first = made.encode(*qkv[:, :, :, :5], x=x[:, :5])
    assert made.log == ["transform 5 at 0 after None", "bias 5 after 0", "bind 5 5"]
    made.log.clear()
    made.encode(*qkv[:, :, :, 5:7], x=x[:, 5:7], state=first.state)
    assert made.log == ["transform 2 at 5 after 5", "bias 2 after 5", "rewrite 5", "bind 2 7"]


def test_a_model_asks_each_layer_once() -> None:
    registry._classes["noted"] = Noted
    try:
        model = GPT(GPTConfig(encoding="noted", layers=2, heads=2, dim=16, vocab_size=11))
    finally:
        del registry._classes["noted"]
    model(torch.zeros(1, 6, dtype=torch.int64))
    for block in model.blocks:
        log = block.attention.encoding.log  # type: ignore[union-attr]
        assert [line.split()[0] for line in log] == ["transform", "bias", "bind"]


def test_nobody_may_put_the_steps_together_otherwise() -> None:
    assert getattr(Encoding.encode, "__final__", False)
    for name in encodings.names():
        for part in encodings.split(name):
            assert encodings.get(part).encode is Encoding.encode


# -- what it gives ---------------------------------------------------------------------------------------------------


@EVERY
@given(cuts=st.sets(st.integers(1, T - 1), max_size=4))
@settings(max_examples=3, deadline=None)
def test_what_is_kept_grows_by_the_new_tokens(name: str, options: dict[str, Any], cuts: set[int]) -> None:
    """And in steps the outputs are those of one pass."""
    made, (x, qkv) = layer(name, options), draw()
    edges = [0, *sorted(cuts), T]
    state: LayerState | None = None
    outs = []
    with torch.no_grad():
        for begin, end in pairwise(edges):
            q, k, v, bias, state, output = made.encode(*qkv[:, :, :, begin:end], x=x[:, begin:end], state=state)
            assert bias.shape[1:] == (HEADS, end - begin, end)
            assert (q.size(2), k.size(2), v.size(2)) == (end - begin, end, end)
            assert state.keys.length == state.values.length == end
            assert state.keys.tokens is not None
            assert all(kept.shape[-1] == end for kept in state.biases.values())
            outs.append(output(Reference()(q, k, v, bias, scale=0.3)))
            assert outs[-1].shape == (2, HEADS, end - begin, HEAD_DIM)
        q, k, v, bias, _, output = made.encode(*qkv, x=x)
        whole = output(Reference()(q, k, v, bias, scale=0.3))
    if "decoding" not in made.exemptions():
        torch.testing.assert_close(torch.cat(outs, dim=2), whole, rtol=1e-8, atol=1e-9)


@EVERY
def test_a_layer_is_whole_once_it_is_built(name: str, options: dict[str, Any]) -> None:
    """A pass adds no parameter and no buffer, and asks nothing of another layer."""
    made, (x, qkv) = layer(name, options), draw()
    before = {n: t.clone() for n, t in made.state_dict().items()}
    made.encode(*qkv, x=x)
    after = made.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[n], after[n]) for n in before)


@EVERY
def test_without_a_context_tokens_stand_at_0_1_2(name: str, options: dict[str, Any]) -> None:
    made, (x, qkv) = layer(name, options), draw()
    with torch.no_grad():
        found = [made.encode(*qkv, x=x, context=context) for context in (None, Context.plain(x))]
        outs = [one.output(Reference()(one.q, one.k, one.v, one.bias, scale=0.3)) for one in found]
    assert torch.equal(*outs)


# -- what a class says of itself -------------------------------------------------------------------------------------


def test_kinds_are_seen_from_what_a_class_has() -> None:
    class Adds(Encoding):
        def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
            return super().bias(x, past, context)

    class Wraps(Encoding):
        def wrap(self, bias: Bias, x: Tensor, context: Context | None) -> Bias:
            return bias

    class Turns(Encoding):
        def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
            return Transformed(q, k, v)

    class Owns(Adds):
        bias_kind = "owns"

        def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
            return super().bias(x, past, context)

    class Heir(Turns):
        pass

    kinds = [(cls.bias_kind, cls.query_key) for cls in (Encoding, Adds, Wraps, Turns, Owns, Heir)]
    assert kinds == [
        ("none", "untouched"),
        ("adds", "untouched"),
        ("wraps", "untouched"),
        ("none", "rotated"),
        ("owns", "untouched"),
        ("none", "rotated"),
    ]


class Slope:
    """A bias that several schemes share, and no encoding by itself."""

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        assert isinstance(self, Encoding)
        queries = index_positions(x, past, context)
        return distance_bias(Linear(self.heads, trainable=False), queries, past, x=x, heads=self.heads)


def test_what_a_mixin_brings_counts() -> None:
    class Turns:
        def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
            return Transformed(-q, k, v)

    class Mixed(Slope, Turns, Encoding):
        pass

    class Below(Mixed):
        pass

    class Overruled(Encoding, Slope):  # type: ignore[misc]
        pass

    for cls in (Mixed, Below):
        assert (cls.bias_kind, cls.query_key) == ("adds", "rotated")
        assert cls.own_steps == {"bias", "transform"}
        made, x = cls(LayerSpec(HEADS, HEAD_DIM, DIM)), torch.zeros(1, 4, DIM)
        assert made.bias(x).left_out == {"transform"}
    assert (Overruled.bias_kind, Overruled.own_steps) == ("none", frozenset())
    registry._classes["mixed"] = Mixed
    try:
        composed = layer("rope+mixed", {})
    finally:
        del registry._classes["mixed"]
    x = torch.randn(1, 4, DIM, dtype=torch.float64)
    assert torch.equal(composed.bias(x).dense(), made.bias(x).dense())
    assert composed.bias(x).dense()[0, 0, 3, 0] < 0


def test_a_class_that_contradicts_itself_is_not_registered() -> None:
    class Both(Slope, Encoding):
        def wrap(self, bias: Bias, x: Tensor, context: Context | None) -> Bias:
            return bias

    class Wrapping(Slope, Encoding):
        bias_kind = "wraps"

    class Owning(Encoding):
        bias_kind = "owns"

    class Turning(Encoding):
        query_key = "wider"

    class Unmade(Encoding):
        def __init__(self) -> None:
            pass

    class Needing(Encoding):
        def __init__(self, spec: LayerSpec, *, width: int) -> None:
            super().__init__(spec)

    for cls, cause in (
        (Unmade, "is not made by"),
        (Needing, "is not made by"),
        (Both, "has both `bias` and `wrap`"),
        (Wrapping, "says bias_kind = 'wraps' and has no `wrap`"),
        (Owning, "says bias_kind = 'owns' and has no `bias`"),
        (Turning, "says query_key = 'wider' and has no `transform`"),
    ):
        with pytest.raises(UserError, match=f"encoding 'mine': {cls.__name__} {cause}") as refused:
            registry.register("mine")(cls)
        assert "\n" not in str(refused.value)
        assert "mine" not in registry


# -- what a bias by itself leaves out --------------------------------------------------------------------------------


@EVERY
def test_a_bias_by_itself_is_all_of_its_scheme_or_is_refused(name: str, options: dict[str, Any]) -> None:
    """Also once it is another value of the same: with other fields, other tensors, or q and k known."""
    made, (x, (q, k, v)) = layer(name, options), draw()
    with torch.no_grad():
        bias = made.bias(x)
        assert bias.left_out - {"bind"} == made.besides_bias()
        bound = bias.bind(q, k)
        assert bound.left_out == made.besides_bias()
        for one in (bias, replace(bias), bias.rebuilt(bias.tensors()), bound):
            if one.left_out:
                with pytest.raises(UserError, match=r"a part of its scheme.*attend_under does all of it") as refused:
                    attend(q, k, v, one, scale=0.3)
                assert "\n" not in str(refused.value)
            else:
                whole = attend_under(made, q, k, v, x=x, context=Context.plain(x), scale=0.3)
                torch.testing.assert_close(attend(q, k, v, one, scale=0.3), whole, rtol=1e-9, atol=1e-9)
        assert made.encode(q, k, v, x=x).bias.left_out == frozenset()


@pytest.mark.parametrize("name", ["path", "window+path", "stick-breaking+path", "path+k-cable", "sinks+path+fox"])
def test_logits_that_need_all_keys_are_not_there_before_these(name: str) -> None:
    made, (x, (q, k, _)) = layer(name, {}), draw()
    bias = made.bias(x)
    assert "bind" in bias.left_out
    assert bias.needs_binding
    assert not bias.bind(q, k).needs_binding


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("path", {"qk_norm": False}),
        ("grape-ap", {"qk_norm": False}),
        ("bam", {"ssmax": "off"}),
        ("adaptive", {"alpha_mode": "log"}),
        ("dape", {"host": "none"}),
    ],
)
def test_a_step_that_an_option_leaves_idle_is_not_missed(name: str, options: dict[str, Any]) -> None:
    made, (x, (q, k, v)) = layer(name, options), draw()
    assert "transform" in made.own_steps
    assert made.besides_bias() == frozenset()
    transformed = made.transform(q, k, v, x=x, context=Context.plain(x), state=None)
    assert transformed[:3] == (q, k, v)


def test_one_that_says_nothing_does_nothing() -> None:
    made, (x, (q, k, v)) = Encoding(LayerSpec(HEADS, HEAD_DIM, DIM)), draw()
    found = made.encode(q, k, v, x=x)
    assert found.q is q
    assert torch.equal(found.k, k)
    assert torch.equal(found.v, v)
    assert found.bias == NoBias(HEADS, T, T, x.device)
    assert found.output is unchanged
    assert (made.source(), made.embedding(), made.exemptions()) == (None, None, {})
    assert (made.heads, made.head_dim, made.dim) == (HEADS, HEAD_DIM, DIM)


def test_what_a_layer_brings_is_new_each_time() -> None:
    """A model takes one; the encoding itself keeps no module of it, and its weights stay out of the layer's."""
    for name in ("sinusoidal", "learned", "randomized", "bipe"):
        made = layer(name, {})
        for make in (made.source, made.embedding):
            first, second = make(), make()
            assert (first is None) == (second is None)
            if first is not None:
                assert isinstance(first, nn.Module)
                assert first is not second
                assert not {id(p) for p in first.parameters()} & {id(p) for p in made.parameters()}
