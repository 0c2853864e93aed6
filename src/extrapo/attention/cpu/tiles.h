// Tiles: what one attention consists of, how its keys are cut into blocks, and what a row sees of one.
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
    double *received[FACTORS ? FACTORS : 1];  // (G, B, H, n) the gradients of trained factors, from each group of rows
    const real *cos, *sin;                // of turned scores, (H, F, N): a line of distances, as LINE, with zeros behind it
    const real *theta;                    // (F) the frequencies, each of planes_each planes
    real *turns;                          // (G, B, H, S) the gradient of the turns
    Product product;                      // BLAS's GEMM
    double scale;
    long batch, heads, queries, keys, width, values, window, sinks, groups;
    long group_keys, group_values;        // from one group's dk and dv to the next one's
    long line_head, line_plane, planes_each;
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

static real dot(const real *a, const real *b, long length) {
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (long n = 0; n < length; ++n) sum += a[n] * b[n];
    return sum;
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
static thread_local Memory memory[7];
