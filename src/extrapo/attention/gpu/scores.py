"""Scores: how kernels make a tile's scores of q and k, and what their gradients give back: by products, or turned.

These are the blocks of the templates of `forward`, `by_queries`, `by_keys` and `by_distances` that say so.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scores:
    """Blocks of statements.

    Args:
        arguments: of a kernel, beside those that all have.
        passed: to a tile's function.
        pointers: of a head.
        q, k: what a tile's function is given of the tokens that its program owns.
        own_queries, own_keys: statements that read them.
        queries, keys: ... those of a tile.
        by_queries, by_keys: the score, of a program's queries (M, N) or keys (N, M).
        of_logit: the gradient of logits, of a program's queries, with a rough delta.
        dq, dk: what gradients add up in; a function returns `sum_q`, `sum_k` of it.
        begin_dq, begin_dk, add_dq, add_dk, keep_dq, keep_dk: how they do, of `of_score`.
        by_distances: the score, and where planes turn `slope`, its derivative by the turns.
    """

    arguments: tuple[str, ...]
    passed: tuple[str, ...]
    pointers: str
    q: str
    k: str
    own_queries: str
    own_keys: str
    queries: str
    keys: str
    by_queries: str
    by_keys: str
    of_logit: str
    dq: str
    dk: str
    sum_q: str
    sum_k: str
    begin_dq: str
    begin_dk: str
    add_dq: str
    add_dk: str
    keep_dq: str
    keep_dk: str
    by_distances: str


#: s q.k, by tensor cores.
PRODUCTS = Scores(
    arguments=(),
    passed=(),
    pointers="",
    q="q",
    k="k",
    own_queries="q = tokens(Q, row, q_token, queries, True, WIDTH, D)",
    own_keys="k = tokens(K, key, k_token, keys, True, WIDTH, D)",
    queries="q = tokens(Q, row, q_token, queries, CHECKED, WIDTH, D)",
    keys="k = tokens(K, key, k_token, keys, CHECKED, WIDTH, D)",
    by_queries="score = dot(q, tl.trans(k), PRECISION) * scale",
    by_keys="score = dot(k, tl.trans(q), PRECISION) * scale",
    of_logit="of_logit = weight * dot_onto(-rough[:, None], grad, tl.trans(v), PRECISION)",
    dq="dq",
    dk="dk",
    sum_q="dq, ",
    sum_k="dk, ",
    begin_dq="dq = tl.zeros((M, D), tl.float32)",
    begin_dk="dk = tl.zeros((N, D), tl.float32)",
    add_dq="dq += dot(of_score.to(k.dtype), k, PRECISION)",
    add_dk="dk += dot(of_score.to(q.dtype), q, PRECISION)",
    keep_dq="keep(DQ + batch * dq_batch + head * dq_head, row, dq_token, queries, dq * scale, WIDTH, D)",
    keep_dk="keep(DK + batch * dk_batch + own * dk_head, key, dk_token, keys, dk * scale, WIDTH, D)",
    # Before the text there is nothing to read.
    by_distances="""q = tokens(Q, row, q_token, queries, CHECKED, WIDTH, D)
k = tokens(K, tl.where(key < 0, keys, key), k_token, keys, CHECKED, WIDTH, D)
score = dot(q, tl.trans(k), PRECISION) * scale""",
)

#: What both functions of `turned` read.
LINES = "line_plane, {own}_plane, {other}_plane, each, WIDTH // 2"


def turned_scores(row: str, key: str, slopes: bool = False) -> str:
    """A call of the function."""
    lines = LINES.format(own="q", other="k")
    return f"turned_scores(Q, K, Cos, Sin, Theta, {row}, {key}, between, {lines}, {slopes})"


#: Plane by plane. Gradients of q and k are added up in memory, where a token's numbers belong to one program.
PLANES = Scores(
    arguments=("AllCos", "AllSin", "Theta", "line_head", "line_plane", "q_plane", "k_plane", "each"),
    passed=("Cos", "Sin", "Theta", "line_plane", "q_plane", "k_plane", "each"),
    pointers="Cos = AllCos + head * line_head\nSin = AllSin + head * line_head",
    q="Q",
    k="K",
    own_queries="",
    own_keys="",
    queries="",
    keys="",
    by_queries=f"""between = apart((place - start)[None, :], -tl.arange(0, N)[:, None])
score = tl.trans({turned_scores("row[None, :]", "key[:, None]")}[0]) * scale""",
    by_keys=f"""between = apart((start + past - key)[None, :], tl.arange(0, M)[:, None])
score = tl.trans({turned_scores("row[:, None]", "key[None, :]")}[0]) * scale""",
    # An instruction more, of hundreds, and no registers in memory.
    of_logit="of_logit = weight * dot(grad, tl.trans(v), PRECISION) - weight * rough[:, None]",
    dq="DQ",
    dk="DK",
    sum_q="",
    sum_k="",
    begin_dq="DQ += batch * dq_batch + head * dq_head",
    begin_dk="DK += batch * dk_batch + own * dk_head",
    add_dq="turned_back(DQ, K, tl.trans(of_score), Cos, Sin, row, key[:, None], between, "
    + LINES.format(own="q", other="k")
    + ", 1.0)",
    add_dk="turned_back(DK, Q, tl.trans(of_score), Cos, Sin, key, row[:, None], between, "
    + LINES.format(own="k", other="q")
    + ", -1.0)",
    keep_dq="",
    keep_dk="",
    by_distances=f"""between = apart((band * M - tl.arange(0, M))[None, :], tl.arange(0, M)[:, None])
score, slope = {turned_scores("row[:, None]", "tl.minimum(tl.maximum(key, 0), keys - 1)[None, :]", True)}
score, slope = score * scale, slope * scale""",
)
