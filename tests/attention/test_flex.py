"""Flex: blocks are those that are seen, the formula of one pair is the tile's, and the kernel is the specification."""

from __future__ import annotations

from functools import wraps
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.utils import counters
from torch.nn.attention import flex_attention as flex_attention_module
from torch.nn.attention.flex_attention import create_mask

from extrapo import attention, encodings
from extrapo.attention import Choice, Verdict, attend, choose, flex
from extrapo.attention.flex import Flex, block_mask, score_modification
from extrapo.attention.reference import Reference
from extrapo.encodings import Elementwise, Encoding, Visibility
from extrapo.encodings.core.encoding import Encoded
from extrapo.errors import UserError

HEADS, HEAD_DIM, DIM = 2, 16, 32
CPU = torch.device("cpu")

compiles = [
    pytest.mark.slow,
    pytest.mark.skipif(" " in torch.__file__, reason="torch's compiler does not quote the path of its own headers"),
]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def layer(name: str, dtype: torch.dtype = torch.float64, seed: int = 0, **options: Any) -> Encoding:
    torch.manual_seed(seed)
    made = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM, **options).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made.eval()


def encoded(made: Encoding, x: Tensor, qkv: Tensor, past: int = 0) -> Encoded:
    """What the tokens after `past` others give."""
    state = made.encode(*qkv[:, :, :, :past], x=x[:, :past]).state if past else None
    return made.encode(*qkv[:, :, :, past:], x=x[:, past:], state=state)


def serves(name: str) -> bool:
    with torch.no_grad():
        q, k, _, bias, *_ = layer(name).encode(*draw(3, 1, HEADS, 3, HEAD_DIM), x=draw(1, 3, DIM))
        return bool(Flex().serves(bias, q, k))


SERVED = [name for name in encodings.names() if serves(name)]

# -- the blocks ------------------------------------------------------------------------------------------------------


def pairs(queries: int, keys: int, seen: Visibility | None) -> Tensor:
    """(T, S) bool, pair by pair from the definition."""
    found = torch.zeros(queries, keys, dtype=torch.bool)
    for i in range(queries):
        place = i + keys - queries
        for j in range(place + 1):
            found[i, j] = seen is None or place - j < seen.window or j < seen.sinks
    return found


def dense(counts: Tensor | None, order: Tensor | None) -> Tensor:
    """(rows, columns) bool of what a BlockMask lists."""
    assert counts is not None
    assert order is not None
    listed = torch.arange(order.size(-1)) < counts.unsqueeze(-1)
    return torch.zeros_like(listed).scatter(-1, order.long(), listed)[0, 0]


@given(
    st.integers(1, 40),
    st.integers(0, 30),
    st.none() | st.builds(Visibility, st.integers(1, 60), st.integers(0, 20)),
)
@example(32, 8, Visibility(9, 3))
@settings(deadline=None)
def test_no_pair_that_is_seen_is_left_out_and_none_is_added(queries: int, past: int, seen: Visibility | None) -> None:
    # A smaller square, so that few pairs make many blocks.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flex, "SIZE", 8)
        keys = queries + past
        made = block_mask.__wrapped__(queries, keys, seen, CPU)
        expected = pairs(queries, keys, seen)
        assert torch.equal(create_mask(made.mask_mod, 1, 1, queries, keys, "cpu")[0, 0], expected)
        whole, some = dense(made.full_kv_num_blocks, made.full_kv_indices), dense(made.kv_num_blocks, made.kv_indices)
        assert not (whole & some).any()
        squares = torch.nn.functional.pad(expected, (0, -keys % 8, 0, -queries % 8)).unflatten(-1, (-1, 8))
        squares = squares.unflatten(0, (-1, 8)).transpose(1, 2)
        any_seen, all_seen = squares.flatten(-2).any(-1), squares.flatten(-2).all(-1)
        assert not (any_seen & ~(whole | some)).any()
        assert not (whole & ~all_seen).any()
        if seen is None or not seen.sinks:
            # Nothing is visited in vain; where sinks end within a block, one may be.
            assert torch.equal(whole | some, any_seen)
            assert torch.equal(whole, all_seen)


