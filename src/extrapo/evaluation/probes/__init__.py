"""Probes: whether a model finds what stands far back, which a flat perplexity does not say.

base          what a probe is, how its items are scored, and the accuracy at each length
passkey       a number hidden in filler, asked for at the end (Mohtashami and Jaggi, 2305.16300)
induction     random tokens, and what followed one of them (Olsson et al., 2209.11895): induction, copy

A new one is a file here that registers it, and an import below.
"""

from __future__ import annotations

from extrapo.evaluation.probes.base import PROBES, Item, NextTokens, Probe, Result, run_probe
from extrapo.evaluation.probes.induction import Copy, Induction
from extrapo.evaluation.probes.passkey import Passkey

__all__ = ["PROBES", "Copy", "Induction", "Item", "NextTokens", "Passkey", "Probe", "Result", "run_probe"]
