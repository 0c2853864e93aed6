"""What a sweep came to: mean and spread over seeds, importance of each setting, Pareto front, the best per kernel."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from extrapo.evaluation.comparison import over_seeds
from extrapo.sweep.queue import CURVE, ERROR, RUN, Queue, state
from extrapo.sweep.spec import Cell, SweepSpec
from extrapo.sweep.text import format_cell, format_mean

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

#: The key whose values are repetitions of one cell.
SEED = "seed"


@dataclass(frozen=True)
class Group:
    """The trials that differ in nothing but their seed.

    Args:
        cell: what they share.
        trials: those that are complete.
        names: the objectives.
    """

    cell: Cell
    trials: Sequence[FrozenTrial]
    names: Sequence[str]

    def values(self, objective: int) -> list[float]:
        """The values of an objective, one per seed."""
        return [trial.values[objective] for trial in self.trials]

    def mean(self, objective: int) -> float:
        """Their mean."""
        return fmean(self.values(objective))

    def spread(self, objective: int) -> float | None:
        """Their standard deviation (n - 1); None for a single seed, or where one is infinite."""
        values = self.values(objective)
        return stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None

    def curve(self) -> list[dict[str, Any]]:
        """Every length over the seeds, see `evaluation.comparison.over_seeds`."""
        return [over_seeds(same) for same in zip(*(trial.user_attrs[CURVE] for trial in self.trials), strict=True)]

    def document(self) -> dict[str, Any]:
        """As plain values."""
        objectives = {
            name: {"mean": self.mean(i), "std": self.spread(i), "values": self.values(i)}
            for i, name in enumerate(self.names)
        }
        return {
            "cell": self.cell,
            "seeds": len(self.trials),
            "objectives": objectives,
            "trials": [trial.number for trial in self.trials],
            "runs": [trial.user_attrs.get(RUN) for trial in self.trials],
        }


@dataclass(frozen=True)
class Summary:
    """What a sweep came to.

    Args:
        spec: the question.
        counts: cells by state.
        groups: best first, by the first objective.
        importance: per objective, the share of each setting in its variance; empty where there is too little to say.
        front: the trials that no other beats in all objectives; empty for a single objective.
        errors: why cells failed, by trial number.
    """

    spec: SweepSpec
    counts: Mapping[str, int]
    groups: list[Group]
    importance: dict[str, dict[str, float]]
    front: list[FrozenTrial]
    errors: dict[int, str]

    def per_kernel(self) -> dict[str, Group]:
        """The best group of each kernel; where the kernel does not vary, of each encoding or of the first key."""
        best: dict[str, Group] = {}
        for group in self.groups:
            best.setdefault(format_cell({key: group.cell.get(key) for key in self.kind()}), group)
        return best

    def kind(self) -> list[str]:
        """The keys by which `per_kernel` tells trials apart."""
        for kind in ("kernel", "encoding"):
            keys = [key for key in self.spec.space if key == kind or key.startswith(f"{kind}.")]
            if keys:
                return keys
        return [next(key for key in self.spec.space if key != SEED or len(self.spec.space) == 1)]

    def document(self) -> dict[str, Any]:
        """The summary as a document of plain values."""
        counted = {name: self.counts.get(name, 0) for name in ("complete", "pruned", "failed", "running", "waiting")}
        return {
            "study": self.spec.name,
            "objective": self.spec.objective,
            "cells": sum(counted.values()),
            "trials": counted,
            "best": self.groups[0].document() if self.groups else None,
            "table": [group.document() for group in self.groups],
            "importance": self.importance,
            "pareto": [
                {
                    "trial": trial.number,
                    "cell": trial.params,
                    "values": trial.values,
                    "run_id": trial.user_attrs.get(RUN),
                }
                for trial in self.front
            ],
            "per_kernel": {
                name: {"cell": group.cell, "curve": group.curve()} for name, group in self.per_kernel().items()
            },
            "errors": self.errors,
        }

    def rows(self) -> list[dict[str, object]]:
        """The table: a row per group, mean and spread of each objective."""
        keys = [key for key in self.spec.space if key != SEED]
        return [
            {
                **{key: group.cell.get(key, "-") for key in keys},
                **{name: format_mean(group.mean(i), group.spread(i)) for i, name in enumerate(group.names)},
                "seeds": len(group.trials),
            }
            for group in self.groups
        ]


def summarise(queue: Queue) -> Summary:
    """What a study has come to so far."""
    spec = queue.spec
    cells = list(queue.cells().values())
    complete = [trial for trial in cells if state(trial) == "complete"]
    groups: dict[str, list[FrozenTrial]] = {}
    for trial in complete:
        groups.setdefault(repr(_unseeded(trial.params)), []).append(trial)
    ordered = [Group(_unseeded(same[0].params), same, spec.objective) for same in groups.values()]
    sign = -1.0 if spec.objectives[0].direction == "maximize" else 1.0
    ordered.sort(key=lambda group: sign * group.mean(0))
    return Summary(
        spec=spec,
        counts=queue.counts(),
        groups=ordered,
        importance=_importance(queue, complete),
        front=queue.storage.patiently(lambda: queue.study.best_trials) if complete and len(spec.objective) > 1 else [],
        errors={trial.number: trial.user_attrs[ERROR] for trial in cells if state(trial) == "failed"},
    )


#: Trials from which on their better half says what matters, where several seeds show what chance alone does; without
#: them, twice as many: of six cells, the half that chance made better has something in common more often than not.
ENOUGH = 8


def _unseeded(cell: Cell) -> Cell:
    return {key: value for key, value in cell.items() if key != SEED}


def _importance(queue: Queue, complete: Sequence[FrozenTrial]) -> dict[str, dict[str, float]]:
    """PED-ANOVA's, which also handles keys that only some trials have: what tells the better half from the rest.

    Optuna's own choice, the best tenth, is a single trial of a small grid, and says nothing.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    importance: dict[str, dict[str, float]] = {}
    seeds = {trial.params.get(SEED) for trial in complete}
    enough = ENOUGH if len(seeds) > 1 else 2 * ENOUGH
    for index, asked in enumerate(queue.spec.objectives):
        # Given a target, Optuna takes small for good.
        sign = -1.0 if asked.direction == "maximize" else 1.0
        finite = {trial.values[index] for trial in complete if math.isfinite(trial.values[index])}
        if len(complete) < enough or len(finite) < 2:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                shares = get_param_importances(
                    queue.study,
                    evaluator=PedAnovaImportanceEvaluator(target_quantile=0.5),
                    target=lambda trial, i=index, s=sign: s * trial.values[i],  # type: ignore[misc]
                )
            except (ValueError, RuntimeError):
                # Too little variance, or too few trials of a kind, for it to say anything.
                continue
        importance[asked.name] = {key: round(float(share), 4) for key, share in shares.items()}
    return importance
