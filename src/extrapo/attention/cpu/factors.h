// Factors: what a formula reads of a bias for some keys of a row, and the sums of their gradients.

// What the loops read for query i and the keys from j on.
static void point(const Head &head, long i, long j, const real **factors) {
    const Task &t = head.task;
    for (long n = 0; n < FACTORS; ++n) {
        const Factor &f = t.factors[n];
        long at = KINDS[n] == ROW ? i : KINDS[n] == COLUMN ? j : KINDS[n] == LINE ? t.queries - 1 - i + j : 0;
        factors[n] = f.data + head.b * f.batch + head.h * f.head + at;
    }
}

// Of one head and group of rows. What a tile adds up comes together before it is added to what others did, in double
// precision: what trains positions is a small difference of sums over rows and over keys.
class Sums {
    static const long SIZE = COLUMNS + ROWS;
    const Head &head;
    const long group;
    real *tile;
    double numbers[FACTORS + 1] = {};

    double *received(long n) const {
        const Task &t = head.task;
        long size = KINDS[n] == ROW ? t.queries : KINDS[n] == NUMBER ? 1 : t.keys;
        return t.received[n] + ((group * t.batch + head.b) * t.heads + head.h) * size;
    }

    void clear() { memset(tile, 0, (FACTORS + 1) * SIZE * sizeof(real)); }

  public:
    Sums(const Head &head, long group) : head(head), group(group), tile(memory[2].of((FACTORS + 1) * SIZE)) { clear(); }

    // Where a loop adds: of a tile's row, counted from above and from below, and the keys from `column` on.
    void point(long row, long below, long column, real **into) {
        for (long n = 0; n < FACTORS; ++n) {
            long at = KINDS[n] == ROW ? row : KINDS[n] == COLUMN ? column : KINDS[n] == LINE ? below + column : 0;
            into[n] = tile + n * SIZE + at;
        }
    }

    // Adds a tile's.
    void add(long start, long stop, long first, long last) {
        const Task &t = head.task;
        for (long n = 0; n < FACTORS; ++n) {
            if (!TRAINED[n]) continue;
            const real *sum = tile + n * SIZE;
            double *into = received(n);
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
        clear();
    }

    ~Sums() {
        for (long n = 0; n < FACTORS; ++n)
            if (TRAINED[n] && KINDS[n] == NUMBER) *received(n) = numbers[n];
    }
};
