"""By keys: the backward kernel of dk, dv, and gradients of numbers per key (Dao, 2307.08691).

It reads the exact delta that the kernel of queries left. A token's position is that of a query and of a key: where the
first of the two kernels has written what its query gets, this one takes from it what its key does.
"""

from __future__ import annotations

from extrapo.attention.gpu.source import Reading, filled, listed
from extrapo.attention.recorded.kinds import Kind

TEMPLATE = """
@triton.jit
def key_tiles(
    {{k}}, v, {{dk}}, dv, Q, Grad, Lse, Delta, q_token, g_token, key, past, queries, keys, scale, begin, end,
    {{sums}}{{passed}}
    CHECKED: tl.constexpr, M: tl.constexpr, WIDTH: tl.constexpr, VALUES: tl.constexpr,
    D: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr,
):
    for start in range(begin, end, M):
        row = start + tl.arange(0, M)
        place = row + past
        {{read_queries}}
        {{score}}
        lse = numbers(Lse, row, 1, queries, CHECKED)
        {{rows}}
        {{lines}}
        if CHECKED:
            seen = ({{seen}}) & (row[None, :] < queries)
        {{weigh}}
        grad = tokens(Grad, row, g_token, queries, CHECKED, VALUES, E)
        dv += dot(weight.to(grad.dtype), grad, PRECISION)
        of_weight = dot(v, tl.trans(grad), PRECISION)
        delta = numbers(Delta, row, 1, queries, CHECKED)
        of_logit = weight * (of_weight - delta[None, :])
        {{derivatives}}
        {{add}}
        {{of_score}}
        {{add_dk}}
    return {{sum_k}}dv, {{sums}}


@triton.jit
def of_keys(
    Q, K, V, Grad, Lse, Delta, DK, DV, q_batch, q_head, q_token, k_batch, k_head, k_token, v_batch, v_head, v_token,
    g_batch, g_head, g_token, dk_batch, dk_head, dk_token, dv_batch, dv_head, dv_token,
    heads, group, queries, keys, scale, {{signature}}
    M: tl.constexpr, N: tl.constexpr, WIDTH: tl.constexpr, VALUES: tl.constexpr,
    D: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr,
):
    blocks = tl.cdiv(keys, N)
    first = tl.program_id(0) % blocks * N
    text = (tl.program_id(0) // blocks).to(tl.int64)
    kept = heads // group
    batch, own = text // kept, text % kept
    key = first + tl.arange(0, N)
    past = keys - queries
    K += batch * k_batch + own * k_head
    {{own_keys}}
    v = tokens(V + batch * v_batch + own * v_head, key, v_token, keys, True, VALUES, E)
    {{begin_dk}}
    dv = tl.zeros((N, E), tl.float32)
    last = tl.minimum(first + N, keys) - 1
    {{ranges}}
    # Of the queries' heads that share these keys.
    for member in range(group):
        head = own * group + member
        queries_here = Q + batch * q_batch + head * q_head
        grad_here = Grad + batch * g_batch + head * g_head
        lse_here = Lse + (batch * heads + head) * queries
        delta_here = Delta + (batch * heads + head) * queries
        {{pointers}}
        {{origin}}
        {{columns}}
        {{zeros}}
        {{loops}}
        {{store}}
    {{keep_dk}}
    keep(DV + batch * dv_batch + own * dv_head, key, dv_token, keys, dv, VALUES, E)
"""

#: Which queries see a block of keys: begin, and from where on all of its keys are seen by all.
ALL_QUERIES = """
low = tl.maximum(first - past, 0) // M * M
full = tl.minimum(tl.maximum(tl.cdiv(tl.maximum(first + N - 1 - past, 0), M) * M, low), tl.cdiv(queries, M) * M)
whole = tl.maximum(queries // M * M, full)
stop = queries
"""
WINDOW = """
low = tl.maximum(first - past, 0) // M * M
stop = tl.minimum(queries, tl.maximum(last + near - past, 0))
stop = tl.where(first < sinks, queries, stop)
full = tl.minimum(tl.maximum(tl.cdiv(tl.maximum(first + N - 1 - past, 0), M) * M, low), tl.cdiv(stop, M) * M)
whole = tl.maximum(tl.maximum(tl.minimum(queries, first + near - past), 0) // M * M, full)
whole = tl.minimum(whole, tl.maximum(tl.cdiv(stop, M) * M, full))
"""


def of_keys(reading: Reading) -> str:
    """The source of the kernel, of functions in `primitives`."""
    derivatives, passed, scores = reading.derivatives(Kind.COLUMN), reading.passed(Kind.COLUMN), reading.scores
    sums = listed(f"s{n}" for n in derivatives.factors)
    store = []
    for n in derivatives.factors:
        place = f"G{n} + (batch * heads + head) * keys + key"
        before = f"tl.load({place}, mask=key < keys, other=0.0) - " if reading.wide and n == 1 else ""
        store.append(f"tl.store({place}, {before}s{n}, mask=key < keys)")
    calls = [
        f"{scores.sum_k}dv, {sums}= key_tiles({scores.k}, v, {scores.dk}, dv, queries_here, grad_here, lse_here, "
        f"delta_here, q_token, g_token, key, past, queries, keys, scale, {begin}, {end}, {sums}{passed}{checked}, M, "
        "WIDTH, VALUES, D, E, PRECISION)"
        for begin, end, checked in (("low", "full", True), ("full", "whole", False), ("whole", "stop", True))
    ]
    return filled(
        TEMPLATE,
        signature=reading.signature(Kind.COLUMN),
        passed=passed,
        k=scores.k,
        dk=scores.dk,
        sum_k=scores.sum_k,
        own_keys=scores.own_keys,
        read_queries=scores.queries,
        score=scores.by_keys,
        begin_dk=scores.begin_dk,
        add_dk=scores.add_dk,
        keep_dk=scores.keep_dk,
        sums=sums,
        pointers=reading.move_pointers(),
        origin=reading.origin("first", Kind.COLUMN),
        rows=reading.read(Kind.ROW, "row", "queries", "CHECKED", "[None, :]"),
        columns=reading.read(Kind.COLUMN, "key", "keys", "True", "[:, None]"),
        lines=reading.read_lines("place[None, :]", "key[:, None]"),
        seen=reading.seen("place[None, :]", "key[:, None]"),
        weigh=reading.weigh("lse[None, :]"),
        derivatives=derivatives.lines,
        add="\n".join(f"s{n} += tl.sum(of_logit * {name}, 1)" for n, name in derivatives.factors.items()),
        of_score=reading.of_score(),
        zeros="\n".join(f"s{n} = tl.zeros((N,), tl.float32)" for n in derivatives.factors),
        ranges=(WINDOW if reading.levels else ALL_QUERIES).strip(),
        loops="\n".join(calls),
        store="\n".join(store),
    )
