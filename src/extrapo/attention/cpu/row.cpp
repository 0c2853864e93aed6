// One query a head: each number of keys and values is read once, as fast as memory gives them.
//
// Before this file stands attention.cpp.

static const long LANES = 64 / sizeof(real);
typedef real Lanes __attribute__((vector_size(64), aligned(sizeof(real)), may_alias));

static inline const Lanes &lanes(const real *x) { return *reinterpret_cast<const Lanes *>(x); }

// c = alpha a B^T of N LANES numbers to a row, four rows of B at a time.
template <long N> static void row_times_rows(const real *a, const real *b, long of_b, long columns, real alpha, real *c) {
    const long EACH = 4;
    Lanes x[N];
    for (long i = 0; i < N; ++i) x[i] = lanes(a + i * LANES);
    long n = 0;
    for (; n + EACH <= columns; n += EACH) {
        Lanes sums[EACH];
        for (long e = 0; e < EACH; ++e) {
            sums[e] = x[0] * lanes(b + (n + e) * of_b);
            for (long i = 1; i < N; ++i) sums[e] += x[i] * lanes(b + (n + e) * of_b + i * LANES);
        }
        for (long e = 0; e < EACH; ++e) {
            real sum = 0;
#pragma omp simd reduction(+ : sum)
            for (long l = 0; l < LANES; ++l) sum += sums[e][l];
            c[n + e] = alpha * sum;
        }
    }
    for (; n < columns; ++n) c[n] = alpha * dot(a, b + n * of_b, N * LANES);
}

// Weights up to this are 0: beside their sum, at least 1, they have no digit, and their rows need not be read.
static const real NOTHING = 1e-30;

// c += a B of N LANES numbers to a row. What a block of keys adds up comes together first: it loses fewer digits.
template <long N> static void row_times_columns(const real *a, const real *b, long of_b, long inner, real *c) {
    Lanes sums[N] = {};
    for (long m = 0; m < inner; ++m) {
        if (!(a[m] > NOTHING)) continue;
        for (long i = 0; i < N; ++i) sums[i] += a[m] * lanes(b + m * of_b + i * LANES);
    }
    for (long i = 0; i < N * LANES; ++i) c[i] += sums[i / LANES][i % LANES];
}

// Scores of some keys: c = alpha a B^T.
static void scores_of_row(const real *a, const real *b, long of_b, long columns, long inner, real alpha, real *c) {
    switch (inner % LANES ? 0 : inner / LANES) {
        case 1: return row_times_rows<1>(a, b, of_b, columns, alpha, c);
        case 2: return row_times_rows<2>(a, b, of_b, columns, alpha, c);
        case 4: return row_times_rows<4>(a, b, of_b, columns, alpha, c);
        case 8: return row_times_rows<8>(a, b, of_b, columns, alpha, c);
    }
    for (long n = 0; n < columns; ++n) c[n] = alpha * dot(a, b + n * of_b, inner);
}

// Adds values by their weights, none of them negative: c += a B.
static void add_values(const real *a, const real *b, long of_b, long columns, long inner, real *c) {
    switch (columns % LANES ? 0 : columns / LANES) {
        case 1: return row_times_columns<1>(a, b, of_b, inner, c);
        case 2: return row_times_columns<2>(a, b, of_b, inner, c);
        case 4: return row_times_columns<4>(a, b, of_b, inner, c);
        case 8: return row_times_columns<8>(a, b, of_b, inner, c);
    }
    real *sums = memory[1].of(columns);
    memset(sums, 0, columns * sizeof(real));
    for (long m = 0; m < inner; ++m)
        if (a[m] > NOTHING)
            for (long n = 0; n < columns; ++n) sums[n] += a[m] * b[m * of_b + n];
    for (long n = 0; n < columns; ++n) c[n] += sums[n];
}

// The output of a head's only query; false where its own logit, which stands for the largest, is too small for it.
static bool attend_row(const Head &head) {
    const Task &t = head.task;
    real *row = memory[0].of(COLUMNS), *out = head.at(t.out, 0), total = 0;
    const real *factors[FACTORS + 1], *q = head.at(t.q, 0);
    const real score = real(t.scale) * dot(q, head.at(t.k, head.offset()), t.width);
    point(head, 0, head.offset(), factors);
    const real shift = largest(&score, 1, factors);
    memset(out, 0, t.values * sizeof(real));
    for_blocks(head, 0, 1, [&](long first, long last) {
        scores_of_row(q, head.at(t.k, first), t.k.token, last - first, t.width, t.scale, row);
        for_seen(
            head, 0, first, last,
            [&](long a, long b) {
                point(head, 0, a, factors);
                total += weights(row + a - first, b - a, factors, shift);
            },
            [&](long a, long b) { memset(row + a - first, 0, (b - a) * sizeof(real)); });
        add_values(row, head.at(t.v, first), t.v.token, t.values, last - first, out);
    });
    for (long n = 0; n < t.values; ++n) out[n] /= total;
    return total < LARGE;
}

extern "C" void attention_row(Task *task) {
    for (;;) {
        long part = __atomic_fetch_add(&task->next, 1, __ATOMIC_RELAXED);
        if (part >= task->batch * task->heads) return;
        Head head{*task, part / task->heads, part % task->heads};
        if (!attend_row(head)) forward_rows(head, 0, 1);
    }
}
