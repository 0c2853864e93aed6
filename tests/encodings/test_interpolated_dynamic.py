"""Dynamic NTK, YaRN and LongRoPE against their formulas, row by row, and over the lengths of decoding."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.attention import attend, tiling
from extrapo.encodings import Context
from extrapo.encodings.interpolated import Interpolated
from extrapo.encodings.interpolated_dynamic import Dynamic
from extrapo.errors import UserError

D, T, L0, SCALE = 8, 13, 5, 0.3
NAMES = ["dynamic-ntk", "dynamic-yarn", "dynamic-longrope"]
SHAPE = {"heads": 2, "head_dim": D, "dim": 16, "train_length": L0}


def draw(seed: int, length: int = T) -> Tensor:
    return torch.randn(1, 2, length, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logits(layer: Dynamic | Interpolated, q: Tensor, k: Tensor, context: Context | None = None) -> Tensor:
    """The lower triangle of the logits, (2, T, T)."""
    x = torch.zeros(1, q.size(2), 16, dtype=torch.float64)
    context = context or Context.plain(x)
    out = layer.transform(q, k, k, x=x, context=context, state=None)
    return layer.bias(x, None, context).score_rows(out.q, out.k, SCALE, slice(0, q.size(2)))[0].tril()


def frequency(name: str, c: int, r: float) -> float:
    """theta_c(r) of the defaults."""
    own = 10_000.0 ** (-2 * c / D)
    if name == "dynamic-ntk":
        return (10_000.0 * r ** (D / (D - 2))) ** (-2 * c / D)
    if name == "dynamic-longrope":
        return own / (1 + (4 ** (2 * c / (D - 2)) - 1) * (r - 1) / (4 - 1))
    low = max(math.floor(D * math.log(L0 / (32 * 2 * math.pi)) / (2 * math.log(10_000))), 0)
    high = max(math.ceil(D * math.log(L0 / (2 * math.pi)) / (2 * math.log(10_000))), 0)
    ramp = min(max((c - low) / (high - low or 0.001), 0), 1)
    return own * (1 - ramp) + own / r * ramp


def magnitude(name: str, r: float) -> float:
    if name == "dynamic-yarn":
        return 0.1 * math.log(r) + 1
    return math.sqrt(1 + math.log(4) / math.log(L0)) if name == "dynamic-longrope" else 1.0


def plain(name: str, q: Tensor, k: Tensor, seen: Callable[[int], int], gap: int = 1) -> Tensor:
    """Pair by pair, over the positions 0, gap, 2 gap, ...; row i goes by the length seen(i)."""
    rows = []
    for i in range(q.size(2)):
        r = max(1.0, seen(i) / L0)
        for j in range(q.size(2)):
            total = torch.zeros(2, dtype=torch.float64)
            for c in range(D // 2):
                turn = gap * (i - j) * frequency(name, c, r)
                a, b, x, y = q[0, :, i, c], q[0, :, i, c + D // 2], k[0, :, j, c], k[0, :, j, c + D // 2]
                total = total + (a * x + b * y) * math.cos(turn) - (b * x - a * y) * math.sin(turn)
            rows.append(SCALE * magnitude(name, r) ** 2 * total)
    return torch.stack(rows, dim=-1).view(2, q.size(2), q.size(2)).tril()


@pytest.mark.parametrize("name", NAMES)
def test_each_row_goes_by_the_length_that_it_sees(name: str) -> None:
    """In values and gradients; the rows up to L0 and those beyond it take different ways."""
    layer = encodings.create(name, **SHAPE)
    q, k = draw(0).requires_grad_(), draw(1).requires_grad_()
    got, expected = logits(layer, q, k), plain(name, q, k, lambda i: i + 1)
    torch.testing.assert_close(got, expected)
    receive = torch.randn(2, T, T, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    wanted = torch.autograd.grad((expected * receive).sum(), (q, k))
    for mine, theirs in zip(torch.autograd.grad((got * receive).sum(), (q, k)), wanted, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [L0, T])
def test_the_length_of_the_pass(name: str, length: int) -> None:
    """The authors' code; up to L0, and on the last row, it is the same."""
    whole, rows = (encodings.create(name, **SHAPE, length=kind) for kind in ("pass", "row"))
    q, k = draw(0, length), draw(1, length)
    got, causal = logits(whole, q, k), logits(rows, q, k)
    torch.testing.assert_close(got, plain(name, q, k, lambda i: length))
    torch.testing.assert_close(got[:, -1], causal[:, -1])
    assert torch.allclose(got, causal) is (length <= L0)
    assert set(whole.exemptions()) == {"decoding", "packing"}
    assert not rows.exemptions()


