"""Flex: the function of one pair is the tile's formula, and the compiled kernel is the specification."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from extrapo import encodings
from extrapo.attention import can_flex, choose, flex, reference
from extrapo.encodings import Bias, Encoding
from extrapo.errors import UserError

HEADS, HEAD_DIM, DIM = 2, 16, 32


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def layer(name: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> Encoding:
    torch.manual_seed(seed)
    made = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made.eval()


PAIRS = [name for name in encodings.names() if layer(name).bias(draw(1, 3, DIM)).pair() is not None]


def test_who_has_a_function_of_one_pair() -> None:
    assert {"alibi", "cable", "cable-weighted", "k-cable", "kerple-log", "kerple-power"} <= set(PAIRS)
    assert can_flex(layer("rope").bias(draw(1, 3, DIM)))
    assert not can_flex(layer("adaptive").bias(draw(1, 3, DIM)))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("past", "new"), [(0, 9), (5, 4)])
def test_all_pairs_are_the_tile(name: str, past: int, new: int) -> None:
    """In values and in the gradients of the input and of every parameter."""
    made = layer(name)
    b, h, i, j = (torch.arange(n) for n in (2, HEADS, new, past + new))
    index = b.view(-1, 1, 1, 1), h.view(-1, 1, 1), i.view(-1, 1), j
    found = []
    for whole in (False, True):
        x = draw(2, past + new, DIM, seed=1).requires_grad_()
        before: Bias | None = made.bias(x[:, :past]) if past else None
        bias = made.bias(x[:, past:], before)
        pair = bias.pair()
        assert pair is not None
        tile = bias.tile(slice(0, new)).expand(2, HEADS, new, -1) if whole else pair(*index)
        # The last term: a bias without anything to train has a gradient too.
        seen = tile.tril(past) + 0 * x.sum()
        leaves = [x, *made.parameters()]
        grads = torch.autograd.grad((seen * draw(*seen.shape, seed=2)).sum(), leaves, allow_unused=True)
        found.append([seen, *(torch.zeros(()) if grad is None else grad.double() for grad in grads)])
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-10)


def test_far_out_a_pair_keeps_its_distance() -> None:
    """At position 10^7 float32 steps by 1; contextual distances are smaller than that."""
    bias = layer("k-cable", torch.float32).bias(draw(1, 40, DIM, dtype=torch.float32))
    tensors = list(bias.tensors())
    tensors[0], tensors[1] = tensors[0] + 1e7, tensors[1] + 1e7
    pair = bias.rebuilt(tensors).pair()
    assert pair is not None
    zero, i = torch.tensor(0), torch.arange(40)
    got = pair(zero, zero, i.view(-1, 1), i)
    torch.testing.assert_close(got.tril(), bias.tile(slice(0, 40))[0, 0].tril(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(" " in torch.__file__, reason="torch's compiler does not quote the path of its own headers")
def test_the_compiled_kernel_is_the_reference_and_is_compiled_once() -> None:
    """Other positions and parameters of the same shapes do not compile again."""
    graphs = []
    for seed in range(3):
        q, k, v = draw(3, 2, HEADS, 130, HEAD_DIM, seed=seed, dtype=torch.float32).unbind(0)
        with torch.no_grad():
            bias = layer("kerple-power", torch.float32, seed).bias(draw(2, 130, DIM, seed=seed, dtype=torch.float32))
            torch.testing.assert_close(flex(q, k, v, bias, 0.25), reference(q, k, v, bias, 0.25), rtol=1e-4, atol=1e-4)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[1] == graphs[2]


@pytest.mark.slow
@pytest.mark.skipif(" " in torch.__file__, reason="torch's compiler does not quote the path of its own headers")
def test_the_compiled_kernel_keeps_to_windows_and_documents() -> None:
    """Windows, and rows that end early: what is there is the reference, whatever lies in keys that nobody sees."""
    made = encodings.create(
        "sinks+alibi", heads=HEADS, head_dim=HEAD_DIM, dim=DIM, sinks={"window": 150, "sinks": 3}
    ).eval()
    lengths = torch.tensor([600, 130, 257])
    q, k, v = draw(3, 3, HEADS, 600, HEAD_DIM, dtype=torch.float32).unbind(0)
    with torch.no_grad():
        bias = made.bias(draw(3, 600, DIM, dtype=torch.float32))
        expected = reference(q, k, v, bias, 0.25)
        for row, length in enumerate(lengths.tolist()):
            v[row, :, length:] = 1e9
        got = flex(q, k, v, bias, 0.25, lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(got[row, :, :length], expected[row, :, :length], rtol=1e-4, atol=1e-4)


def test_a_window_is_part_of_the_function_of_one_pair() -> None:
    for name, options in [("window+cable", {"window": {"window": 3}}), ("sinks", {"window": 3, "sinks": 1})]:
        made = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM, **options).double()
        x, q = draw(1, 9, DIM), draw(1, HEADS, 9, HEAD_DIM)
        bias = made.bias(x[:, 5:], made.bias(x[:, :5])).given(q[:, :, 5:], q)
        pair = bias.pair()
        assert pair is not None
        i, j = torch.arange(4).view(-1, 1), torch.arange(9)
        found = pair(torch.tensor(0), torch.arange(HEADS).view(-1, 1, 1), i, j).masked_fill(j > i + 5, float("-inf"))
        torch.testing.assert_close(found.expand(HEADS, 4, 9).float(), bias.dense()[0])


def test_refuses_what_it_cannot_do() -> None:
    q = draw(1, HEADS, 6, HEAD_DIM)
    with pytest.raises(UserError, match="function of one pair"):
        choose(layer("adaptive").bias(draw(1, 6, DIM)), q, "flex")
    with pytest.raises(UserError, match="no backward pass on a CPU"):
        flex(q, q, q, layer("cable").bias(draw(1, 6, DIM)), 0.25)


@pytest.mark.gpu
@pytest.mark.parametrize("name", PAIRS)
def test_trains_on_a_gpu(name: str) -> None:
    """Values and gradients in float32 against the reference in float64."""
    made = layer(name).cuda()
    found = []
    for path, dtype in ((reference, torch.float64), (flex, torch.float32)):
        made = made.to(dtype)
        x = draw(2, 256, DIM, seed=1).to("cuda", dtype).requires_grad_()
        q, k, v = (draw(2, HEADS, 256, HEAD_DIM, seed=s).to("cuda", dtype).requires_grad_() for s in (2, 3, 4))
        out = path(q, k, v, made.bias(x), 0.25)
        leaves = [q, k, v, x, *made.parameters()]
        grads = torch.autograd.grad((out * draw(*out.shape, seed=5).to(out)).sum(), leaves, allow_unused=True)
        found.append([out.double(), *(torch.zeros(()) if grad is None else grad.double() for grad in grads)])
    torch.testing.assert_close(found[1], found[0], rtol=1e-2, atol=1e-2)