def test_a_long_text_needs_no_matrix_of_its_pairs() -> None:
    """65,536 tokens are 512 x 512 blocks; the pairs would be four thousand million. They are made once."""
    made = block_mask(2**16, 2**16, Visibility(1000, 4), CPU)
    # Per row of blocks the window, and the block of the sinks.
    assert int((made.kv_num_blocks + made.full_kv_num_blocks).max()) == 1000 // 128 + 2 + 1
    assert block_mask(2**16, 2**16, Visibility(1000, 4), CPU) is made


# -- the formula of one pair -----------------------------------------------------------------------------------------


def test_who_has_a_formula_of_one_pair() -> None:
    assert {"nope", "rope", "alibi", "cable", "cable-weighted", "k-cable", "kerple-log"} <= set(SERVED)
    assert not {"cope", "dape", "path", "stick-breaking"} & set(SERVED)


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize(("past", "new"), [(0, 9), (5, 4)])
def test_of_all_pairs_it_is_the_tile(name: str, past: int, new: int) -> None:
    """In values and in the gradients of the input and of every parameter."""
    made = layer(name)
    b, h, i, j = torch.arange(2), torch.arange(HEADS), torch.arange(new), torch.arange(past + new)
    place = b.view(-1, 1, 1, 1), h.view(-1, 1, 1), i.view(-1, 1), j
    found = []
    for by_pair in (False, True):
        x = draw(2, past + new, DIM, seed=1).requires_grad_()
        qkv = draw(3, 2, HEADS, past + new, HEAD_DIM, seed=3).requires_grad_()
        q, k, _, bias, *_ = encoded(made, x, qkv, past)
        assert isinstance(bias, Elementwise)
        if by_pair:
            scores = (0.25 * q @ k.transpose(-1, -2))[place]
            logits = score_modification(bias)(scores, *place)
        else:
            logits = bias.score_rows(q, k, 0.25, slice(0, new))
        # The last term: a bias without anything to train has a gradient too.
        seen = logits.expand(2, HEADS, new, -1).tril(past) + 0 * x.sum()
        leaves = [x, qkv, *made.parameters()]
        grads = torch.autograd.grad((seen * draw(*seen.shape, seed=2)).sum(), leaves, allow_unused=True)
        found.append([seen, *(torch.zeros(()) if grad is None else grad.double() for grad in grads)])
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-10)


