"""Optuna: the study of a sweep, its sampler and its pruner by name, and what a trial is told to try."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from extrapo.errors import UserError, unknown
from extrapo.location import redacted
from extrapo.sweep.growth import EARLIER, SPEC, choices_of, is_grown, keep_space
from extrapo.sweep.spec import Cell, Range, Scalar, SweepSpec
from extrapo.sweep.storage import Storage

if TYPE_CHECKING:
    import optuna

#: What makes two sweeps the same question; a search may go on with more trials, or with another sampler, and a grid
#: with more values of its settings.
QUESTION = ("mode", "space", "conditions", "fixed", "objective")


def samplers() -> dict[str, type[optuna.samplers.BaseSampler]]:
    """The samplers by name."""
    from optuna import samplers as of_optuna

    return {
        "tpe": of_optuna.TPESampler,
        "gp": of_optuna.GPSampler,
        "random": of_optuna.RandomSampler,
        "qmc": of_optuna.QMCSampler,
        "nsga-ii": of_optuna.NSGAIISampler,
    }


def pruners() -> dict[str, type[optuna.pruners.BasePruner]]:
    """The pruners by name."""
    from optuna import pruners as of_optuna

    return {
        "none": of_optuna.NopPruner,
        "median": of_optuna.MedianPruner,
        "percentile": of_optuna.PercentilePruner,
        "successive-halving": of_optuna.SuccessiveHalvingPruner,
        "hyperband": of_optuna.HyperbandPruner,
        "patient": of_optuna.PatientPruner,
        "threshold": of_optuna.ThresholdPruner,
    }


def sampler(spec: SweepSpec, number: int = 0) -> optuna.samplers.BaseSampler:
    """The sweep's sampler (default tpe); each trial's draws have a seed of their own, whoever runs it.

    A grid has nothing to choose, and a sampler that reads no other trials.
    """
    options = dict(spec.sampler or {"name": "tpe" if spec.mode == "search" else "random"})
    cls = _find("sampler", samplers(), options)
    options.setdefault("seed", zlib.crc32(f"{spec.name} {number}".encode()))
    return _built("sampler", cls, options)  # type: ignore[no-any-return]


def pruner(spec: SweepSpec) -> optuna.pruners.BasePruner:
    """The sweep's pruner (default none); `patient` asks the median's verdict to hold for `patience` validations."""
    from optuna.pruners import MedianPruner, PatientPruner

    options = dict(spec.pruner or {"name": "none"})
    cls = _find("pruner", pruners(), options)
    if cls is PatientPruner:
        options = {"wrapped_pruner": MedianPruner(), "patience": 2, **options}
    return _built("pruner", cls, options)  # type: ignore[no-any-return]


def _find(kind: str, classes: Mapping[str, type], options: dict[str, Any]) -> type:
    name = str(options.pop("name", ""))
    if name not in classes:
        raise unknown(kind, name, classes)
    return classes[name]


def _built(kind: str, cls: type, options: dict[str, Any]) -> Any:
    try:
        return cls(**options)
    except Exception as cause:  # of values of the wrong kind Optuna says whatever Python says of them
        raise UserError(f"{kind} {cls.__name__}: {str(cause).replace(cls.__name__ + '.__init__() ', '')}") from cause


def suggest(spec: SweepSpec, trial: optuna.Trial, listed: Mapping[str, list[Scalar]]) -> Cell:
    """What a trial is to try: its queued cell, or the sampler's choice; stored as it is chosen.

    Args:
        spec: the question.
        trial: Optuna's.
        listed: the values of each setting of a grid, see `growth.choices_of`.
    """
    chosen: Cell = {}
    for key, values in spec.space.items():
        if not spec.varies(key, chosen):
            continue
        if spec.mode == "grid":
            chosen[key] = trial.suggest_categorical(key, listed[key])
        elif not isinstance(values, Range):
            chosen[key] = trial.suggest_categorical(key, values)
        elif values.whole:
            step = int(values.step or 1)
            chosen[key] = trial.suggest_int(key, int(values.start), int(values.stop), step=step, log=values.log)
        else:
            chosen[key] = trial.suggest_float(key, values.start, values.stop, step=values.step, log=values.log)
    return chosen


def create_study(spec: SweepSpec, storage: Storage) -> optuna.Study:
    """The study of a sweep, new or as it stands; call it under the storage's lock.

    Raises:
        UserError: a study of this name that asked another question.
    """
    import optuna

    study = optuna.create_study(
        study_name=spec.name,
        storage=storage.rdb,
        directions=[asked.direction for asked in spec.objectives],
        sampler=sampler(spec),
        pruner=pruner(spec),
        load_if_exists=True,
    )
    asked = spec.model_dump(mode="json", by_alias=True)
    before = study.user_attrs.get(SPEC)
    if before is None:
        if study.get_trials(deepcopy=False):
            raise UserError(
                f"the study '{spec.name}' in {redacted(storage.url)} is not of a sweep; give the file another name"
            )
        study.set_metric_names([one.name for one in spec.objectives])
        study.set_user_attr(SPEC, asked)
        return study
    _same_question(spec, before, asked, storage)
    if before["space"] != asked["space"]:
        keep_space(study, before["space"])
    if before != asked:
        study.set_user_attr(SPEC, asked)
    if EARLIER in study.user_attrs:
        storage.widen(spec.name, choices_of(study))
    return study


def load_study(spec: SweepSpec, storage: Storage, number: int = 0) -> optuna.Study:
    """The study as it stands, with the sampler of a trial; it may have grown since.

    Raises:
        UserError: there is none, or it asks another question.
    """
    import optuna

    try:
        study = optuna.load_study(
            study_name=spec.name, storage=storage.rdb, sampler=sampler(spec, number), pruner=pruner(spec)
        )
    except KeyError as cause:
        raise UserError(f"no study '{spec.name}' in {redacted(storage.url)}: it has not been started") from cause
    asked, stands = spec.model_dump(mode="json", by_alias=True), study.user_attrs.get(SPEC, {})
    if is_grown(asked, stands):
        asked = {**asked, "space": stands["space"]}
    _same_question(spec, stands, asked, storage)
    return study


def _same_question(spec: SweepSpec, before: Mapping[str, Any], asked: Mapping[str, Any], storage: Storage) -> None:
    for key in QUESTION:
        if before.get(key) != asked[key] and not (key == "space" and is_grown(before, asked)):
            raise UserError(
                f"the study '{spec.name}' in {redacted(storage.url)} asked another question: its {key} "
                f"{_change(before.get(key), asked[key])}; give the file another name, or the study another `storage`"
            )


def _change(before: Any, after: Any) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *after]:
            if before.get(key) != after.get(key):
                return f"had {key}: {before.get(key)}, the file has {after.get(key)}"
    return f"was {before}, the file has {after}"
