"""Turned: scores whose planes turn by an angle of the distance, and gradients of them, in Triton (2601.06113).

    score_ij = sum over planes of (q1 k1 + q2 k2) cos(t theta) - (q2 k1 - q1 k2) sin(t theta),      t = t(i - j)

An angle that is not linear in the distance does not split into a turn of q and one of k: no product of matrices gives
the scores, and they are added up frequency by frequency. Cosine and sine of each are a line of distances; tokens lie
plane by plane, side by side in memory. Of a tile's two axes the second is that of the tokens that a program owns: a
warp reads them and the lines side by side, and a sum over the first stays in a thread.
"""

from __future__ import annotations

import triton
import triton.language as tl

from extrapo.attention.gpu import planes

MARGIN = tl.constexpr(planes.MARGIN)


@triton.jit
def apart(own, steps):
    """Where the numbers of a tile's distances lie on a line: of a program's own tokens, so many steps further."""
    # Wide, so that the steps, which are known, stay apart from what is not, and cost a thread nothing. Of the two axes
    # nothing is told: then threads lie along the second.
    return tl.max_contiguous((own + MARGIN).to(tl.int64) + steps.to(tl.int64), [1, 1])


@triton.jit
def turned_scores(
    Q, K, Cos, Sin, Theta, row, key, at, line_plane, q_plane, k_plane, each, PLANES: tl.constexpr, SLOPES: tl.constexpr
):
    """The scores of a tile, and where SLOPES their derivatives by t, else zeros; `row` and `key` broadcast to it."""
    score = tl.zeros(at.shape, tl.float32)
    slope = tl.zeros(at.shape, tl.float32)
    for frequency in range(PLANES // each):
        real = tl.zeros(at.shape, tl.float32)
        imaginary = tl.zeros(at.shape, tl.float32)
        for member in range(each):
            plane = frequency * each + member
            q1 = tl.load(Q + plane * q_plane + row)
            q2 = tl.load(Q + (plane + PLANES) * q_plane + row)
            k1 = tl.load(K + plane * k_plane + key)
            k2 = tl.load(K + (plane + PLANES) * k_plane + key)
            real += q1 * k1
            real += q2 * k2
            imaginary += q2 * k1
            imaginary -= q1 * k2
        cos = tl.load(Cos + frequency * line_plane + at)
        sin = tl.load(Sin + frequency * line_plane + at)
        score += real * cos
        score -= imaginary * sin
        if SLOPES:
            slope -= tl.load(Theta + frequency) * (real * sin + imaginary * cos)
    return score, slope


@triton.jit
def turned_back(
    Into, Other, of_score, Cos, Sin, own, other, at, line_plane, own_plane, other_plane, each, PLANES: tl.constexpr,
    SIGN: tl.constexpr,
):  # fmt: skip
    """Add what the gradients of a tile's scores give to its own tokens: queries, or where SIGN is -1 keys."""
    for frequency in range(PLANES // each):
        cos = of_score * tl.load(Cos + frequency * line_plane + at)
        sin = SIGN * of_score * tl.load(Sin + frequency * line_plane + at)
        for member in range(each):
            plane = frequency * each + member
            x1 = tl.load(Other + plane * other_plane + other)
            x2 = tl.load(Other + (plane + PLANES) * other_plane + other)
            first = Into + plane * own_plane + own
            second = Into + (plane + PLANES) * own_plane + own
            tl.store(first, tl.load(first) + tl.sum(cos * x1, 0) + tl.sum(sin * x2, 0))
            tl.store(second, tl.load(second) + tl.sum(cos * x2, 0) - tl.sum(sin * x1, 0))
    # Nobody else writes there; the next tile may read by other threads.
    tl.debug_barrier()