@given(far=st.floats(0, 1e9), seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("name", ["k-cable", "kerple-log", "cable-weighted"])
def test_far_out_a_pair_keeps_its_distance(name: str, far: float, seed: int) -> None:
    """At position 10^7 float32 steps by 1; contextual distances are smaller than that. Two halves keep the digits."""
    with torch.no_grad():
        bias = layer(name, torch.float32).bias(draw(1, 40, DIM, seed=seed, dtype=torch.float32))
    assert isinstance(bias, Elementwise)
    tensors = list(bias.tensors())
    tensors[0], tensors[1] = tensors[0] + far, tensors[1] + far
    there = bias.rebuilt(tensors)
    i = torch.arange(40)
    place = torch.tensor(0), torch.arange(HEADS).view(-1, 1, 1), i.view(-1, 1), i
    got = score_modification(there)(torch.zeros(()), *place)
    expected = bias.added(slice(0, 40))[0]
    assert got.dtype == torch.float32
    # A float64 at 10^9 steps by 1e-7.
    torch.testing.assert_close(got.tril(), expected.tril(), rtol=1e-4, atol=1e-4)


def test_it_says_what_it_cannot_do() -> None:
    x, (q, k, v) = draw(1, 6, DIM), draw(3, 1, HEADS, 6, HEAD_DIM)
    q, k, v, bias, *_ = layer("cope").encode(q, k, v, x=x)
    with pytest.raises(UserError, match="no function of its score"):
        attend(q, k, v, bias, scale=0.25, impl="flex")
    q, k, v, bias, *_ = layer("cable").encode(q, k, v, x=x)
    with pytest.raises(UserError, match="no backward pass on a CPU"):
        attend(q, k, v, bias, scale=0.25, impl="flex")


# -- the choice ------------------------------------------------------------------------------------------------------


def chosen(name: str, device: str, *, trained: bool, width: int = 320) -> Choice:
    """For heads that are too wide for the generated kernels. The meta device is asked as a GPU is."""
    made = encodings.create(name, heads=HEADS, head_dim=width, dim=2 * width)
    with torch.no_grad():
        q, k, _, bias, *_ = made.encode(*torch.zeros(3, 1, HEADS, 9, width), x=torch.zeros(1, 9, 2 * width))
    there = bias.rebuilt([t.to(device) for t in bias.tensors()])
    with torch.set_grad_enabled(trained):
        return choose(there, *(x.to(device).requires_grad_(trained) for x in (q, k)))


@pytest.mark.parametrize("name", ["k-cable", "kerple-log", "sinks+cable"])
def test_auto_takes_it_on_a_gpu_where_nothing_is_trained(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nowhere else: not where its compiler is missing, nor of what it cannot, nor on a CPU."""
    monkeypatch.setattr(flex, "has_triton", lambda: True)
    assert chosen(name, "meta", trained=False).impl == "flex"
    assert chosen(name, "meta", trained=True).impl == "tiles"
    assert chosen("cope", "meta", trained=False).impl == "tiles"
    assert chosen(name, "meta", trained=False, width=8).impl != "flex"
    assert chosen(name, "cpu", trained=False, width=8).impl != "flex"
    monkeypatch.setattr(flex, "has_triton", lambda: False)
    assert chosen(name, "meta", trained=False).impl == "tiles"


def test_what_its_compiler_refuses_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked for it is told in a line; from then on it says so beforehand, of this width and dtype alone."""
    made, served = layer("k-cable", torch.float32), Flex()

    def refuse(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("out of shared memory\nand much else")

    broken = torch.compile(flex_attention_module.flex_attention, backend=refuse, fullgraph=True)
    monkeypatch.setattr(flex, "compiled", lambda: broken)
    monkeypatch.setattr(attention, "BACKENDS", (served, *attention.BACKENDS))
    monkeypatch.setattr(served, "pays", lambda *asked: Verdict(True, ""))
    with torch.no_grad():
        qkv = draw(3, 1, HEADS, 9, HEAD_DIM, dtype=torch.float32)
        q, k, v, bias, *_ = made.encode(*qkv, x=draw(1, 9, DIM, dtype=torch.float32))
        expected = Reference()(q, k, v, bias, scale=0.25)
        torch.testing.assert_close(attend(q, k, v, bias, scale=0.25), expected)
        verdict = served.serves(bias, q, k)
        assert not verdict
        assert "PyTorch's compiler has no kernel of it" in verdict.reason
        assert "\n" not in verdict.reason
        assert served.serves(bias, q.double(), k.double())


# -- the kernel ------------------------------------------------------------------------------------------------------


class TestCompiled:
    """Half a minute a case on a CPU."""

    pytestmark = compiles

    @torch.no_grad()
    def test_it_is_the_reference_and_is_compiled_once(self) -> None:
        """A gate, and positions far out; others of the same shapes, and other parameters, do not compile again."""
        graphs = []
        for seed in range(3):
            x, qkv = (draw(*s, seed=seed, dtype=torch.float32) for s in ((2, 130, DIM), (3, 2, HEADS, 130, HEAD_DIM)))
            made = layer("cable-weighted", torch.float32, seed, kernel="power")
            q, k, v, near, *_ = made.encode(*qkv, x=x)
            queries, keys, *rest = near.tensors()
            bias = near.rebuilt([queries + 1e6 * seed, keys + 1e6 * seed, *rest])
            assert Flex().serves(bias, q, k)
            got, expected = Flex()(q, k, v, bias, scale=0.25), Reference()(q, k, v, near, scale=0.25)
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
            graphs.append(counters["stats"]["unique_graphs"])
        assert graphs[0] == graphs[1] == graphs[2]

    @torch.no_grad()
    def test_it_keeps_to_a_window_and_multiplies_scores(self) -> None:
        """The end of a text under a window with sinks; what nobody sees is not read, whatever it holds."""
        options = {"sinks": {"window": 150, "sinks": 3}, "adaptive": {"alpha_mode": "const"}}
        made = layer("sinks+adaptive", torch.float32, **options)
        qkv = draw(3, 1, HEADS, 600, HEAD_DIM, dtype=torch.float32)
        q, k, v, bias, *_ = encoded(made, draw(1, 600, DIM, dtype=torch.float32), qkv, 300)
        assert Flex().serves(bias, q, k)
        assert not bias.additive
        expected = Reference()(q, k, v, bias, scale=0.25)
        # Query 300 sees keys 151 to 300, and the first three.
        v = v.clone()
        v[:, :, 3:151] = 1e9
        torch.testing.assert_close(Flex()(q, k, v, bias, scale=0.25), expected, rtol=1e-4, atol=1e-4)


#: One of each way to have factors: a gate, parameters per head, a temperature, gates of keys and queries.
WAYS = ("cable-weighted", "kerple-log", "kerple-weight", "grape-a-qk")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in WAYS else pytest.mark.chaos) for name in SERVED]
)
def test_its_backward_pass_loses_no_gradient(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """FlexAttention's own graph of it, run operation by operation: on a CPU it is refused for its kernel alone."""
    torch.compiler.reset()
    monkeypatch.setattr(flex_attention_module, "_validate_device", lambda *tensors: None)
    as_written = torch.compile(flex_attention_module.flex_attention, backend="aot_eager", dynamic=False, fullgraph=True)
    monkeypatch.setattr(flex, "compiled", lambda: as_written)
    made = layer(name)
    found = []
    for backend in (Reference(), Flex()):
        x, qkv = draw(1, 40, DIM, seed=1).requires_grad_(), draw(3, 1, HEADS, 40, HEAD_DIM, seed=2).requires_grad_()
        q, k, v, bias, *_ = encoded(made, x, qkv)
        out = backend(q, k, v, bias, scale=0.25)
        leaves = [qkv, x, *made.parameters()]
        grads = torch.autograd.grad(out.square().sum(), leaves, allow_unused=True)
        found.append(
            [out, *(torch.zeros_like(leaf) if g is None else g for g, leaf in zip(grads, leaves, strict=True))]
        )
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-9)


