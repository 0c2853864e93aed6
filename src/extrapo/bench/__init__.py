"""Benchmark: what attention under a bias, and a whole training step, cost beside plain causal attention.

contenders   what is timed: attention, training steps and decoding, by encoding
baselines    the formulations that people use today, written from their formulas
nanogpt      a whole model of today
timing       interleaved runs, medians, intervals
machine      what the figures belong to, and who else was there
work         operations, and the share of what the device could do
memory       peak memory, in a child process
suite        all of it, as rows
"""

from __future__ import annotations

from extrapo.bench.machine import Load, this_machine
from extrapo.bench.suite import DEFAULTS, Suite, check_memory, run

__all__ = ["DEFAULTS", "Load", "Suite", "check_memory", "run", "this_machine"]
