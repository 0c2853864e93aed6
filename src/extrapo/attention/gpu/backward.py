"""Backward: two kernels, by queries and by keys, which add nothing up in memory (Dao, 2307.08691), as Triton.

A gradient of a position or of a gate is a small difference of sums over a row: with the row's mean gradient delta as
FlashAttention has it, from the output as it was rounded, half of a percent of it is wrong in bfloat16. Here the kernel
of queries adds up delta itself, in float32, from what it is the mean of. It starts from the rounded one, and at the end
takes from each sum what the difference comes to; the kernel of keys reads the exact one.
"""

from __future__ import annotations

from extrapo.attention.gpu.forward import key_ranges
from extrapo.attention.gpu.source import Derivatives, Reading, filled
from extrapo.attention.recorded.kinds import Kind

OF_QUERIES = """
@triton.jit
def query_tiles(
    q, grad, lse, rough, dq, delta, K, V, k_token, v_token, row, place, keys, scale, begin, end,
    {{sums}}{{passed}}{{windows}}
    CHECKED: tl.constexpr, N: tl.constexpr, WIDTH: tl.constexpr, VALUES: tl.constexpr,
    D: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr,
):
    for start in range(begin, end, N):
        key = start + tl.arange(0, N)
        k = tokens(K, key, k_token, keys, CHECKED, WIDTH, D)
        score = dot(q, tl.trans(k), PRECISION) * scale
        {{columns}}
        {{weights}}
        weight = tl.exp2({{logit}} * LOG2_E - lse[:, None])
        {{divide}}
        if CHECKED:
            seen = {{seen}}
            weight = tl.where(seen, weight, 0.0)
        v = tokens(V, key, v_token, keys, CHECKED, VALUES, E)
        of_weight = dot(grad, tl.trans(v), PRECISION)
        product = weight * of_weight
        delta += tl.sum(product, 1)
        of_logit = product - weight * rough[:, None]
        {{derivatives}}
        {{add}}
        {{of_score}}
        dq += dot(of_score.to(k.dtype), k, PRECISION)
    return dq, delta, {{sums}}


@triton.jit
def of_queries(
    Q, K, V, Out, Grad, Lse, Delta, DQ, q_batch, q_head, q_token, k_batch, k_head, k_token, v_batch, v_head, v_token,
    o_batch, o_head, o_token, g_batch, g_head, g_token, dq_batch, dq_head, dq_token,
    heads, group, queries, keys, scale, {{signature}}{{received}}
    M: tl.constexpr, N: tl.constexpr, WIDTH: tl.constexpr, VALUES: tl.constexpr,
    D: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr,
):
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
    q = tokens(Q, row, q_token, queries, True, WIDTH, D)
    grad = tokens(Grad + batch * g_batch + head * g_head, row, g_token, queries, True, VALUES, E)
    out = tokens(Out + batch * o_batch + head * o_head, row, o_token, queries, True, VALUES, E)
    rough = tl.sum(out.to(tl.float32) * grad.to(tl.float32), 1)
    lse = tl.load(Lse + text * queries + row, mask=row < queries, other=float("inf"))
    {{origin}}
    {{rows}}
    dq = tl.zeros((M, D), tl.float32)
    delta = tl.zeros((M,), tl.float32)
    {{zeros}}
    earliest = first + keys - queries
    latest = tl.minimum(earliest + M, keys) - 1
    {{ranges}}
    {{loops}}
    keep(DQ + batch * dq_batch + head * dq_head, row, dq_token, queries, dq * scale, WIDTH, D)
    tl.store(Delta + text * queries + row, delta, mask=row < queries)
    {{store}}
"""

