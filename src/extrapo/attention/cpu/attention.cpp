// Causal attention under a formula of pairs, by tiles, forward and backward (FlashAttention, Dao et al., 2205.14135).
//
// Before this file stand a formula (the type `real`, FACTORS, KINDS, TRAINED, and three loops over some keys of a row,
// `weights`, `largest` and `gradients`, see source.py), tiles.h, and one kind of Scores. Each thread calls
// `attention_forward` or `attention_backward` on the same Task and takes parts of it until none is left; what a part adds up
// is added up in one order, whichever thread has it.

// Adds up the output of rows start..stop-1 and the sums of their weights e^(logit - shift).
static void add_up(const Head &head, Scores &scores, long start, long stop, const real *shift, real *total, real *tile) {
    const Task &t = head.task;
    const real *factors[FACTORS + 1];
    bool begun = false;
    for (long i = start; i < stop; ++i) total[i - start] = 0;
    for_blocks(head, start, stop, [&](long first, long last) {
        scores.make(first, last, tile);
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
    Scores scores(head, start, stop);
    // In place of the largest logit, which would take a pass of its own, that of the query's own key.
    for (long i = start; i < stop; ++i) {
        const real score = real(t.scale) * dot(head.at(t.q, i), head.at(t.k, head.offset() + i), t.width);
        point(head, i, head.offset() + i, factors);
        shift[i - start] = largest(&score, 1, factors);
    }
    add_up(head, scores, start, stop, shift, total, tile);
    bool fine = true;
    for (long i = 0; i < stop - start; ++i) fine = fine && total[i] < LARGE;
    if (!fine) {
        for (long i = 0; i < stop - start; ++i) shift[i] = -INFINITY;
        for_blocks(head, start, stop, [&](long first, long last) {
            scores.make(first, last, tile);
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
        add_up(head, scores, start, stop, shift, total, tile);
    }
    for (long i = start; i < stop; ++i) {
        real *out = head.at(t.out, i);
        for (long n = 0; n < t.values; ++n) out[n] /= total[i - start];
        t.lse[head.index() * t.queries + i] = shift[i - start] + std::log(total[i - start]);
    }
}

static void backward_rows(const Head &head, Sums &sums, long start, long stop, long group) {
    const Task &t = head.task;
    real *p = memory[0].of(ROWS * COLUMNS), *ds = memory[1].of(ROWS * COLUMNS), delta[ROWS];
    const real *factors[FACTORS + 1], *lse = t.lse + head.index() * t.queries;
    real *into[FACTORS + 1];
    Scores scores(head, start, stop, group);
    for (long i = start; i < stop; ++i) delta[i - start] = dot(head.at(t.grad, i), head.at(t.out, i), t.values);
    for_blocks(head, start, stop, [&](long first, long last) {
        scores.make(first, last, p);
        multiply(t, false, true, stop - start, last - first, t.values, 1, head.at(t.grad, start), t.grad.token,
                 head.at(t.v, first), t.v.token, 0, ds, COLUMNS);
        for (long i = start; i < stop; ++i) {
            long row = (i - start) * COLUMNS - first;
            for_seen(
                head, i, first, last,
                [&](long a, long b) {
                    point(head, i, a, factors);
                    sums.point(i - start, stop - 1 - i, a - first, into);
                    gradients(p + row + a, ds + row + a, b - a, factors, lse[i], delta[i - start], into);
                },
                [&](long a, long b) {
                    memset(p + row + a, 0, (b - a) * sizeof(real));
                    memset(ds + row + a, 0, (b - a) * sizeof(real));
                });
        }
        sums.add(start, stop, first, last);
        multiply(t, true, false, last - first, t.values, stop - start, 1, p, COLUMNS, head.at(t.grad, start),
                 t.grad.token, 1, head.at(t.dv, first) + group * t.group_values, t.dv.token);
        scores.back(first, last, ds);
    });
    scores.finish();
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
        Sums sums(head, group);
        // Long rows and short ones by turns: each group has as many of both.
        for (long block = blocks - 1; block >= 0; --block) {
            long place = block % (2 * t.groups);
            if (place == group || place == 2 * t.groups - 1 - group)
                backward_rows(head, sums, block * ROWS, least((block + 1) * ROWS, t.queries), group);
        }
    }
}
