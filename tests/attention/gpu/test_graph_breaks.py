"""A compiler sees a layer's attention as one graph, in half precision, under every encoding but those named here."""

from __future__ import annotations

import pytest
import torch
from test_without_numbers import WAITS
from torch import Tensor

from extrapo import encodings
from extrapo.attention import attend_encoded
from extrapo.encodings import Context

pytestmark = pytest.mark.usefixtures("triton", "meta_autocast")

#: Schemes of which a tile's logits are no formula of numbers per query and key: `tiles` differentiates each tile as it
#: was written, by a graph of its own, which a compiler does not follow.
TILES = {
    "cope": "a row's own counts",
    "dape": "a network of all heads",
    "dape-v2": "a network of all heads",
    "fire": "a network of each pair",
    "fox-per-row": "a gate of each pair",
    "grape-ap": "a gate of each pair",
    "path": "a product of steps between the two tokens",
    "path-fox": "the same",
    "relative-proj": "a number of each pair",
    "rerope": "two rotations",
    "self-extend": "two rotations",
    "shaw": "a vector of the distance",
    "stick-breaking": "the tokens between",
    "tapa": "a phase of each pair",
    "xpos": "a rotation that fades",
}

#: What copies a list of numbers to the device: on that of tensors without numbers a compiler cannot.
COPIES = {"lm-infinite", "longrope", "streaming-llm"}

#: A clock, a kernel of the index, a table, a rotation.
EVERY_RUN = ("k-cable", "kerple-log", "t5", "rope", "adaptive")


def compiled(name: str) -> Tensor:
    """A layer's attention, of q, k, v and an input in bfloat16 as autocast leaves them; raises where a graph breaks."""
    made = encodings.create(name, heads=2, head_dim=16, dim=32).to("meta")
    qkv, x = (torch.empty(s, device="meta", dtype=torch.bfloat16) for s in ((3, 1, 2, 18, 16), (1, 18, 32)))
    tokens = torch.zeros(1, 18, dtype=torch.int64, device="meta")

    def attention(qkv: Tensor, x: Tensor) -> Tensor:
        plain = Context.plain(x)
        context = Context(plain.index, 0, tokens, x, counted=plain.counted)
        return attend_encoded(made.encode(*qkv, x=x, context=context), scale=0.25)

    torch.compiler.reset()  # type: ignore[no-untyped-call]
    function = torch.compile(attention, backend="eager", fullgraph=True)
    return function(qkv.requires_grad_(), x.requires_grad_())


NAMES = [
    pytest.param(name, marks=pytest.mark.kernels if name in EVERY_RUN else pytest.mark.chaos)
    for name in encodings.names()
    if name not in TILES.keys() | WAITS.keys() | COPIES
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_one_graph(name: str) -> None:
    assert compiled(name).shape == (1, 2, 18, 16)


@pytest.mark.chaos
@pytest.mark.parametrize("name", TILES)
def test_those_that_own_their_logits_are_several(name: str) -> None:
    """Or they would not be named here."""
    with pytest.raises(torch._dynamo.exc.Unsupported, match="autograd"):
        compiled(name)
