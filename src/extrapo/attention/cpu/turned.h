// Scores whose planes are turned by an angle of the distance, sum over planes of Re q conj(k) e^(i t(n) theta): what
// does not split into a turn of q and a turn of k. Cosine and sine of each plane are a line of distances.
//
// With q = (q1, q2) and k = (k1, k2), u = q1 cos - q2 sin and w = q2 cos + q1 sin, a plane gives k1 u + k2 w; the
// derivative by t is theta (k2 u - k1 w).

// So many numbers at a time, and so many of these blocks of a row: sums stay in registers.
#if defined(__AVX512F__)
static const long BYTES = 64, BLOCKS = 4;
#elif defined(__AVX__)
static const long BYTES = 32, BLOCKS = 2;
#else
static const long BYTES = 16, BLOCKS = 4;
#endif
typedef real Vector __attribute__((vector_size(BYTES), aligned(sizeof(real))));
static const long LANES = BYTES / sizeof(real), STRIDE = LANES * BLOCKS;

static inline Vector &vector_at(real *x) { return *reinterpret_cast<Vector *>(x); }
static inline const Vector &vector_at(const real *x) { return *reinterpret_cast<const Vector *>(x); }
static long padded(long length) { return (length + STRIDE - 1) / STRIDE * STRIDE; }

// Where cosine, or sine, of a plane stands for query i and the keys from j on.
static const real *line_of(const Head &head, const real *lines, long plane, long i, long j) {
    const Task &t = head.task;
    return lines + head.h * t.line_head + plane / t.planes_each * t.line_plane + t.queries - 1 - i + j;
}

// Where plane p of a block of keys begins: the keys of STRIDE columns lie together, plane after plane.
static long block_at(const Task &t, long p, long c) { return c * t.width + p * STRIDE; }

// Keys first..last-1, and zeros behind them, in blocks.
static void turn_over(const Head &head, const Tokens &x, long first, long last, real *out) {
    const long length = last - first, width = head.task.width;
    for (long j = 0; j < padded(length); ++j) {
        const real *from = head.at(x, first + j);
        real *to = out + block_at(head.task, 0, j / STRIDE * STRIDE) + j % STRIDE;
        for (long n = 0; n < width; ++n) to[n * STRIDE] = j < length ? from[n] : 0;
    }
}

class Scores {
    const Head &head;
    const long start, stop, group, planes;
    real *keys, *slopes = nullptr, *dq = nullptr, *dk = nullptr;

    // The scores, and where SLOPE their derivatives by t.
    template <bool SLOPE> void turn(long length, long first, real *tile) {
        const Task &t = head.task;
        const real scale = t.scale;
        for (long c = 0; c < length; c += STRIDE) {
            for (long i = start; i < stop; ++i) {
                const real *q = head.at(t.q, i);
                Vector sum[BLOCKS] = {}, slope[BLOCKS] = {};
                for (long p = 0; p < planes; ++p) {
                    const real q1 = q[p], q2 = q[p + planes], theta = SLOPE ? t.theta[p / t.planes_each] : 0;
                    const real *cos = line_of(head, t.cos, p, i, first + c), *sin = line_of(head, t.sin, p, i, first + c);
                    const real *k1 = keys + block_at(t, p, c), *k2 = keys + block_at(t, p + planes, c);
                    for (long n = 0; n < BLOCKS; ++n) {
                        const Vector a = vector_at(cos + n * LANES), b = vector_at(sin + n * LANES);
                        const Vector x = vector_at(k1 + n * LANES), y = vector_at(k2 + n * LANES);
                        const Vector u = q1 * a - q2 * b, w = q2 * a + q1 * b;
                        sum[n] += x * u + y * w;
                        if (SLOPE) slope[n] += theta * (y * u - x * w);
                    }
                }
                const long at = (i - start) * COLUMNS + c;
                for (long n = 0; n < BLOCKS; ++n) {
                    vector_at(tile + at + n * LANES) = scale * sum[n];
                    if (SLOPE) vector_at(slopes + at + n * LANES) = scale * slope[n];
                }
            }
        }
    }

