// Causal attention under a formula of pairs, by tiles, forward and backward (FlashAttention, Dao et al., 2205.14135).
//
// A formula stands before this file: the type `real`, FACTORS, KINDS, TRAINED, and three loops over some keys of a row,
// `weights`, `largest` and `gradients`, see source.py. Each thread calls `attention_forward` or `attention_backward` on the same
// Task and takes parts of it until none is left; what a part adds up is added up in one order, whichever thread has it.
//
// B batch, H heads, T queries, the last of S keys, d and e the widths of keys and values. A tile is ROWS queries times at
// most COLUMNS keys: two of them lie in a core's own cache.

static const long ROWS = 64, COLUMNS = 512;

// Numbers of each token, (B, H, N, width), the numbers of one token side by side.
struct Tokens { real *data; long batch, head, token; };

// Numbers of a factor: one (NUMBER), of each query (ROW), of each key (COLUMN), or of each distance as the last query
// has it, key by key (LINE).
struct Factor { const real *data; long batch, head; };

static const real LARGE = std::sqrt(std::numeric_limits<real>::max());

typedef void (*Product)(const char *, const char *, const int *, const int *, const int *, const real *, const real *, const int *,
                        const real *, const int *, const real *, real *, const int *);

struct Task {
    Tokens q, k, v, out, grad, dq, dk, dv;
    real *lse;                            // (B, H, T) each row's log-sum-exp
    Factor factors[FACTORS ? FACTORS : 1];
    real *received[FACTORS ? FACTORS : 1];  // (G, B, H, n) the gradients of trained factors, from each group of rows
    Product product;                      // BLAS's GEMM
    double scale;
    long batch, heads, queries, keys, width, values, window, sinks, groups;
    long group_keys, group_values;        // from one group's dk and dv to the next one's
    long next;                            // the first part that nobody has taken
};

struct Head {
    const Task &task;
    long b, h;
    long offset() const { return task.keys - task.queries; }
    real *at(const Tokens &x, long token) const { return x.data + b * x.batch + h * x.head + token * x.token; }
    long index() const { return b * task.heads + h; }
};

static long least(long a, long b) { return a < b ? a : b; }
static long most(long a, long b) { return a > b ? a : b; }

// C = alpha A op(B) + beta C of row-major matrices, `rows` x `columns`, `inner` between: BLAS has columns first.
static void multiply(const Task &t, bool first_turned, bool second_turned, long rows, long columns, long inner, double alpha,
                     const real *a, long of_a, const real *b, long of_b, double beta, real *c, long of_c) {
    int m = columns, n = rows, k = inner, lda = of_b, ldb = of_a, ldc = of_c;
    real one = alpha, other = beta;
    t.product(second_turned ? "T" : "N", first_turned ? "T" : "N", &m, &n, &k, &one, b, &lda, a, &ldb, &other, c, &ldc);
}

// What the loops read for query i and the keys from j on.
static void point(const Head &head, long i, long j, const real **factors) {
    const Task &t = head.task;
    for (long n = 0; n < FACTORS; ++n) {
        const Factor &f = t.factors[n];
        long at = KINDS[n] == ROW ? i : KINDS[n] == COLUMN ? j : KINDS[n] == LINE ? t.queries - 1 - i + j : 0;
        factors[n] = f.data + head.b * f.batch + head.h * f.head + at;
    }
}

// Calls visit(first, last) for blocks of keys of which rows start..stop-1 see some.
template <class Visit> static void for_blocks(const Head &head, long start, long stop, Visit visit) {
    long limit = head.offset() + stop, first = most(0, head.offset() + start + 1 - head.task.window);
    for (long c = 0, end = least(head.task.sinks, first); c < end; c += COLUMNS) visit(c, least(c + COLUMNS, end));
    for (long c = first; c < limit; c += COLUMNS) visit(c, least(c + COLUMNS, limit));
}

// Calls visit(a, b) for what query i sees of a block of keys, in order, and hide(a, b) for the rest.
template <class Visit, class Hide> static void for_seen(const Head &head, long i, long first, long last, Visit visit, Hide hide) {
    long own = head.offset() + i, end = least(last, own + 1), c = first;
    long near = most(first, own + 1 - head.task.window), sinks = least(head.task.sinks, end);
    if (near > first && c < sinks) visit(c, least(sinks, end)), c = least(sinks, end);
    if (near > c) hide(c, least(near, last)), c = least(near, last);
    if (c < end) visit(c, end), c = end;
    if (c < last) hide(c, last);
}

