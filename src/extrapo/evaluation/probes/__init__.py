"""Probes: whether a model finds what stands far back, which a flat perplexity does not say; and what else it is asked.

item          a question, its answers, and which is right
likelihood    how likely a model finds each answer, whatever the size of a batch
result        accuracy, how sure it is, and by place
base          what a task is: questions at any length, or from a file
unfinished    what was found when a task was stopped
ask           a task put to a model
passkey       a number hidden in filler, asked for at the end (Mohtashami and Jaggi, 2305.16300); hidden has the filler
recall        several keys with a value each, and one is asked for (Arora et al., 2312.04927)
story_recall  what a long story said once and needs again, by how far back it stands
induction     random tokens, and what followed one of them (Olsson et al., 2209.11895): induction, copy
from_file     tasks whose questions stand in a file
hellaswag     four endings of a text (Zellers et al., 1905.07830), by four scores
lambada       the last word of a passage (Paperno et al., 1606.06031)

A new one is a file here that registers it, and an import below.
"""

from __future__ import annotations

from extrapo.evaluation.probes.ask import Progress, run_probe
from extrapo.evaluation.probes.base import PROBES, Probe, Task
from extrapo.evaluation.probes.from_file import FileTask
from extrapo.evaluation.probes.hellaswag import HellaSwag
from extrapo.evaluation.probes.induction import Copy, Induction
from extrapo.evaluation.probes.item import Item
from extrapo.evaluation.probes.lambada import Lambada
from extrapo.evaluation.probes.likelihood import Likelihood, NextTokens
from extrapo.evaluation.probes.passkey import Passkey
from extrapo.evaluation.probes.recall import Recall
from extrapo.evaluation.probes.result import Result
from extrapo.evaluation.probes.story_recall import StoryRecall
from extrapo.evaluation.probes.unfinished import Unfinished

__all__ = [
    "PROBES",
    "Copy",
    "FileTask",
    "HellaSwag",
    "Induction",
    "Item",
    "Lambada",
    "Likelihood",
    "NextTokens",
    "Passkey",
    "Probe",
    "Progress",
    "Recall",
    "Result",
    "StoryRecall",
    "Task",
    "Unfinished",
    "run_probe",
]