def test_no_shape_is_one_too_many() -> None:
    """Beyond eight PyTorch would stop compiling, and make the matrix of all pairs."""
    seen: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        seen.append(len(inputs))
        return graph.forward

    with pytest.MonkeyPatch.context() as patch:
        real = torch.compile

        @wraps(real)
        def without_kernels(function: Any, **given: Any) -> Any:
            return real(add_one, backend=backend, **given)

        patch.setattr(torch, "compile", without_kernels)
        flex.compiled.cache_clear()
        function = flex.compiled()
    flex.compiled.cache_clear()
    for n in range(1, 13):
        function(torch.zeros(n))
    assert len(seen) == 12


def add_one(x: Tensor) -> Tensor:
    return x + 1


@pytest.mark.gpu
@pytest.mark.parametrize("name", SERVED)
def test_it_trains_on_a_gpu(name: str) -> None:
    """Values and gradients in float32 against the reference in float64."""
    made = layer(name).cuda()
    found = []
    for backend, dtype in ((Reference(), torch.float64), (Flex(), torch.float32)):
        made = made.to(dtype)
        x = draw(2, 256, DIM, seed=1).to("cuda", dtype).requires_grad_()
        qkv = draw(3, 2, HEADS, 256, HEAD_DIM, seed=2).to("cuda", dtype).requires_grad_()
        q, k, v, bias, *_ = made.encode(*qkv, x=x)
        out = backend(q, k, v, bias, scale=0.25)
        leaves = [qkv, x, *made.parameters()]
        grads = torch.autograd.grad((out * draw(*out.shape, seed=5).to(out)).sum(), leaves, allow_unused=True)
        found.append([out.double(), *(torch.zeros(()) if grad is None else grad.double() for grad in grads)])
    torch.testing.assert_close(found[1], found[0], rtol=1e-2, atol=1e-2)
