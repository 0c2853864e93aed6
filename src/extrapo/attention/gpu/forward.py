"""Forward: one block of queries over the keys that it sees (FlashAttention, Dao, 2307.08691), as Triton.

A tile's weights are e^(a - largest a so far) / b / ... of logits a - ln b - ...: a logarithm under an exponential is
computed neither way. What is kept of a row is the output and the logarithm, to base 2, of its sum.
"""

from __future__ import annotations

from extrapo.attention.gpu.source import Reading, divided, filled, hidden
from extrapo.attention.recorded.kinds import Kind

TEMPLATE = """
@triton.jit
def forward_tiles(
    {{q}}, largest, total, out, K, V, k_token, v_token, row, place, keys, scale, begin, end,
    {{passed}}
    CHECKED: tl.constexpr, N: tl.constexpr, WIDTH: tl.constexpr, VALUES: tl.constexpr,
    D: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr,
):
    for start in range(begin, end, N):
        key = start + tl.arange(0, N)
        {{read_keys}}
        {{score}}
        {{columns}}
        {{lines}}
        {{weights}}
        logit = {{logit}} * LOG2_E
        if CHECKED:
            seen = {{seen}}
            logit = tl.where(seen, logit, float("-inf"))
        highest = tl.maximum(largest, tl.max(logit, 1))
        # Finite where a row has seen nothing yet.
        pivot = tl.where(highest == float("-inf"), 0.0, highest)
        weight = tl.exp2(logit - pivot[:, None])
        {{divide}}
        {{hide}}
        fade = tl.exp2(largest - pivot)
        total = total * fade + tl.sum(weight, 1)
        v = tokens(V, key, v_token, keys, CHECKED, VALUES, E)
        out = out * fade[:, None] + dot(weight.to(v.dtype), v, PRECISION)
        largest = highest
    return largest, total, out


@triton.jit
def forward(
    Q, K, V, Out, Lse, q_batch, q_head, q_token, k_batch, k_head, k_token, v_batch, v_head, v_token,
    o_batch, o_head, o_token, heads, group, queries, keys, scale, {{signature}}
    M: tl.constexpr, N: tl.constexpr, WIDTH: tl.constexpr, VALUES: tl.constexpr,
    D: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr,
):
    # The longest rows come first.
    blocks = tl.cdiv(queries, M)
    first = (blocks - 1 - tl.program_id(0) % blocks) * M
    text = tl.program_id(0) // blocks
    batch, head = (text // heads).to(tl.int64), (text % heads).to(tl.int64)
    Q += batch * q_batch + head * q_head
    K += batch * k_batch + head // group * k_head
    V += batch * v_batch + head // group * v_head
    {{pointers}}
    row = first + tl.arange(0, M)
    place = row + keys - queries
    {{own_queries}}
    {{origin}}
    {{rows}}
    largest = tl.full((M,), float("-inf"), tl.float32)
    total = tl.zeros((M,), tl.float32)
    out = tl.zeros((M, E), tl.float32)
    earliest = first + keys - queries
    latest = tl.minimum(earliest + M, keys) - 1
    {{ranges}}
    {{loops}}
    Out += batch * o_batch + head * o_head
    keep(Out, row, o_token, queries, out / total[:, None], VALUES, E)
    lse = largest + tl.log2(total)
    tl.store(Lse + (batch * heads + head) * queries + row, lse, mask=row < queries)
"""

#: What stands before a query of a block that all of its queries see, and no other block on the way there.
ALL_KEYS = """
whole = tl.minimum((earliest + 1) // N * N, keys // N * N)
"""
WINDOW = """
low = tl.maximum(earliest - near + 1, 0) // N * N
inner = tl.maximum(tl.cdiv(tl.maximum(latest - near + 1, 0), N) * N, low)
inner = tl.minimum(inner, tl.cdiv(latest + 1, N) * N)
whole = tl.maximum(tl.minimum((earliest + 1) // N * N, keys // N * N), inner)
first_keys = tl.minimum(sinks, low)
"""


def key_ranges(reading: Reading) -> tuple[str, list[tuple[str, str, bool]]]:
    """Which keys a block of queries visits, as statements; (begin, end, whether some are out of sight) of each loop."""
    if not reading.levels:
        return ALL_KEYS.strip(), [("0", "whole", False), ("whole", "latest + 1", True)]
    loops = [
        ("0", "first_keys", True),
        ("low", "inner", True),
        ("inner", "whole", False),
        ("whole", "latest + 1", True),
    ]
    return WINDOW.strip(), loops


def forward(reading: Reading) -> str:
    """The source of the forward kernel, of functions in `primitives`."""
    weights, passed, scores = reading.weights(), reading.passed(Kind.ROW), reading.scores
    ranges, loops = key_ranges(reading)
    calls = [
        f"largest, total, out = forward_tiles({scores.q}, largest, total, out, K, V, k_token, v_token, row, place, "
        f"keys, scale, {begin}, {end}, {passed}{checked}, N, WIDTH, VALUES, D, E, PRECISION)"
        for begin, end, checked in loops
    ]
    return filled(
        TEMPLATE,
        signature=reading.signature(),
        passed=passed,
        q=scores.q,
        own_queries=scores.own_queries,
        read_keys=scores.keys,
        score=scores.by_queries,
        pointers=reading.move_pointers(),
        origin=reading.origin("first", Kind.ROW),
        rows=reading.read(Kind.ROW, "row", "queries", "True", "[:, None]"),
        columns=reading.read(Kind.COLUMN, "key", "keys", "CHECKED", "[None, :]"),
        lines=reading.read_lines("place[:, None]", "key[None, :]"),
        weights=weights.lines,
        logit=weights.logit,
        divide=divided(weights.divisors),
        hide=hidden("weight") if weights.divisors else "",
        seen=reading.seen("place[:, None]", "key[None, :]"),
        ranges=ranges,
        loops="\n".join(calls),
    )
