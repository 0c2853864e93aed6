"""Accumulated rotations against the author's form, summed from the right, written out pair by pair; RoPE as a case."""

from __future__ import annotations

import cmath
import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from extrapo import GPT, GPTConfig, attention, encodings
from extrapo.encodings import Context, LayerSpec
from extrapo.encodings.accumulated import ANGLES, AccumulatedRotation, Source
from extrapo.encodings.core.angles import Angles, Planes
from extrapo.encodings.core.encoding import unchanged
from extrapo.errors import UserError

HEADS, D, T = 2, 6, 7
SCALE = 1 / math.sqrt(D)


class Given(Angles):
    """Angles that a test hands in: (B, H, T, d/2)."""

    def __init__(self, delta: Tensor) -> None:
        super().__init__(Planes(HEADS, D, HEADS * D), LayerSpec(HEADS, D, HEADS * D))
        self.delta = nn.Parameter(delta)

    def forward(self, x: Tensor, context: Context, stream: int = 0) -> Tensor:
        return self.delta[:, :, context.start : context.start + x.size(1)]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(**options: Any) -> AccumulatedRotation:
    layer = encodings.create("accumulated-rotation", heads=HEADS, head_dim=D, dim=HEADS * D, **options)
    assert isinstance(layer, AccumulatedRotation)
    return layer.eval()


