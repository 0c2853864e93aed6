// Scores s q.k by products of matrices.

class Scores {
    const Head &head;
    const long start, stop, group;
    bool begun = false;

  public:
    // Of rows start..stop-1 of a head, in the backward pass those of a group of rows.
    Scores(const Head &head, long start, long stop, long group = -1) : head(head), start(start), stop(stop), group(group) {}

    // Writes those of keys first..last-1.
    void make(long first, long last, real *tile) {
        const Task &t = head.task;
        multiply(t, false, true, stop - start, last - first, t.width, t.scale, head.at(t.q, start), t.q.token,
                 head.at(t.k, first), t.k.token, 0, tile, COLUMNS);
    }

    // Adds what their gradients give to q and k.
    void back(long first, long last, const real *ds) {
        const Task &t = head.task;
        multiply(t, false, false, stop - start, t.width, last - first, t.scale, ds, COLUMNS, head.at(t.k, first),
                 t.k.token, begun, head.at(t.dq, start), t.dq.token);
        multiply(t, true, false, last - first, t.width, stop - start, t.scale, ds, COLUMNS, head.at(t.q, start),
                 t.q.token, 1, head.at(t.dk, first) + group * t.group_keys, t.dk.token);
        begun = true;
    }

    // Once all keys have been seen.
    void finish() {}
};
