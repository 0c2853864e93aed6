"""One query on a CPU against the plain formula: any width, any number of keys, one thread or several."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from compilers import refusing
from outcomes import DIM, HEAD_DIM, HEADS, SCALE, draw, layer
from torch import Tensor

from extrapo.attention import Verdict, attend_encoded, choose
from extrapo.attention.cpu import compiled_attention, row
from extrapo.attention.cpu.row import MIN_LOGITS, CPURow
from extrapo.attention.decode import Decode
from extrapo.bench.contenders import Case, served
from extrapo.encodings import Encoded
from extrapo.encodings.core.bias import NoBias
from extrapo.errors import MachineError

BACKEND = CPURow()

pytestmark = pytest.mark.usefixtures("cpp_compiler")

FLOATS = ((torch.float64, 1e-12), (torch.float32, 3e-6))

#: Each is a formula to compile; one in both precisions.
CASES = [
    *(("k-cable", {}, *of) for of in FLOATS),
    *(
        pytest.param(name, options, *FLOATS[1], marks=pytest.mark.slow)
        for name, options in (
            ("alibi", {}),
            ("cable", {}),
            ("cable-weighted", {}),
            ("fox", {}),
            ("kerple-log", {}),
            ("adaptive", {"alpha_mode": "const"}),
            ("t5", {}),
            ("window+k-cable", {"window": {"window": 9}}),
            ("sinks+alibi", {"sinks": {"window": 9, "sinks": 2}}),
        )
    ),
]


@torch.no_grad()
def decoded(name: str, keys: int, dtype: torch.dtype, batch: int = 2, **options: Any) -> tuple[Encoded, Encoded]:
    """The last of two steps after a prompt in `dtype`, and in float64 by the same numbers."""
    made, found = layer(name, **options), []
    x, qkv = (
        draw(batch, keys, DIM, seed=3, dtype=dtype),
        [draw(batch, HEADS, keys, HEAD_DIM, seed=n, dtype=dtype) for n in range(3)],
    )
    for wide in (dtype, torch.float64):
        made, state = made.to(wide), None
        for part in (slice(0, keys - 2), slice(keys - 2, keys - 1), slice(keys - 1, keys)):
            q, k, v = (t[:, :, part].to(wide) for t in qkv)
            encoded = made.encode(q, k, v, x=x[:, part].to(wide), state=state)
            state = encoded.state
        found.append(encoded)
    return found[0], found[1]


@torch.no_grad()
@pytest.mark.parametrize(("name", "options", "dtype", "off"), CASES)
def test_it_is_the_plain_row(name: str, options: dict[str, Any], dtype: torch.dtype, off: float) -> None:
    """Of fewer keys than a block has, and of more."""
    for keys in (3, 70, 1300):
        encoded, wide = decoded(name, keys, dtype, **options)
        verdict = BACKEND.serves(encoded.bias, encoded.q, encoded.k)
        assert verdict, verdict.reason
        got = BACKEND(encoded.q, encoded.k, encoded.v, encoded.bias, scale=SCALE)
        expected = Decode()(wide.q, wide.k, wide.v, wide.bias, scale=SCALE)
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), expected, rtol=off, atol=off)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("threads", [1, 2])
def test_any_width(dtype: torch.dtype, threads: int) -> None:
    """Whole vectors or not, keys as wide as values or not, as they lie in a cache."""
    encoded, _ = decoded("k-cable", 70, dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for width, values in ((4, 4), (8, 16), (16, 24), (32, 32), (64, 64), (128, 96), (128, 128)):
            q, k, v = (draw(2, HEADS, n, w, dtype=dtype, seed=w) for n, w in ((1, width), (90, width), (90, values)))
            k, v = k[:, :, :70], v[:, :, :70]
            got = BACKEND(q, k, v, encoded.bias, scale=0.2)
            expected = Decode()(q.double(), k.double(), v.double(), encoded.bias, scale=0.2)
            torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
@pytest.mark.parametrize("size", [1.0, 30.0])
def test_a_query_far_from_its_own_key(size: float) -> None:
    """The shift of all logits is the own one's, unless another is larger by more than an exponential holds."""
    encoded, _ = decoded("k-cable", 70, torch.float32)
    q = size * torch.ones(2, HEADS, 1, HEAD_DIM)
    k, v = draw(2, HEADS, 70, HEAD_DIM, dtype=torch.float32), draw(2, HEADS, 70, 3, dtype=torch.float32, seed=1)
    k[:, :, -1], k[:, :, 7] = -size, size
    got = BACKEND(q, k, v, encoded.bias, scale=SCALE)
    expected = Decode()(q.double(), k.double(), v.double(), encoded.bias, scale=SCALE)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
    assert got.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("width", [3, 16])