@pytest.mark.parametrize(("name", "static"), [("dynamic-ntk", "ntk"), ("dynamic-yarn", "yarn")])
def test_the_last_row_is_that_of_the_fixed_factor(name: str, static: str) -> None:
    q, k = draw(0), draw(1)
    fixed = encodings.create(static, **SHAPE, factor=T / L0)
    torch.testing.assert_close(logits(encodings.create(name, **SHAPE), q, k)[:, -1], logits(fixed, q, k)[:, -1])


def test_longrope_reaches_its_searched_factors_at_s_times_the_original_length() -> None:
    factors = [1.0, 1.5, 2.0, 2.6]
    q, k = draw(0), draw(1)
    dynamic, fixed = (
        encodings.create(name, **SHAPE, factor=T / L0, factors=factors) for name in ("dynamic-longrope", "longrope")
    )
    torch.testing.assert_close(logits(dynamic, q, k)[:, -1], logits(fixed, q, k)[:, -1])


@pytest.mark.parametrize("s", [1.0, 2.0, 8.0])
def test_dynamic_ntk_with_a_factor(s: float) -> None:
    """base (s L/L0 - (s - 1))^(d/(d-2)) is NTK at that factor."""
    q, k = draw(0), draw(1)
    fixed = encodings.create("ntk", **SHAPE, factor=s * T / L0 - (s - 1))
    dynamic = encodings.create("dynamic-ntk", **SHAPE, factor=s)
    torch.testing.assert_close(logits(dynamic, q, k)[:, -1], logits(fixed, q, k)[:, -1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_tiles_and_steps_of_decoding_equal_the_whole(name: str, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles with one set of frequencies and tiles with many, and rows one at a time over keys that stay as they are."""
    layer = encodings.create(name, **SHAPE, layout=layout)
    q, k, v = draw(0, 40), draw(1, 40), draw(2, 40)
    x = torch.zeros(1, 40, 16, dtype=torch.float64)
    bias = layer.bias(x)
    expected = attend(q, k, v, bias, scale=SCALE, impl="reference")
    monkeypatch.setattr(tiling, "MAX_ROWS", 4)
    torch.testing.assert_close(attend(q, k, v, bias, scale=SCALE, impl="tiles"), expected)
    past = None
    for t in range(40):
        past = layer.bias(x[:, t : t + 1], past)
        row = attend(q[:, :, t : t + 1], k[:, :, : t + 1], v[:, :, : t + 1], past, scale=SCALE)
        torch.testing.assert_close(row[:, :, 0], expected[:, :, t])


@pytest.mark.parametrize("name", NAMES)
def test_the_length_is_the_span_of_the_positions(name: str) -> None:
    """Positions that start elsewhere change nothing; positions with gaps count the gaps."""
    layer = encodings.create(name, **SHAPE)
    q, k = draw(0), draw(1)
    context = Context.plain(torch.zeros(1, T, 16, dtype=torch.float64))
    there = replace(context, index=context.index + 1000)
    torch.testing.assert_close(logits(layer, q, k, there), logits(layer, q, k, context))
    gaps = replace(context, index=context.index * 3)
    torch.testing.assert_close(logits(layer, q, k, gaps), plain(name, q, k, lambda i: 3 * i + 1, gap=3))


def test_mistakes_are_one_line() -> None:
    with pytest.raises(UserError, match="'dynamic-ntk': factor must be positive, not 0"):
        encodings.create("dynamic-ntk", **SHAPE, factor=0.0)
    with pytest.raises(UserError, match="'dynamic-longrope': factor must be above 1, not 1"):
        encodings.create("dynamic-longrope", **SHAPE, factor=1.0)
    with pytest.raises(UserError, match=r"'dynamic-yarn'.*must be even, not 7"):
        encodings.create("dynamic-yarn", heads=2, head_dim=7, dim=14)


def test_longrope_switches_from_its_short_factors_to_the_long_ones() -> None:
    short, long = [1.0, 1.1, 1.2, 1.3], [1.0, 1.5, 2.0, 7.0]
    layer = encodings.create("dynamic-longrope", **SHAPE, factor=4.0, factors=long, short_factors=short)
    r = torch.tensor([1.0, 1.01, 4.0], dtype=torch.float64)
    plain = [10_000.0 ** (-c / 4) for c in range(4)]
    expected = [[f / by for f, by in zip(plain, factors, strict=True)] for factors in (short, long, long)]
    torch.testing.assert_close(layer.theta(r), torch.tensor(expected, dtype=torch.float64))  # type: ignore[operator]


def test_dynamic_yarns_factor_may_be_given() -> None:
    layer = encodings.create("dynamic-yarn", **SHAPE, attention_factor=1.5, truncate=False)
    assert layer.magnitude(torch.tensor([1.0, 3.0])).tolist() == [1.5, 1.5]  # type: ignore[operator]