    // What the scores' gradients give to q, lane by lane, and to the keys.
    void turn_back(long length, long first, const real *ds) {
        const Task &t = head.task;
        for (long p = 0; p < planes; ++p) {
            for (long c = 0; c < length; c += STRIDE) {
                const real *k1 = keys + block_at(t, p, c), *k2 = keys + block_at(t, p + planes, c);
                Vector dk1[BLOCKS] = {}, dk2[BLOCKS] = {};
                for (long i = start; i < stop; ++i) {
                    const real *q = head.at(t.q, i), q1 = q[p], q2 = q[p + planes];
                    const real *cos = line_of(head, t.cos, p, i, first + c), *sin = line_of(head, t.sin, p, i, first + c);
                    const real *g = ds + (i - start) * COLUMNS + c;
                    Vector dq1 = {}, dq2 = {};
                    for (long n = 0; n < BLOCKS; ++n) {
                        const Vector d = vector_at(g + n * LANES);
                        const Vector a = d * vector_at(cos + n * LANES), b = d * vector_at(sin + n * LANES);
                        const Vector x = vector_at(k1 + n * LANES), y = vector_at(k2 + n * LANES);
                        dk1[n] += q1 * a - q2 * b;
                        dk2[n] += q2 * a + q1 * b;
                        dq1 += x * a + y * b;
                        dq2 += y * a - x * b;
                    }
                    vector_at(dq + (p * ROWS + i - start) * LANES) += dq1;
                    vector_at(dq + ((p + planes) * ROWS + i - start) * LANES) += dq2;
                }
                for (long n = 0; n < BLOCKS; ++n) {
                    vector_at(dk + block_at(t, p, c) + n * LANES) = dk1[n];
                    vector_at(dk + block_at(t, p + planes, c) + n * LANES) = dk2[n];
                }
            }
        }
    }

  public:
    // Of rows start..stop-1 of a head, in the backward pass those of a group of rows.
    Scores(const Head &head, long start, long stop, long group = -1)
        : head(head), start(start), stop(stop), group(group), planes(head.task.width / 2) {
        const long width = head.task.width;
        keys = memory[3].of(width * COLUMNS);
        if (group < 0) return;
        slopes = memory[4].of(ROWS * COLUMNS);
        dk = memory[5].of(width * COLUMNS);
        dq = memory[6].of(width * ROWS * LANES);
        memset(dq, 0, width * ROWS * LANES * sizeof(real));
    }

    // Writes those of keys first..last-1, and anything up to the next STRIDE.
    void make(long first, long last, real *tile) {
        turn_over(head, head.task.k, first, last, keys);
        if (group >= 0 && head.task.turns)
            turn<true>(last - first, first, tile);
        else
            turn<false>(last - first, first, tile);
    }

    // Adds what their gradients give to q, k and the turns; behind the last key they are overwritten.
    void back(long first, long last, real *ds) {
        const Task &t = head.task;
        const long length = last - first;
        for (long i = start; i < stop; ++i) {
            real *row = ds + (i - start) * COLUMNS;
            memset(row + length, 0, (padded(length) - length) * sizeof(real));
            if (!t.turns) continue;
            const real *slope = slopes + (i - start) * COLUMNS;
            const long at = t.queries - 1 - i + first;
            real *into = t.turns + ((group * t.batch + head.b) * t.heads + head.h) * t.keys + at;
            for (long j = 0, end = least(length, t.keys - at); j < end; ++j) into[j] += row[j] * slope[j];
        }
        turn_back(length, first, ds);
        for (long j = 0; j < length; ++j) {
            real *to = head.at(t.dk, first + j) + group * t.group_keys;
            const real *from = dk + block_at(t, 0, j / STRIDE * STRIDE) + j % STRIDE;
            for (long n = 0; n < t.width; ++n) to[n] += real(t.scale) * from[n * STRIDE];
        }
    }

    // Once all keys have been seen.
    void finish() {
        const Task &t = head.task;
        for (long i = start; i < stop; ++i) {
            real *to = head.at(t.dq, i);
            for (long n = 0; n < t.width; ++n) {
                real sum = 0;
                for (long lane = 0; lane < LANES; ++lane) sum += dq[(n * ROWS + i - start) * LANES + lane];
                to[n] = real(t.scale) * sum;
            }
        }
    }
};
