"""Benchmark: what attention under a bias, and a whole training step, cost beside plain causal attention.

contenders   what is timed: attention, training steps and decoding, by encoding
baselines    the formulations that people use today, written from their formulas
timing       interleaved runs, medians, spread
work         operations, and the share of what the device could do
memory       peak memory, in a child process
suite        all of it, as rows
"""

from __future__ import annotations

from extrapo.bench.suite import DEFAULTS, Suite, run

__all__ = ["DEFAULTS", "Suite", "run"]
