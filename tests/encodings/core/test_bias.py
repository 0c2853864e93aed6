"""Bias: what follows from a formula, or from rows of logits, and the tensors that gradients flow to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo import encodings
from extrapo.attention import attend
from extrapo.encodings import AddedBias, Affine, Bias, Elementwise, NoBias, Rowwise
from extrapo.encodings.core.logit import Logit
from extrapo.encodings.core.visibility import Visibility, hidden
from extrapo.errors import UserError
from extrapo.kernels.low_rank import LowRank

HEADS, HEAD_DIM, DIM, T = 2, 8, 16, 9

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in encodings.names()),
    ("adaptive", {"alpha_mode": "const"}),
    ("window+k-cable", {"window": {"window": 3}}),
    ("window+cope", {"window": {"window": 3}}),
    ("path+k-cable", {}),
]


def encoded(name: str, options: dict[str, Any], past: int = 0, new: int = T) -> tuple[Tensor, Tensor, Any]:
    """q, k and the bias of the last tokens of a text."""
    torch.manual_seed(0)
    made = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM, train_length=64, **options).double().eval()
    x, qkv = torch.randn(2, past + new, DIM).double(), torch.randn(3, 2, HEADS, past + new, HEAD_DIM).double()
    state = made.encode(*qkv[:, :, :, :past], x=x[:, :past]).state if past else None
    q, k, _, bias, *_ = made.encode(*qkv[:, :, :, past:], x=x[:, past:], state=state)
    return q, k, bias


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.parametrize(("past", "new"), [(0, T), (4, 5), (8, 1)])
def test_a_tile_is_a_part_of_the_whole(name: str, options: dict[str, Any], past: int, new: int) -> None:
    """Whatever rows are asked for, and for the keys that the last of them may see."""
    q, k, bias = encoded(name, options, past, new)
    batch, heads, queries, keys = bias.shape
    assert (heads, queries, keys) == (HEADS, new, past + new)
    assert batch in (1, 2)
    whole = bias.score_rows(q, k, 0.3, slice(0, new))
    added = bias.added(slice(0, new)).expand(2, HEADS, new, keys)
    assert whole.shape == (2, HEADS, new, keys)
    for a, b in {(0, 1), (0, new), (new - 1, new), (new // 3, 2 * new // 3 + 1)}:
        rows, stop = slice(a, b), past + b
        later = hidden(b - a, stop, None, q.device)
        for part, full in (
            (bias.score_rows(q[:, :, rows], k[:, :, :stop], 0.3, rows), whole),
            (bias.added(rows).expand(2, HEADS, b - a, stop), added),
        ):
            expected = full[:, :, rows, :stop].masked_fill(later, 0)
            torch.testing.assert_close(part.masked_fill(later, 0), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_what_is_added_is_what_the_logits_have_over_the_scores(name: str, options: dict[str, Any]) -> None:
    q, k, bias = encoded(name, options)
    scores = 0.3 * q @ k.transpose(-1, -2)
    extra = (bias.score_rows(q, k, 0.3, slice(0, T)) - scores).tril()
    if bias.additive:
        torch.testing.assert_close(
            bias.added(slice(0, T)).expand_as(extra).to(extra).tril(), extra, rtol=1e-9, atol=1e-9
        )
    dense = bias.dense()
    assert dense.dtype == torch.float32
    assert dense.shape == bias.shape
    assert torch.equal(dense.isneginf(), hidden(T, T, bias.visibility(), q.device).expand_as(dense))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_it_is_rebuilt_from_its_tensors(name: str, options: dict[str, Any]) -> None:
    """From the same ones the same logits; from others, others: tiles differentiate what is rebuilt."""
    q, k, bias = encoded(name, options)
    tensors = bias.tensors()
    assert all(isinstance(tensor, Tensor) for tensor in tensors)
    again = bias.rebuilt([tensor.clone() for tensor in tensors])
    assert type(again) is type(bias)
    assert [a.shape for a in again.tensors()] == [b.shape for b in tensors]
    rows = slice(0, T)
    assert torch.equal(again.score_rows(q, k, 0.3, rows).tril(), bias.score_rows(q, k, 0.3, rows).tril())


ELEMENTWISE = [variant for variant in VARIANTS if isinstance(encoded(*variant)[2], Elementwise)]
LOW_RANK = [variant for variant in ELEMENTWISE if encoded(*variant)[2].low_rank() is not None]
TOEPLITZ = [variant for variant in ELEMENTWISE if encoded(*variant)[2].line() is not None]


@pytest.mark.parametrize(("name", "options"), LOW_RANK)
def test_a_product_of_columns_is_what_is_added_up_to_a_term_of_the_row(name: str, options: dict[str, Any]) -> None:
    q, _, bias = encoded(name, options)
    columns = bias.low_rank()
    product = (columns.u @ columns.w.transpose(-1, -2)).expand(2, HEADS, T, T).to(q)
    off = bias.added(slice(0, T)) - product
    seen = torch.ones(T, T, dtype=torch.bool).tril()
    # The same for all keys that a query sees: what its own key has.
    own = off.expand(2, HEADS, T, T).diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
    torch.testing.assert_close((off - own).masked_fill(~seen, 0), torch.zeros(2, HEADS, T, T).double())


@pytest.mark.parametrize(("name", "options"), TOEPLITZ)
def test_a_line_of_distances_has_every_diagonal(name: str, options: dict[str, Any]) -> None:
    q, k, bias = encoded(name, options)
    assert bias.toeplitz()
    temperature, added = (None if part is None else part.expand(1, HEADS, 1, T) for part in bias.line())
    scores, logits = 0.3 * q @ k.transpose(-1, -2), bias.score_rows(q, k, 0.3, slice(0, T))
    for i in range(T):
        for j in range(i + 1):
            place = (..., 0, T - 1 - (i - j))
            t = 1.0 if temperature is None else temperature[place]
            torch.testing.assert_close(logits[:, :, i, j], t * scores[:, :, i, j] + added[place], rtol=1e-9, atol=1e-9)


# -- as somebody writes them -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cooled(Affine):
    """score t - n."""

    def temperature(self, *factors: Tensor) -> Tensor:
        return factors[0]

    def bias(self, *factors: Tensor) -> Tensor:
        return -factors[1]


@dataclass(frozen=True)
class Mine(Elementwise):
    """A formula, its factors, and nothing else; a tuple of tensors, a number and a name are fields too."""

    t: Tensor
    n: tuple[Tensor, ...]
    queries: int
    words: tuple[str, ...] = ("a", "b")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return 1, HEADS, self.queries, self.n[0].size(-1)

    @property
    def logit(self) -> Logit:
        return Cooled()

    def factors(self, rows: slice) -> tuple[Tensor, ...]:
        stop = self.n[0].size(-1) - self.queries + rows.stop
        return self.t[..., rows].unsqueeze(-1), (self.n[0] + self.n[1])[..., :stop].unsqueeze(-2)


@dataclass(frozen=True)
class Logits(Rowwise):
    """A scheme that owns its logits, around another bias."""

    host: Bias

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.host.shape

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        return (self.host.score_rows(q, k, scale, rows)).tanh()


@dataclass(frozen=True)
class Pairs(AddedBias):
    """A number of each pair."""

    numbers: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        _, _, queries, keys = self.numbers.shape
        return 1, HEADS, queries, keys

    def tile(self, rows: slice) -> Tensor:
        _, _, queries, keys = self.numbers.shape
        return self.numbers[..., rows, : keys - queries + rows.stop]


def mine(queries: int = 3, keys: int = 5) -> Mine:
    generator = torch.Generator().manual_seed(2)
    t, *n = (torch.rand(1, HEADS, size, generator=generator).double() for size in (queries, keys, keys))
    return Mine(t, (n[0], n[1]), queries)


def test_a_formula_is_all_that_an_elementwise_bias_needs() -> None:
    bias, q, k = mine(), torch.randn(2, HEADS, 3, 4).double(), torch.randn(2, HEADS, 5, 4).double()
    n = (bias.n[0] + bias.n[1]).unsqueeze(-2)
    rows = slice(0, 3)
    torch.testing.assert_close(bias.score_rows(q, k, 0.5, rows), 0.5 * q @ k.mT * bias.t.unsqueeze(-1) - n)
    assert torch.equal(bias.added(rows).expand(1, HEADS, 3, 5), (-n).expand(1, HEADS, 3, 5))
    assert not bias.additive
    assert bias.pointwise()
    assert (bias.low_rank(), bias.line(), bias.cached_line(), bias.visibility()) == (None, None, None, None)
    assert bias.whole_text() is bias
    assert bias.bind(q, k) is bias
    assert bias.rewrite_keys(k) is k


def test_fields_that_hold_tensors_count_in_order() -> None:
    bias, outer = mine(), Logits(mine())
    assert len(bias.tensors()) == len(outer.tensors()) == 3
    assert all(a is b for a, b in zip(bias.tensors(), (bias.t, *bias.n), strict=True))
    moved = outer.rebuilt([tensor + 1 for tensor in outer.tensors()])
    assert isinstance(moved.host, Mine)
    assert torch.equal(moved.host.n[1], bias.n[1] + 1)
    assert moved.host.words == ("a", "b")


class Pair(NamedTuple):
    """A tuple with names."""

    first: Any
    second: Any


@dataclass(frozen=True)
class Holder:
    """Somebody's own collection."""

    number: Tensor


