"""Sweeps: many runs of one question, started, watched, and never lost. Read the files in this order; each imports only
those above it:

text.py        values, cells and durations as people read them
objective.py   what a cell is judged by: perplexity at a length, area, degradation length, speed
spec.py        the specification of a sweep as YAML, and its cells
slots.py       what a trial may use of the machine: its devices and its threads
process.py     the process of a trial, and whether it is still alive
storage.py     the database of the study, waited for while it is away, and its lock
growth.py      a grid that grew since it was started
study.py       Optuna: the study of a sweep, its sampler and its pruner
queue.py       which cell waits, runs, is done; who died; what goes back into the queue
rank.py        a further rank of a trial that has several processes
task.py        what the process of a trial is given
worker.py      one trial, one process
launch.py      starts that process
interrupt.py   signals that ask to stop while a sweep runs
progress.py    how far a sweep is, in words
supervisor.py  keeps the slots busy until the queue is empty
summary.py     what came out: mean and spread over seeds, importance, Pareto front, curves
report.py      the same as lines and tables, and in MLflow
rerun.py       a trial again, by its number
cost.py        what a sweep will cost
check.py       every mistake that can be found before anything is written
dry_run.py     the cells and their cost, and nothing else
slurm.py       the same workers as a job array
command.py     what is done with a sweep: open its queue, run it here, hand it to SLURM

Optuna keeps the trials, gives signs of life a date and finds those that have none (`fail_stale_trials`), and queues a
trial again (`RetryHeartbeatStaleTrialCallback`). `study.py` uses its public interface alone. `queue.py` goes further,
because `study.ask` neither claims a given trial nor lets several machines agree on one: it calls the methods of the
storage (states, attributes, heartbeats, numbers), makes the `Trial` of a claimed one, and hands on `system_attrs`. None
of this does Optuna mean for its users: hence the bounds on its version.

Four guarantees are ours, for Optuna gives them only while nothing dies between two steps:

1. No cell is lost (queue.py). All are queued before the first runs, and whoever starts next queues what is missing; a
   trial that failed and was not queued again, because its finder died as well, is found again.
2. No cell runs twice (queue.py, worker.py). A trial is claimed under a lock, and only if it is its cell's last; a
   process whose trial was given to somebody else ends itself, and cannot complete it.
3. A dead trial goes on where it was (process.py, queue.py, supervisor.py). On its own machine it is found at once, by
   its process, together with the ranks that it leaves; it goes on in the same MLflow run, at its last checkpoint, until
   it dies too often without a new one.
4. A database that is away kills nobody (storage.py). It is waited for, and what was being done is done again, which
   does no harm.
"""