def test_many_equal_weights_keep_their_digits(width: int) -> None:
    """Added up one by one, 131,072 numbers near 1 would be off by 4e-6."""
    keys = 2**17
    q, k = torch.zeros(1, 1, 1, width), torch.zeros(1, 1, keys, width)
    v = 1 + draw(1, 1, keys, width, dtype=torch.float32) / 8
    got = BACKEND(q, k, v, NoBias(1, 1, keys, q.device), scale=SCALE)
    torch.testing.assert_close(got.double(), v.double().mean(2, keepdim=True), rtol=0, atol=1e-6)


@torch.no_grad()
def test_what_is_no_number_shows() -> None:
    encoded, _ = decoded("k-cable", 70, torch.float32)
    got = BACKEND(encoded.q * torch.nan, encoded.k, encoded.v, encoded.bias, scale=SCALE)
    assert got.isnan().all()


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "dtype", "why"),
    [
        ("nope", torch.float32, "without a bias the stock attention is as fast"),
        ("cope", torch.float32, "the encoding owns its logits"),
        ("k-cable", torch.bfloat16, "keys in half precision would be copied"),
    ],
)
def test_what_it_leaves_to_others(name: str, dtype: torch.dtype, why: str) -> None:
    encoded, _ = decoded(name, 9, dtype)
    assert BACKEND.serves(encoded.bias, encoded.q, encoded.k) == Verdict(False, why)


def test_it_serves_one_query_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded, _ = decoded("k-cable", 9, torch.float32)
    assert BACKEND.serves(encoded.bias, encoded.q, encoded.k).reason == "it has no gradients"
    with torch.no_grad():
        several: Tensor = encoded.q.expand(-1, -1, 2, -1)
        assert BACKEND.serves(encoded.bias, several, encoded.k).reason == "it is for one query on a CPU"
        monkeypatch.setattr(row, "on_all_threads", lambda: None)
        assert "OpenMP" in BACKEND.serves(encoded.bias, encoded.q, encoded.k).reason


@torch.no_grad()
def test_it_is_taken_where_it_pays() -> None:
    encoded, _ = decoded("k-cable", 9, torch.float32)
    many = encoded.k[:, :, :1].expand(-1, -1, MIN_LOGITS // (2 * HEADS), -1)
    assert choose(encoded.bias, encoded.q, many).impl == "cpu-row"
    assert choose(encoded.bias, encoded.q, many[:, :, 1:]).impl == "decode"
    assert served(Case("k-cable", "auto", 2**13, 1), "decode") == "cpu-row"


# -- where nothing can be compiled -----------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.usefixtures("asked_anew")
def test_a_broken_compiler_is_known_before_it_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "/bin/false")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    encoded = long_row("k-cable")
    assert BACKEND.serves(encoded.bias, encoded.q, encoded.k).reason == (
        "the C++ compiler is of no use: /bin/false failed"
    )
    assert choose(encoded.bias, encoded.q, encoded.k).impl == "decode"
    attend_encoded(encoded, scale=SCALE)


@torch.no_grad()
@pytest.mark.usefixtures("asked_anew")
def test_a_formula_that_the_compiler_refuses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, and others take over."""
    refusing(monkeypatch, tmp_path)
    monkeypatch.setattr(compiled_attention, "_refusals", {})
    row.compiled_row.cache_clear()
    encoded = long_row("k-cable")
    assert choose(encoded.bias, encoded.q, encoded.k).impl == "cpu-row"
    with caplog.at_level(logging.WARNING, "extrapo"):
        for _ in range(2):
            got = attend_encoded(encoded, scale=SCALE)
            assert choose(encoded.bias, encoded.q, encoded.k).impl == "decode"
    assert caplog.messages == ["the formula cannot be compiled: error: too long"]
    torch.testing.assert_close(got, attend_encoded(encoded, scale=SCALE, impl="decode"))
    with pytest.raises(MachineError, match="impl 'cpu-row' cannot serve here: the formula cannot be compiled"):
        attend_encoded(long_row("k-cable", torch.float64), scale=SCALE, impl="cpu-row")


def long_row(name: str, dtype: torch.dtype = torch.float32) -> Encoded:
    """One query of keys enough to pay."""
    encoded, _ = decoded(name, 2 + MIN_LOGITS // (2 * HEADS), dtype)
    return encoded