@dataclass(frozen=True)
class Kept(AddedBias):
    """The sum of all numbers that are kept in a field, times the distance."""

    kept: Any

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return 1, HEADS, T, T

    def tile(self, rows: slice) -> Tensor:
        distance = torch.arange(rows.start, rows.stop).unsqueeze(-1) - torch.arange(rows.stop)
        total = sum(((n + 1) * x for n, x in enumerate(numbers(self.kept))), torch.zeros(1))
        return (total * distance).expand(1, HEADS, -1, -1)


def numbers(kept: Any) -> list[Tensor]:
    """The tensors in a collection of whatever kind."""
    if isinstance(kept, Tensor):
        return [kept]
    if isinstance(kept, dict):
        kept = kept.values()
    elif isinstance(kept, Kept | Holder):
        kept = vars(kept).values()
    return [x for member in kept for x in numbers(member)] if isinstance(kept, Iterable) else []


def gradients(bias: Bias, impl: str, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    q = torch.randn(1, HEADS, T, 4, generator=torch.Generator().manual_seed(0))
    receive = torch.randn(q.shape, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad(attend(q, q, q, bias, scale=0.5, impl=impl), leaves, receive)


kept = st.recursive(
    st.sampled_from([None, 3, 2.5]) | st.builds(lambda x: torch.tensor([x], requires_grad=True), st.floats(-1, 1)),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple) | st.builds(Pair, inner, inner) | st.builds(lambda x: Kept((x,)), inner)
    ),
    max_leaves=6,
)


