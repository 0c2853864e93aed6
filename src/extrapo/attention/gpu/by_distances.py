"""By distances: the backward kernel of lines, numbers that a logit reads by the distance (T5's buckets, 1910.10683).

The turns of a score's planes are such numbers as well. What a distance gets is a sum along a diagonal. A program owns a
band of diagonals, of M queries after one another the squares of M keys at one distance: their tiles add up as they are,
pair by pair, and the sums along the diagonals are taken once, at the end. Each square touches 2M - 1 diagonals, so that
a distance has two parts, from two programs: two numbers in memory, and no place that two programs write.
"""

from __future__ import annotations

from extrapo.attention.gpu.source import Reading, filled
from extrapo.attention.recorded.kinds import Kind

TEMPLATE = """
@triton.jit
def of_distances(
    Q, K, V, Grad, Lse, Delta, q_batch, q_head, q_token, k_batch, k_head, k_token, v_batch, v_head, v_token,
    g_batch, g_head, g_token,
    heads, group, queries, keys, scale, {{signature}}
    M: tl.constexpr, N: tl.constexpr, WIDTH: tl.constexpr, VALUES: tl.constexpr,
    D: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr,
):
    CHECKED: tl.constexpr = True
    blocks = tl.cdiv(keys, M) + 1
    # The longest diagonals come first.
    band = tl.program_id(0) % blocks
    text = (tl.program_id(0) // blocks).to(tl.int64)
    batch, head = text // heads, text % heads
    Q += batch * q_batch + head * q_head
    K += batch * k_batch + head // group * k_head
    V += batch * v_batch + head // group * v_head
    Grad += batch * g_batch + head * g_head
    Lse += text * queries
    Delta += text * queries
    {{pointers}}
    past = keys - queries
    {{zeros}}
    {{ranges}}
    for start in range(begin, end, M):
        row = start + tl.arange(0, M)
        place = row + past
        key = start + past - band * M + tl.arange(0, M)
        {{score}}
        lse = numbers(Lse, row, 1, queries, CHECKED)
        {{origin}}
        {{rows}}
        {{columns}}
        {{lines}}
        seen = ({{seen}}) & (row[:, None] < queries) & (key[None, :] >= 0)
        {{weigh}}
        # Before the text there is nothing to read.
        v = tokens(V, tl.where(key < 0, keys, key), v_token, keys, CHECKED, VALUES, E)
        grad = tokens(Grad, row, g_token, queries, CHECKED, VALUES, E)
        of_weight = dot(grad, tl.trans(v), PRECISION)
        delta = numbers(Delta, row, 1, queries, CHECKED)
        of_logit = weight * (of_weight - delta[:, None])
        {{derivatives}}
        {{of_score}}
        {{add}}
    # Diagonal c of each row, in column c: at and after it those of this band, before it of the one nearer.
    down = tl.arange(0, M)[:, None] - tl.arange(0, M)[None, :]
    distance = band * M + tl.arange(0, M)
    {{store}}
"""

#: Queries that have a key in the band.
ALL_QUERIES = """
begin = tl.maximum((band - 1) * M - past, 0) // M * M
end = queries
"""
#: ... and see it: beyond the window none but the first keys.
WINDOW = """
end = tl.where((band - 1) * M + 1 >= near, tl.minimum(queries, tl.maximum(sinks + band * M - past, 0)), queries)
"""


def of_distances(reading: Reading) -> str:
    """The source of the kernel, of functions in `primitives`."""
    derivatives, turns = reading.derivatives(Kind.LINE), reading.trained_turns
    add = [f"t{n} += of_logit * {name}" for n, name in derivatives.factors.items()]
    add += [f"t{n} += of_score * slope" for n in turns]
    trained, store = [*derivatives.factors, *turns], []
    for n in trained:
        store += [
            f"t{n} = tl.gather(t{n}, down & (M - 1), 1)",
            f"here = tl.sum(tl.where(down >= 0, t{n}, 0.0), 0)",
            f"nearer = tl.sum(tl.where(down < 0, t{n}, 0.0), 0)",
            f"line = G{n} + text * 2 * keys + keys - 1 - distance",
            "tl.store(line, here, mask=distance < keys)",
            "tl.store(line + keys + M, nearer, mask=(distance >= M) & (distance - M < keys))",
        ]
    ranges = ALL_QUERIES + (WINDOW.lstrip() if reading.levels else "")
    return filled(
        TEMPLATE,
        signature=reading.signature(Kind.LINE),
        pointers=reading.move_pointers(),
        score=reading.scores.by_distances,
        zeros="\n".join(f"t{n} = tl.zeros((M, M), tl.float32)" for n in trained),
        ranges=ranges.strip(),
        origin=reading.origin("start", Kind.ROW),
        rows=reading.read(Kind.ROW, "row", "queries", "CHECKED", "[:, None]"),
        columns=reading.read(Kind.COLUMN, "tl.where(key < 0, keys, key)", "keys", "CHECKED", "[None, :]"),
        lines=reading.read_lines("place[:, None]", "key[None, :]"),
        seen=reading.seen("place[:, None]", "key[None, :]"),
        weigh=reading.weigh("lse[:, None]"),
        derivatives=derivatives.lines,
        of_score=reading.of_score() if turns else "",
        add="\n".join(add),
        store="\n".join(store),
    )