// Memory that a thread keeps.
struct Memory {
    real *data = nullptr;
    long size = 0;
    real *of(long numbers) {
        if (numbers > size) {
            free(data);
            size = numbers;
            data = static_cast<real *>(aligned_alloc(64, (size * sizeof(real) + 63) / 64 * 64));
        }
        return data;
    }
    ~Memory() { free(data); }
};
static thread_local Memory memory[3];

static void scores(const Head &head, long start, long stop, long first, long last, real *tile) {
    const Task &t = head.task;
    multiply(t, false, true, stop - start, last - first, t.width, t.scale, head.at(t.q, start), t.q.token, head.at(t.k, first),
             t.k.token, 0, tile, COLUMNS);
}

// Adds up the output of rows start..stop-1 and the sums of their weights e^(logit - shift).
static void add_up(const Head &head, long start, long stop, const real *shift, real *total, real *tile) {
    const Task &t = head.task;
    const real *factors[FACTORS + 1];
    bool begun = false;
    for (long i = start; i < stop; ++i) total[i - start] = 0;
    for_blocks(head, start, stop, [&](long first, long last) {
        scores(head, start, stop, first, last, tile);
        for (long i = start; i < stop; ++i) {
            real *row = tile + (i - start) * COLUMNS - first;
            for_seen(
                head, i, first, last,
                [&](long a, long b) {
                    point(head, i, a, factors);
                    total[i - start] += weights(row + a, b - a, factors, shift[i - start]);
                },
                [&](long a, long b) { memset(row + a, 0, (b - a) * sizeof(real)); });
        }
        multiply(t, false, false, stop - start, t.values, last - first, 1, tile, COLUMNS, head.at(t.v, first), t.v.token, begun,
                 head.at(t.out, start), t.out.token);
        begun = true;
    });
}

static void forward_rows(const Head &head, long start, long stop) {
    const Task &t = head.task;
    real *tile = memory[0].of(ROWS * COLUMNS), shift[ROWS], total[ROWS];
    const real *factors[FACTORS + 1];
    // In place of the largest logit, which would take a pass of its own, that of the query's own key.
    for (long i = start; i < stop; ++i) {
        const real *q = head.at(t.q, i), *k = head.at(t.k, head.offset() + i);
        real score = 0;
#pragma omp simd reduction(+ : score)
        for (long n = 0; n < t.width; ++n) score += q[n] * k[n];
        score *= real(t.scale);
        point(head, i, head.offset() + i, factors);
        shift[i - start] = largest(&score, 1, factors);
    }
    add_up(head, start, stop, shift, total, tile);
    bool fine = true;
    for (long i = 0; i < stop - start; ++i) fine = fine && total[i] < LARGE;
    if (!fine) {
        for (long i = 0; i < stop - start; ++i) shift[i] = -INFINITY;
        for_blocks(head, start, stop, [&](long first, long last) {
            scores(head, start, stop, first, last, tile);
            for (long i = start; i < stop; ++i)
                for_seen(
                    head, i, first, last,
                    [&](long a, long b) {
                        point(head, i, a, factors);
                        real found = largest(tile + (i - start) * COLUMNS + a - first, b - a, factors);
                        if (found > shift[i - start]) shift[i - start] = found;
                    },
                    [](long, long) {});
        });
        add_up(head, start, stop, shift, total, tile);
    }
    for (long i = start; i < stop; ++i) {
        real *out = head.at(t.out, i);
        for (long n = 0; n < t.values; ++n) out[n] /= total[i - start];
        t.lse[head.index() * t.queries + i] = shift[i - start] + std::log(total[i - start]);
    }
}

// How many numbers a factor has.
static long count(const Task &t, long n) {
    return KINDS[n] == ROW ? t.queries : KINDS[n] == NUMBER ? 1 : t.keys;
}

