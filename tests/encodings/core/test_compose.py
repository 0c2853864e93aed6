"""Composition: what adds, what owns, what wraps, and what cannot go together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from extrapo import GPT, GPTConfig, attention, encodings
from extrapo.attention import attend, attend_under
from extrapo.encodings import AddedBias, Bias, Context, Encoding, LayerSpec, NoBias, Rowwise, Transformed
from extrapo.encodings.core.compose import Summed
from extrapo.encodings.core.encoding import encodings as registry
from extrapo.errors import UserError
from extrapo.testing import EncodingContract

SHAPE: dict[str, Any] = {"heads": 2, "head_dim": 8, "dim": 16}


@dataclass(frozen=True)
class Sharp(Rowwise):
    """Logits c s q.k: a scheme that owns its logits."""

    heads: int
    queries: int
    keys: int
    c: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return 1, self.heads, self.queries, self.keys

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        return self.c * scale * (q @ k.transpose(-1, -2))


@dataclass(frozen=True)
class Halved(AddedBias):
    """Half of another bias."""

    inner: Bias

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.inner.shape

    def tile(self, rows: slice) -> Tensor:
        return self.inner.added(rows) / 2


class SharpEncoding(Encoding):
    """Owns the logits; doubles values, and halves outputs."""

    bias_kind = "owns"

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.c = nn.Parameter(torch.tensor(1.5))

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        return Transformed(q, k, 2 * v + 1, state, lambda y: (y - 1) / 2)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        before = 0 if past is None else past.shape[-1]
        return Sharp(self.heads, x.size(1), before + x.size(1), self.c)


class HalvedEncoding(Encoding):
    """Wraps a bias."""

    def wrap(self, bias: Bias, x: Tensor, context: Context | None) -> Bias:
        return Halved(bias)


@pytest.fixture(scope="module", autouse=True)
def two_more() -> Iterator[None]:
    """Two schemes for this file alone."""
    mine = {"sharp": SharpEncoding, "halved": HalvedEncoding}
    registry._classes |= mine
    yield
    for name in mine:
        del registry._classes[name]


def test_an_owner_and_a_bias_add_up() -> None:
    layer = encodings.create("rope+sharp+cable", **SHAPE).double()
    x, q, k, v = torch.randn(4, 1, 2, 7, 8, dtype=torch.float64).unbind()
    x = x.transpose(1, 2).flatten(2)
    context = Context.plain(x)
    transformed = layer.transform(q, k, v, x=x, context=context, state=None)
    bias = layer.bias(x, None, context)
    assert isinstance(bias, Summed)
    cable = layer.parts["cable"].bias(x)  # type: ignore[operator]
    logits = 1.5 * 0.3 * transformed.q @ transformed.k.transpose(-1, -2) + cable.added(slice(0, 7))
    mask = torch.ones(7, 7, dtype=torch.bool).triu(1)
    expected = logits.masked_fill(mask, float("-inf")).softmax(-1) @ v
    for impl in ("reference", "tiles"):
        # By the back end itself: `attend` refuses a bias of a scheme that turns q and k as well.
        out = attention.backend(impl)(transformed.q, transformed.k, transformed.v, bias, scale=0.3)
        torch.testing.assert_close(transformed.output(out), expected)


def test_a_wrapper_acts_on_the_bias_of_the_others() -> None:
    layer = encodings.create("halved+alibi", **SHAPE)
    x = torch.zeros(1, 5, 16)
    assert torch.equal(layer.bias(x).dense(), encodings.create("alibi", **SHAPE).bias(x).dense() / 2)
    alone = encodings.create("halved", **SHAPE).bias(x)
    q = torch.randn(1, 2, 5, 8)
    got, plain = (attend(q, q, q, b, scale=0.3, impl="reference") for b in (alone, NoBias(2, 5, 5, q.device)))
    assert torch.equal(got, plain)


@pytest.mark.parametrize("name", ["sharp+cable", "halved+cable", "halved+rope"])
def test_they_keep_the_contract(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check = type("Check", (EncodingContract,), {"encoding": name})()
    check.test_every_backend_equals_the_reference((33,), False, monkeypatch)
    check.test_decoding_equals_the_parallel_pass()
    check.test_packed_documents_do_not_see_one_another()
    check.test_gradients_are_finite_and_no_parameter_is_frozen()


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("cable+alibi", "'cable' and 'alibi' both bring a bias: a composition takes one"),
        ("sharp+adaptive", "'sharp' and 'adaptive' both own the logits: only one can"),
        ("path+grape-a-key", "'grape-a-key' reads q or k, and 'path' rewrites keys while decoding: choose one"),
        ("pope+rope", "'rope' turns or reads q and k, and 'pope' makes them wider: choose one"),
        ("rerope+pope", "'rerope' turns or reads q and k, and 'pope' makes them wider: choose one"),
        ("grape-ap+pope", "'grape-ap' turns or reads q and k, and 'pope' makes them wider: choose one"),
        ("randomized+bipe", "both say where tokens stand"),
        ("rope+rope", "names a part twice"),
        ("rope+ropes", "did you mean 'rope'"),
    ],
)
def test_what_cannot_go_together_says_why(name: str, cause: str) -> None:
    with pytest.raises(UserError, match=cause) as refused:
        GPT(GPTConfig(encoding=name, layers=1, heads=2, dim=16, vocab_size=11))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("other", ["grape-ap", "grape-m-ctx", "pope", "path"])
def test_a_scale_acts_last_whatever_the_order_of_the_names(other: str) -> None:
    """Before a norm of q it would be lost, before a softplus bent."""
    options = {"path": {"qk_norm": True}} if other == "path" else {}
    q, k, v = torch.randn(3, 1, 2, 9, 8, dtype=torch.float64)
    x = torch.randn(1, 9, 16, dtype=torch.float64)
    found = []
    for name in (f"{other}+log-n", f"log-n+{other}", other):
        torch.manual_seed(0)
        own = options if "+" in name else options.get(other, {})
        layer = encodings.create(name, **SHAPE, **own).double()
        found.append(layer.transform(q, k, v, x=x, context=Context.plain(x), state=None).q)
    factor = torch.arange(1.0, 10.0, dtype=torch.float64).log() / math.log(512)
    for scaled in found[:2]:
        torch.testing.assert_close(scaled, found[2] * factor.unsqueeze(-1))


WRAPPERS = [name for name in registry.names() if registry.get(name).bias_kind == "wraps"]
WRAPPED = [*encodings.names(), "stick-breaking+alibi", "window+alibi", "rope+randomized-alibi"]


def bias_and_output(name: str) -> tuple[Tensor, Tensor] | None:
    """What there is to see of a composition; None where it is refused."""
    own = {"window": {"window": 4}, "sinks": {"window": 4}, "randomized": {"sampling": "distances"}}
    x = torch.randn(1, 9, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    q, k, v = torch.randn(3, 1, 2, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(0)
    try:
        options = {part: own[part] for part in encodings.split(name) if part in own}
        layer = encodings.create(name, **SHAPE, train_length=16, **options).double().eval()
        out = attend_under(layer, q, k, v, x=x, context=Context.plain(x), scale=0.3, impl="reference")
        return layer.bias(x).dense(), out
    except UserError:
        return None


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("other", WRAPPED)
def test_the_order_of_the_names_is_nothing_to_what_wraps(wrapper: str, other: str) -> None:
    """Both orders give the same bias and the same output, or both are refused."""
    first, second = (bias_and_output(name) for name in (f"{wrapper}+{other}", f"{other}+{wrapper}"))
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)


def test_distances_are_sampled_before_anything_else_is_made_of_them() -> None:
    """So that each of these is there at all."""
    for name in ("window+randomized-alibi", "stick-breaking+randomized-alibi", "randomized+sinks+stick-breaking+alibi"):
        assert bias_and_output(name) is not None


@pytest.mark.parametrize("other", ["alibi", "k-cable", "ssmax", "window", "kerple-weight", "dape", "stick-breaking"])
def test_what_acts_on_products_goes_with_wider_ones(other: str) -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig(encoding=f"pope+{other}", layers=1, heads=2, dim=16, vocab_size=11))
    assert model(torch.zeros(1, 9, dtype=torch.int64)).isfinite().all()


def test_a_scheme_that_reads_what_another_turns_says_so() -> None:
    assert "translation" in encodings.create("rope+shaw", **SHAPE).exemptions()
    assert encodings.create("rope+cable", **SHAPE).exemptions() == {}


def test_a_bias_is_rebuilt_from_its_tensors() -> None:
    """Fields that are tensors, tuples of tensors, or biases, in order; what gradients flow to is what tiles see."""
    x = torch.randn(1, 6, 16)
    inner = encodings.create("kerple-log", **SHAPE).bias(x)
    outer = Halved(inner)
    tensors = outer.tensors()
    assert [t.shape for t in tensors] == [t.shape for t in inner.tensors()]
    assert len(tensors) == 4  # queries, keys, p, a
    moved = outer.rebuilt([t + 1 for t in tensors])
    assert torch.equal(moved.inner.tensors()[2], tensors[2] + 1)
    assert torch.equal(replace(moved, inner=inner).added(slice(0, 6)), outer.added(slice(0, 6)))


def test_one_module_for_all_layers() -> None:
    shape: dict[str, Any] = {"layers": 3, "heads": 2, "dim": 16, "vocab_size": 11, "encoding": "cable"}
    own, shared = (GPT(GPTConfig(**shape, share_encoding=share)) for share in (None, True))
    layer = sum(p.numel() for p in encodings.create("cable", **SHAPE).parameters())
    assert own.num_parameters() - shared.num_parameters() == 2 * layer
    assert shared.blocks[0].attention.encoding is shared.blocks[2].attention.encoding  # type: ignore[union-attr]