@given(value=kept)
@settings(max_examples=40, deadline=None)
def test_whatever_a_tuple_holds_gradients_reach_its_tensors(value: Any) -> None:
    bias, leaves = Kept(value), numbers(value)
    assert all(a is b for a, b in zip(bias.tensors(), leaves, strict=True))
    again = bias.rebuilt(leaves)
    assert again == bias
    assert type(again.kept) is type(value)
    if leaves:
        torch.testing.assert_close(gradients(bias, "tiles", leaves), gradients(bias, "reference", leaves))


@given(value=kept, wrap=st.sampled_from([lambda x: [x], lambda x: {"a": x}, lambda x: (1, [x]), Holder]))
@settings(max_examples=40, deadline=None)
def test_what_holds_tensors_otherwise_is_refused(value: Any, wrap: Callable[[Any], Any]) -> None:
    """Not left out: tiles would train without them, and nobody would know."""
    bias = Kept(wrap(value))
    if not numbers(value):
        assert bias.tensors() == ()
        return
    for use in (bias.tensors, lambda: gradients(bias, "tiles", numbers(value))):
        with pytest.raises(
            UserError, match="gradients would not reach the tensors that a bias keeps in `kept`"
        ) as told:
            use()
        assert "\n" not in str(told.value)


def test_who_owns_the_logits_adds_nothing_unless_it_says_so() -> None:
    outer = Logits(mine())
    assert not outer.additive
    assert torch.equal(outer.added(slice(1, 3)), torch.zeros(1, HEADS, 2, 5))


def test_a_tile_is_no_formula_of_numbers_per_query_and_key() -> None:
    pairs = Pairs(torch.randn(1, HEADS, 3, 5))
    assert pairs.additive
    assert not pairs.pointwise()
    assert torch.equal(pairs.added(slice(1, 2)), pairs.numbers[..., 1:2, :4])


@given(queries=st.integers(1, 6), past=st.integers(0, 5), dtype=st.sampled_from([torch.bfloat16, torch.float16]))
@settings(max_examples=20, deadline=None)
def test_in_half_precision_scores_are_not_rounded(queries: int, past: int, dtype: torch.dtype) -> None:
    bias = Pairs(torch.randn(1, HEADS, queries, past + queries))
    q, k = torch.randn(1, HEADS, queries, 4).to(dtype), torch.randn(1, HEADS, past + queries, 4).to(dtype)
    got = bias.score_rows(q, k, 0.5, slice(0, queries))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, 0.5 * q.float() @ k.float().mT + bias.numbers)


def test_nothing_is_a_bias_too() -> None:
    nothing = NoBias(HEADS, 3, 5, torch.device("cpu"))
    assert nothing.tensors() == ()
    assert nothing.rebuilt(()) == nothing
    assert nothing.dense().shape == (1, HEADS, 3, 5)
    assert isinstance(nothing.low_rank(), LowRank)
    assert nothing.low_rank().u.shape == (1, 1, 3, 0)


def test_what_is_out_of_sight_is_not_drawn() -> None:
    class Near(Pairs):
        def visibility(self) -> Visibility:
            return Visibility(2)

    far = -torch.inf
    dense = Near(torch.zeros(1, HEADS, 3, 5)).dense()[0, 0].tolist()
    assert dense == [[far, 0, 0, far, far], [far, far, 0, 0, far], [far, far, far, 0, 0]]


def test_a_bias_that_is_no_dataclass_is_told() -> None:
    class Bare(Rowwise):
        @property
        def shape(self) -> tuple[int, int, int, int]:
            return 1, HEADS, 1, 1

        def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
            return q @ k.mT

    with pytest.raises(AssertionError, match="Bare must be a dataclass"):
        Bare().tensors()
