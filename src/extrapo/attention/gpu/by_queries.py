"""By queries: the backward kernel of dq, delta, and gradients of numbers per query and per head (Dao, 2307.08691).

Nothing is added up in memory: a program owns what it writes. A gradient of a position or of a gate is a small
difference of sums over a row: with the row's mean gradient delta as FlashAttention has it, from the output as it was
rounded, half of a percent of it is wrong in bfloat16. The kernel starts from that one, and adds up in float32 what a
row's gradients come to with it: the rest, which is 0 with the exact one, also where weights from a rounded logarithm of
their sum do not add up to 1. At the end it takes from each sum what the rest comes to; other kernels read the exact
delta.
"""

from __future__ import annotations

from extrapo.attention.gpu.forward import key_ranges
from extrapo.attention.gpu.source import Reading, filled, listed
from extrapo.attention.recorded.kinds import Kind

TEMPLATE = """
@triton.jit
def query_tiles(
    {{q}}, grad, lse, rough, {{dq}}, rest, K, V, k_token, v_token, row, place, keys, scale, begin, end,
    {{sums}}{{passed}}
    CHECKED: tl.constexpr, N: tl.constexpr, WIDTH: tl.constexpr, VALUES: tl.constexpr,
    D: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr,
):
    for start in range(begin, end, N):
        key = start + tl.arange(0, N)
        {{read_keys}}
        {{score}}
        {{columns}}
        {{lines}}
        if CHECKED:
            seen = {{seen}}
        {{weigh}}
        v = tokens(V, key, v_token, keys, CHECKED, VALUES, E)
        {{of_logit}}
        rest += tl.sum(of_logit, 1)
        {{derivatives}}
        {{add}}
        {{of_score}}
        {{add_dq}}
    return {{sum_q}}rest, {{sums}}


@triton.jit
def of_queries(
    Q, K, V, Out, Grad, Lse, Delta, DQ, q_batch, q_head, q_token, k_batch, k_head, k_token, v_batch, v_head, v_token,
    o_batch, o_head, o_token, g_batch, g_head, g_token, dq_batch, dq_head, dq_token,
    heads, group, queries, keys, scale, {{signature}}
    M: tl.constexpr, N: tl.constexpr, WIDTH: tl.constexpr, VALUES: tl.constexpr,
    D: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr,
):
    # The longest rows come first.
    blocks = tl.cdiv(queries, M)
    block = blocks - 1 - tl.program_id(0) % blocks
    first = block * M
    text = (tl.program_id(0) // blocks).to(tl.int64)
    batch, head = text // heads, text % heads
    Q += batch * q_batch + head * q_head
    K += batch * k_batch + head // group * k_head
    V += batch * v_batch + head // group * v_head
    {{pointers}}
    row = first + tl.arange(0, M)
    place = row + keys - queries
    {{own_queries}}
    grad = tokens(Grad + batch * g_batch + head * g_head, row, g_token, queries, True, VALUES, E)
    out = tokens(Out + batch * o_batch + head * o_head, row, o_token, queries, True, VALUES, E)
    rough = tl.sum(out.to(tl.float32) * grad.to(tl.float32), 1)
    lse = tl.load(Lse + text * queries + row, mask=row < queries, other=float("inf"))
    {{origin}}
    {{rows}}
    {{begin_dq}}
    rest = tl.zeros((M,), tl.float32)
    {{zeros}}
    earliest = first + keys - queries
    latest = tl.minimum(earliest + M, keys) - 1
    {{ranges}}
    {{loops}}
    {{keep_dq}}
    tl.store(Delta + text * queries + row, rough + rest, mask=row < queries)
    {{store}}
"""


def of_queries(reading: Reading) -> str:
    """The source of the kernel, of functions in `primitives`."""
    kinds = (Kind.ROW, Kind.NUMBER)
    derivatives, passed, scores = reading.derivatives(*kinds), reading.passed(Kind.ROW), reading.scores
    ranges, loops = key_ranges(reading)
    sums = listed(name for n in derivatives.factors for name in (f"s{n}", f"w{n}"))
    add, store = [], [f"s{n} = tl.zeros((M,), tl.float32)" for n in derivatives.still]
    for n, name in derivatives.factors.items():
        add += [f"s{n} += tl.sum(of_logit * {name}, 1)", f"w{n} += tl.sum(weight * {name}, 1)"]
        store.append(f"s{n} -= rest * w{n}")
    for n in reading.trained_of(*kinds):
        if reading.kinds[n] == Kind.ROW:
            store.append(f"tl.store(G{n} + text * queries + row, s{n}, mask=row < queries)")
        else:
            store.append(f"tl.store(G{n} + text * blocks + block, tl.sum(tl.where(row < queries, s{n}, 0.0), 0))")
    calls = [
        f"{scores.sum_q}rest, {sums}= query_tiles({scores.q}, grad, lse, rough, {scores.dq}, rest, K, V, k_token, "
        f"v_token, row, place, keys, scale, {begin}, {end}, {sums}{passed}{checked}, N, WIDTH, VALUES, D, E, PRECISION)"
        for begin, end, checked in loops
    ]
    return filled(
        TEMPLATE,
        signature=reading.signature(*kinds),
        passed=passed,
        q=scores.q,
        dq=scores.dq,
        sum_q=scores.sum_q,
        own_queries=scores.own_queries,
        read_keys=scores.keys,
        score=scores.by_queries,
        of_logit=scores.of_logit,
        begin_dq=scores.begin_dq,
        add_dq=scores.add_dq,
        keep_dq=scores.keep_dq,
        sums=sums,
        pointers=reading.move_pointers(),
        origin=reading.origin("first", Kind.ROW),
        rows=reading.read(Kind.ROW, "row", "queries", "True", "[:, None]"),
        columns=reading.read(Kind.COLUMN, "key", "keys", "CHECKED", "[None, :]"),
        lines=reading.read_lines("place[:, None]", "key[None, :]"),
        seen=reading.seen("place[:, None]", "key[None, :]"),
        weigh=reading.weigh("lse[:, None]"),
        derivatives=derivatives.lines,
        add="\n".join(add),
        of_score=reading.of_score(),
        zeros="\n".join(
            f"s{n} = tl.zeros((M,), tl.float32)\nw{n} = tl.zeros((M,), tl.float32)" for n in derivatives.factors
        ),
        ranges=ranges,
        loops="\n".join(calls),
        store="\n".join(store),
    )
