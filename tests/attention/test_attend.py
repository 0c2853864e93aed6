"""Attention under an encoding in a model that is not ours, and the refusal of what is only a part of a scheme."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import extrapo
from extrapo import encodings
from extrapo.attention import attend, attend_encoded, attend_under
from extrapo.encodings import Context, Encoding
from extrapo.errors import UserError

HEADS, HEAD_DIM, DIM = 2, 4, 8
OUTSIDE = ("source", "embedding", "update_shared")


class SomebodysAttention(nn.Module):
    """A multi-head attention as tutorials write it; only the line with `attend_under` is of here."""

    def __init__(self, encoding: Encoding) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(DIM, DIM) for _ in range(3))
        self.out = nn.Linear(DIM, DIM)
        self.encoding = encoding

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (HEADS, HEAD_DIM)).transpose(1, 2) for f in (self.to_q, self.to_k, self.to_v))
        y = attend_under(self.encoding, q, k, v, x=x)
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return out


def layer(name: str) -> Encoding:
    torch.manual_seed(0)
    return encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM).eval()


def outside(name: str) -> bool:
    return bool(layer(name).besides_bias() & set(OUTSIDE))


@pytest.mark.parametrize("name", [name for name in encodings.names() if not outside(name)])
def test_somebody_elses_attention_is_ours_of_the_same_weights(name: str) -> None:
    config = extrapo.GPTConfig(vocab_size=7, layers=1, heads=HEADS, dim=DIM, encoding=name, train_length=16, bias=True)
    torch.manual_seed(0)
    ours = extrapo.GPT(config).eval().blocks[0].attention
    theirs = SomebodysAttention(ours.encoding).eval()  # type: ignore[union-attr, arg-type]
    theirs.out = ours.out  # type: ignore[union-attr, assignment]
    parts = zip((theirs.to_q, theirs.to_k, theirs.to_v), ours.qkv.weight.chunk(3), ours.qkv.bias.chunk(3), strict=True)  # type: ignore[union-attr]
    for linear, weight, bias in parts:
        linear.weight, linear.bias = nn.Parameter(weight), nn.Parameter(bias)
    x = torch.randn(2, 11, DIM)
    expected, _ = ours(x, Context.plain(x))  # type: ignore[operator]
    torch.testing.assert_close(theirs(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["rope", "pope", "xpos", "rope+cable", "grape-a-key", "sinusoidal", "tape", "ssmax"])
def test_a_part_of_a_scheme_is_refused(name: str) -> None:
    x, q = torch.randn(1, 5, DIM), torch.randn(1, HEADS, 5, HEAD_DIM)
    bias = layer(name).bias(x)
    with pytest.raises(UserError, match=r"a part of its scheme.*attend_under"):
        attend(q, q, q, bias, scale=0.5)
    assert bias.dense().shape == (1, HEADS, 5, 5), "it may still be looked at"


@pytest.mark.parametrize("name", ["alibi", "cable", "kerple-log", "nope", "t5", "adaptive", "bam", "window", "cope"])
def test_a_bias_that_is_all_of_its_scheme_is_attended_by_itself(name: str) -> None:
    made = layer(name)
    x, (q, k, v) = torch.randn(1, 5, DIM), torch.randn(3, 1, HEADS, 5, HEAD_DIM)
    got = attend(q, k, v, made.bias(x), scale=0.5)
    torch.testing.assert_close(got, attend_under(made, q, k, v, x=x, scale=0.5))
    torch.testing.assert_close(got, attend_encoded(made.encode(q, k, v, x=x), scale=0.5))


@pytest.mark.parametrize(
    ("wrong", "shape", "named"),
    [
        ("q", (1, 5, HEADS, HEAD_DIM), "`q` must be"),
        ("q", (1, HEADS + 1, 5, HEAD_DIM), "`q` must be"),
        ("k", (1, HEADS, 5, HEAD_DIM + 2), "`k` must be"),
        ("v", (1, HEADS, 4, HEAD_DIM), "`v` must be"),
        ("x", (1, 4, DIM), "`q` must be"),
        ("x", (1, 5, DIM + 1), "`x` must be"),
        ("x", (5, DIM), "`x` must be"),
    ],
)
def test_a_wrong_shape_is_named(wrong: str, shape: tuple[int, ...], named: str) -> None:
    given = {name: torch.randn(1, HEADS, 5, HEAD_DIM) for name in "qkv"} | {"x": torch.randn(1, 5, DIM)}
    with pytest.raises(UserError, match=named):
        attend_under(layer("rope+k-cable"), **{**given, wrong: torch.randn(shape)})


@pytest.mark.parametrize("name", ["sinusoidal", "learned", "randomized-alibi", "tape"])
def test_what_acts_outside_the_layer_needs_a_context(name: str) -> None:
    made = layer(name)
    x, q = torch.randn(1, 5, DIM), torch.randn(1, HEADS, 5, HEAD_DIM)
    with pytest.raises(UserError, match="outside the layer besides"):
        attend_under(made, q, q, q, x=x)
    assert attend_under(made, q, q, q, x=x, context=Context.plain(x)).shape == q.shape


@pytest.mark.parametrize("name", ["nope", "alibi", "cable", "k-cable", "cable-weighted", "adaptive", "cope", "path"])
@pytest.mark.parametrize("length", [1, 5])
def test_a_scale_of_0_is_one(name: str, length: int) -> None:
    """What a query sees then depends on the bias alone; gradients are those of the formula too."""
    made = layer(name)
    x, (q, k, v) = torch.randn(1, length, DIM), torch.randn(3, 1, HEADS, length, HEAD_DIM, requires_grad=True)
    found = []
    for impl in ("auto", "reference"):
        out = attend_under(made, q, k, v, x=x, scale=0.0, impl=impl)
        found.append((out, *torch.autograd.grad(out.square().sum(), (q, k, v))))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)