OF_KEYS = """
@triton.jit
def key_tiles(
    k, v, dk, dv, Q, Grad, Lse, Delta, q_token, g_token, key, past, queries, scale, begin, end,
    {{sums}}{{passed}}{{windows}}
    CHECKED: tl.constexpr, M: tl.constexpr, WIDTH: tl.constexpr, VALUES: tl.constexpr,
    D: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr,
):
    for start in range(begin, end, M):
        row = start + tl.arange(0, M)
        place = row + past
        q = tokens(Q, row, q_token, queries, CHECKED, WIDTH, D)
        score = dot(k, tl.trans(q), PRECISION) * scale
        lse = numbers(Lse, row, queries, CHECKED)
        {{rows}}
        {{weights}}
        weight = tl.exp2({{logit}} * LOG2_E - lse[None, :])
        {{divide}}
        if CHECKED:
            seen = ({{seen}}) & (row[None, :] < queries)
            weight = tl.where(seen, weight, 0.0)
        grad = tokens(Grad, row, g_token, queries, CHECKED, VALUES, E)
        dv += dot(weight.to(grad.dtype), grad, PRECISION)
        of_weight = dot(v, tl.trans(grad), PRECISION)
        delta = numbers(Delta, row, queries, CHECKED)
        of_logit = weight * (of_weight - delta[None, :])
        {{derivatives}}
        {{add}}
        {{of_score}}
        dk += dot(of_score.to(q.dtype), q, PRECISION)
    return dk, dv, {{sums}}


@triton.jit
def of_keys(
    Q, K, V, Grad, Lse, Delta, DK, DV, q_batch, q_head, q_token, k_batch, k_head, k_token, v_batch, v_head, v_token,
    g_batch, g_head, g_token, dk_batch, dk_head, dk_token, dv_batch, dv_head, dv_token,
    heads, group, queries, keys, scale, {{signature}}{{received}}
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
    k = tokens(K + batch * k_batch + own * k_head, key, k_token, keys, True, WIDTH, D)
    v = tokens(V + batch * v_batch + own * v_head, key, v_token, keys, True, VALUES, E)
    dk = tl.zeros((N, D), tl.float32)
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
    keep(DK + batch * dk_batch + own * dk_head, key, dk_token, keys, dk * scale, WIDTH, D)
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


def of_queries(reading: Reading) -> str:
    """The source of the kernel of dq, delta, and gradients of numbers per query and per head."""
    weights, derivatives = reading.weights(), reading.derivatives(Kind.ROW, Kind.NUMBER)
    sums = [name for n in derivatives.factors for name in (f"s{n}", f"w{n}")]
    passed, windows, ranges, loops = *arguments(reading, Kind.ROW), *key_ranges(reading)
    add, store = [], []
    for n, name in derivatives.factors.items():
        add += [of_pairs(f"d{n}", name), f"s{n} += tl.sum(of_logit * d{n}, 1)", f"w{n} += tl.sum(weight * d{n}, 1)"]
        store.append(f"s{n} -= (delta - rough) * w{n}")
        if reading.kinds[n] == Kind.ROW:
            store.append(f"tl.store(G{n} + text * queries + row, s{n}, mask=row < queries)")
        else:
            store.append(f"tl.store(G{n} + text * blocks + block, tl.sum(tl.where(row < queries, s{n}, 0.0), 0))")
    results = "".join(f"{x}, " for x in sums)
    calls = [
        f"dq, delta, {results}= query_tiles(q, grad, lse, rough, dq, delta, K, V, k_token, v_token, row, place, keys, "
        f"scale, {begin}, {end}, {results}{passed}{windows}{checked}, N, WIDTH, VALUES, D, E, PRECISION)"
        for begin, end, checked in loops
    ]
    return filled(
        OF_QUERIES,
        signature=reading.signature(),
        received=received(derivatives),
        passed=passed,
        windows=windows,
        sums=results,
        pointers=reading.move_pointers(),
        origin=reading.origin("first", Kind.ROW),
        rows=reading.read(Kind.ROW, "row", "queries", "True", "[:, None]"),
        columns=reading.read(Kind.COLUMN, "key", "keys", "CHECKED", "[None, :]"),
        weights=weights.lines,
        logit=weights.logit,
        divide="\n".join(f"weight = weight / {divisor}" for divisor in weights.divisors),
        seen=reading.seen("place[:, None]", "key[None, :]"),
        derivatives=derivatives.lines,
        add="\n".join(add),
        of_score=of_score(derivatives),
        zeros="\n".join(f"{name} = tl.zeros((M,), tl.float32)" for name in sums),
        ranges=ranges,
        loops="\n".join(calls),
        store="\n".join(store),
    )


def of_keys(reading: Reading) -> str:
    """The source of the kernel of dk, dv, and gradients of numbers per key."""
    weights, derivatives = reading.weights(), reading.derivatives(Kind.COLUMN)
    sums = [f"s{n}" for n in derivatives.factors]
    passed, windows = arguments(reading, Kind.COLUMN)
    add, store = [], []
    for n, name in derivatives.factors.items():
        add += [of_pairs(f"d{n}", name), f"s{n} += tl.sum(of_logit * d{n}, 1)"]
        store.append(f"tl.store(G{n} + (batch * heads + head) * keys + key, s{n}, mask=key < keys)")
    results = "".join(f"{x}, " for x in sums)
    calls = [
        f"dk, dv, {results}= key_tiles(k, v, dk, dv, queries_here, grad_here, lse_here, delta_here, q_token, g_token, "
        f"key, past, queries, scale, {begin}, {end}, {results}{passed}{windows}{checked}, M, WIDTH, VALUES, D, E, "
        "PRECISION)"
        for begin, end, checked in (("low", "full", True), ("full", "whole", False), ("whole", "stop", True))
    ]
    return filled(
        OF_KEYS,
        signature=reading.signature(),
        received=received(derivatives),
        passed=passed,
        windows=windows,
        sums=results,
        pointers=reading.move_pointers(),
        origin=reading.origin("first", Kind.COLUMN),
        rows=reading.read(Kind.ROW, "row", "queries", "CHECKED", "[None, :]"),
        columns=reading.read(Kind.COLUMN, "key", "keys", "True", "[:, None]"),
        weights=weights.lines,
        logit=weights.logit,
        divide="\n".join(f"weight = weight / {divisor}" for divisor in weights.divisors),
        seen=reading.seen("place[None, :]", "key[:, None]"),
        derivatives=derivatives.lines,
        add="\n".join(add),
        of_score=of_score(derivatives),
        zeros="\n".join(f"{name} = tl.zeros((N,), tl.float32)" for name in sums),
        ranges=(WINDOW if reading.levels else ALL_QUERIES).strip(),
        loops="\n".join(calls),
        store="\n".join(store),
    )


def arguments(reading: Reading, kind: Kind) -> tuple[str, str]:
    """What a tile's function is given of factors, those of `kind` read already, and of windows."""
    return "".join(f"{x}, " for x in reading.passed(kind)), "".join(f"{x}, " for x in reading.windows)


def received(derivatives: Derivatives) -> str:
    """The arguments of a kernel for gradients of factors."""
    return "".join(f"G{n}, " for n in derivatives.factors)


def of_pairs(name: str, derivative: str) -> str:
    """A derivative that is 0 where a key is not seen: there a formula may have none."""
    return f"{name} = {derivative}\nif CHECKED:\n    {name} = tl.where(seen, {derivative}, 0.0)"


def of_score(derivatives: Derivatives) -> str:
    """The gradient of scores from that of logits."""
    plain = derivatives.score == "1.0"
    if plain:
        return "of_score = of_logit"
    return f"of_score = of_logit * {derivatives.score}\nif CHECKED:\n    of_score = tl.where(seen, of_score, 0.0)"