def attend(layer: encodings.Encoding, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    x = torch.zeros(q.size(0), q.size(2), HEADS * D, dtype=q.dtype)
    return attention.attend_under(layer, q, k, v, x=x, scale=SCALE, impl="reference")


def by_suffix_sums(q: Tensor, k: Tensor, v: Tensor, delta: Tensor, values: bool) -> Tensor:
    """The author's form for one row: Phi_t = sum over s >= t, R(Phi_t) on q, k and v, R(Phi_i)^T on the output."""
    out = []
    for h in range(HEADS):
        q_, k_, v_, delta_ = (part[0, h] for part in (q, k, v, delta))
        phi = [torch.stack([delta_[s] for s in range(t, T)]).sum(0) for t in range(T)]

        def turn(row: Tensor, angle: Tensor) -> Tensor:
            first, second = [], []
            for c in range(D // 2):
                cos, sin = torch.cos(angle[c]), torch.sin(angle[c])
                first.append(row[c] * cos - row[c + D // 2] * sin)
                second.append(row[c] * sin + row[c + D // 2] * cos)
            return torch.stack(first + second)

        rows = []
        for i in range(T):
            logits = [SCALE * turn(q_[i], phi[i]) @ turn(k_[j], phi[j]) for j in range(i + 1)]
            p = torch.stack(logits).softmax(0)
            if values:
                total = torch.stack([p[j] * turn(v_[j], phi[j]) for j in range(i + 1)]).sum(0)
                rows.append(turn(total, -phi[i]))
            else:
                rows.append(torch.stack([p[j] * v_[j] for j in range(i + 1)]).sum(0))
        out.append(torch.stack(rows))
    return torch.stack(out).unsqueeze(0)


@pytest.mark.parametrize("values", [False, True])
def test_the_author_s_suffix_sums(values: bool) -> None:
    q, k, v, receive = draw(4, 1, HEADS, T, D)
    layer = make(values=values)
    layer.angles = Given(draw(1, HEADS, T, D // 2, seed=1))
    leaves = [t.requires_grad_() for t in (q, k, v)]
    leaves.append(layer.angles.delta)
    got, expected = attend(layer, q, k, v), by_suffix_sums(q, k, v, layer.angles.delta, values)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    for one, other in zip(
        torch.autograd.grad((got * receive).sum(), leaves),
        torch.autograd.grad((expected * receive).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_a_token_turns_the_pairs_that_it_lies_between() -> None:
    """The angle of token s shows where j <= s < i: the key's own token counts, the query's does not."""
    q, k, v = draw(3, 1, HEADS, T, D)
    s = 3
    delta = torch.zeros(1, HEADS, T, D // 2, dtype=torch.float64)
    delta[:, :, s] = 1.0
    layer = make()
    layer.angles = Given(delta)
    x = torch.zeros(1, T, HEADS * D)
    transformed = layer.transform(q, k, v, x=x, context=Context.plain(x), state=None)
    changed = ((transformed.q @ transformed.k.mT) - (q @ k.mT)).abs()[0, 0] > 1e-9
    for i in range(T):
        for j in range(i + 1):
            assert bool(changed[i, j]) == (j <= s < i), (i, j)


def test_fixed_angles_are_rope() -> None:
    q, k, v = draw(3, 1, HEADS, 300, D)
    rope = encodings.create("rope", heads=HEADS, head_dim=D, dim=HEADS * D, base=100.0)
    got, expected = attend(make(angles="fixed", base=100.0), q, k, v), attend(rope, q, k, v)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-11)


def test_fixed_angles_with_values_turn_them_by_the_distance() -> None:
    """o_i = sum over j of p_ij R(-(i - j) theta) v_j, p RoPE's."""
    q, k, v = draw(3, 1, HEADS, T, D)

    def planes(x: Tensor) -> list[list[complex]]:
        a, b = x.chunk(2, dim=-1)
        return torch.complex(a, b).tolist()

    theta = [10_000.0 ** (-2 * c / D) for c in range(D // 2)]
    got = attend(make(angles="fixed", values=True), q, k, v)
    for h in range(HEADS):
        q_, k_, v_, got_ = (planes(part[0, h]) for part in (q, k, v, got))
        for i in range(T):
            weights = []
            for j in range(i + 1):
                planes_ = zip(q_[i], k_[j], theta, strict=True)
                logit = SCALE * sum((a * b.conjugate() * cmath.exp(1j * (i - j) * w)).real for a, b, w in planes_)
                weights.append(math.exp(logit))
            for c, w in enumerate(theta):
                total = sum(p * v_[j][c] * cmath.exp(-1j * (i - j) * w) for j, p in enumerate(weights))
                assert abs(got_[i][c] - total / sum(weights)) < 1e-12


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), values=st.booleans(), seed=st.integers(0, 99))
def test_pieces_equal_the_whole(sizes: list[int], values: bool, seed: int) -> None:
    """Passes that carry on, each of any number of tokens, turn as one pass does; the sum they carry stays in a turn."""
    length = sum(sizes)
    q, k, v = draw(3, 1, HEADS, length, D, seed=seed)
    layer = make(values=values, angles="random-indep", seed=seed, base=1.0)
    x = torch.zeros(1, length, HEADS * D)
    whole = layer.transform(q, k, v, x=x, context=Context.plain(x), state=None)
    state, start, parts = None, 0, []
    for size in sizes:
        rows = slice(start, start + size)
        now = Context.plain(x[:, rows], start)
        part = layer.transform(q[:, :, rows], k[:, :, rows], v[:, :, rows], x=x[:, rows], context=now, state=state)
        state, start = part.state, start + size
        parts.append(part)
        assert all(end.min() >= 0 and end.max() < 2 * math.pi for end in state if end is not None)
    for name in ("q", "k", "v"):
        together = torch.cat([getattr(part, name) for part in parts], dim=2)
        torch.testing.assert_close(together, getattr(whole, name), rtol=0, atol=1e-12)


def test_values_of_their_own_turn() -> None:
    """`random-indep` turns values by other angles than queries and keys; both undo themselves in the output."""
    q, k, v = draw(3, 1, HEADS, T, D)
    x = torch.zeros(1, T, HEADS * D)
    for angles, same in (("random", True), ("random-indep", False)):
        transformed = make(angles=angles, values=True).transform(q, k, q, x=x, context=Context.plain(x), state=None)
        assert torch.allclose(transformed.q, transformed.v) is same
        torch.testing.assert_close(transformed.output(transformed.v), q)
    assert make(angles="random").transform(q, k, v, x=x, context=Context.plain(x), state=None).output is unchanged


def test_every_source_decodes_and_packs() -> None:
    """What the angles depend on, tokens, residual stream, position, reaches them the same way step by step."""
    tokens = torch.randint(0, 17, (2, 11), generator=torch.Generator().manual_seed(0))
    documents = torch.tensor([[0] * 5 + [1] * 6, [0] * 11])
    for angles in ANGLES:
        torch.manual_seed(0)
        options = {"angles": angles, "values": True}
        config = GPTConfig(
            encoding="accumulated-rotation", encoding_options=options, layers=2, heads=2, dim=8, vocab_size=17
        )
        model = GPT(config).eval().double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        whole = model(tokens)
        state = model.start(2)
        first, state = model.step(tokens[:, :4], state)
        second, state = model.step(tokens[:, 4:], state)
        torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=0, atol=1e-9, msg=angles)
        packed = model(tokens, documents)
        torch.testing.assert_close(packed[0, 5:], model(tokens[:1, 5:])[0], rtol=0, atol=1e-9, msg=angles)
        torch.testing.assert_close(packed[1], whole[1], rtol=0, atol=1e-9, msg=angles)


def test_the_names_are_those_of_the_option() -> None:
    assert tuple(ANGLES) == get_args(Source)
    with pytest.raises(UserError, match="angles must be 'fixed'"):
        make(angles="rope")
    with pytest.raises(UserError, match="templates must be at least 1, not 0"):
        make(angles="codebook", templates=0)
    with pytest.raises(UserError, match="must be even, not 7"):
        encodings.create("accumulated-rotation", heads=2, head_dim=7, dim=14)
