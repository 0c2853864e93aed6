"""Sweeps: many runs of one question, started, watched, and never lost. Read the files in this order:

plan.py        the question as YAML, and its cells
objective.py   what a cell is judged by: perplexity at a length, area, degradation length, speed
storage.py     the database of the study, waited for while it is away, and its lock
study.py       Optuna: the study of a plan, its sampler and its pruner
trials.py      the trials of the study: read when they change, written after the one they follow
queue.py       which cell is waited for, running, done; who died; what goes back into the queue
worker.py      one trial, one process
slots.py       what a trial may use of the machine: its devices and its threads
supervisor.py  keeps the slots busy until the queue is empty
summary.py     what came out: mean and spread over seeds, importance, Pareto front, curves
slurm.py       the same workers as a job array
"""