static void backward_rows(const Head &head, long start, long stop, long group, double *numbers) {
    const Task &t = head.task;
    real *p = memory[0].of(ROWS * COLUMNS), *ds = memory[1].of(ROWS * COLUMNS), delta[ROWS];
    const real *factors[FACTORS + 1];
    // What a tile adds up, before it is added to what others do: of rows and numbers one, of keys and lines many.
    const long size = COLUMNS + ROWS;
    real *sums = memory[2].of((FACTORS + 1) * size), *into[FACTORS + 1];
    for (long i = start; i < stop; ++i) {
        const real *grad = head.at(t.grad, i), *out = head.at(t.out, i);
        real sum = 0;
#pragma omp simd reduction(+ : sum)
        for (long n = 0; n < t.values; ++n) sum += grad[n] * out[n];
        delta[i - start] = sum;
    }
    const real *lse = t.lse + head.index() * t.queries;
    bool begun = false;
    for_blocks(head, start, stop, [&](long first, long last) {
        scores(head, start, stop, first, last, p);
        multiply(t, false, true, stop - start, last - first, t.values, 1, head.at(t.grad, start), t.grad.token, head.at(t.v, first),
                 t.v.token, 0, ds, COLUMNS);
        for (long n = 0; n < FACTORS; ++n)
            if (TRAINED[n]) memset(sums + n * size, 0, size * sizeof(real));
        for (long i = start; i < stop; ++i) {
            long row = (i - start) * COLUMNS - first;
            for_seen(
                head, i, first, last,
                [&](long a, long b) {
                    point(head, i, a, factors);
                    for (long n = 0; n < FACTORS; ++n) {
                        long at = KINDS[n] == COLUMN ? a - first : KINDS[n] == LINE ? stop - 1 - i + a - first : KINDS[n] == ROW ? i - start : 0;
                        into[n] = sums + n * size + at;
                    }
                    gradients(p + row + a, ds + row + a, b - a, factors, lse[i], delta[i - start], into);
                },
                [&](long a, long b) {
                    memset(p + row + a, 0, (b - a) * sizeof(real));
                    memset(ds + row + a, 0, (b - a) * sizeof(real));
                });
        }
        for (long n = 0; n < FACTORS; ++n) {
            if (!TRAINED[n]) continue;
            const real *sum = sums + n * size;
            real *into = t.received[n] + ((group * t.batch + head.b) * t.heads + head.h) * count(t, n);
            if (KINDS[n] == NUMBER) numbers[n] += *sum;
            if (KINDS[n] == ROW)
                for (long i = start; i < stop; ++i) into[i] += sum[i - start];
            if (KINDS[n] == COLUMN)
                for (long j = first; j < last; ++j) into[j] += sum[j - first];
            if (KINDS[n] == LINE) {
                long left = t.queries - stop + first, length = least(last - first + stop - start - 1, t.keys - left);
                for (long j = 0; j < length; ++j) into[left + j] += sum[j];
            }
        }
        multiply(t, false, false, stop - start, t.width, last - first, t.scale, ds, COLUMNS, head.at(t.k, first), t.k.token, begun,
                 head.at(t.dq, start), t.dq.token);
        multiply(t, true, false, last - first, t.width, stop - start, t.scale, ds, COLUMNS, head.at(t.q, start), t.q.token, 1,
                 head.at(t.dk, first) + group * t.group_keys, t.dk.token);
        multiply(t, true, false, last - first, t.values, stop - start, 1, p, COLUMNS, head.at(t.grad, start), t.grad.token, 1,
                 head.at(t.dv, first) + group * t.group_values, t.dv.token);
        begun = true;
    });
}

extern "C" void attention_forward(Task *task) {
    const Task &t = *task;
    long blocks = (t.queries + ROWS - 1) / ROWS;
    for (;;) {
        long part = __atomic_fetch_add(&task->next, 1, __ATOMIC_RELAXED);
        if (part >= t.batch * t.heads * blocks) return;
        // One head after the other, whose keys and values are still in the cache; the longest rows first.
        long head = part / blocks, block = blocks - 1 - part % blocks;
        forward_rows(Head{t, head / t.heads, head % t.heads}, block * ROWS, least((block + 1) * ROWS, t.queries));
    }
}

extern "C" void attention_backward(Task *task) {
    const Task &t = *task;
    long blocks = (t.queries + ROWS - 1) / ROWS;
    for (;;) {
        long part = __atomic_fetch_add(&task->next, 1, __ATOMIC_RELAXED);
        if (part >= t.batch * t.heads * t.groups) return;
        long group = part % t.groups, index = part / t.groups;
        Head head{t, index / t.heads, index % t.heads};
        double numbers[FACTORS + 1] = {};
        // Long rows and short ones by turns: each group has as many of both.
        for (long block = blocks - 1; block >= 0; --block) {
            long place = block % (2 * t.groups);
            if (place == group || place == 2 * t.groups - 1 - group)
                backward_rows(head, block * ROWS, least((block + 1) * ROWS, t.queries), group, numbers);
        }
        for (long n = 0; n < FACTORS; ++n)
            if (TRAINED[n] && KINDS[n] == NUMBER) t.received[n][(group * t.batch + head.b) * t.heads + head.h] = numbers[n];
    }
}
