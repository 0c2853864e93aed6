"""The trials of a study: read again only where they may have changed, written only after the trial they follow.

Optuna reads every trial that is not finished, whenever it is asked for one, and writes new ones one by one; where a
connection breaks it writes again without looking whether the first time arrived. A grid of thousands needs the one to
be less, and a grid of which each cell runs once the other to be safe. This file alone knows Optuna's tables.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.storages._rdb import models
    from optuna.trial import FrozenTrial

#: The attribute of a trial that names its cell, by number.
CELL = "cell"
#: A trial to be written, and the number of its cell's last trial so far; None where it is the cell's first.
New: TypeAlias = "tuple[FrozenTrial, int | None]"


class Trials:
    """The trials of a study.

    Args:
        rdb: Optuna's view of the database.
        study: the study's id there.
    """

    def __init__(self, rdb: RDBStorage, study: int) -> None:
        self.rdb, self.study = rdb, study
        self._known: dict[int, FrozenTrial] = {}

    def all(self) -> list[FrozenTrial]:
        """All of them by number. Only a running trial changes; the others are read once in each state."""
        from optuna.storages._rdb.models import TrialModel
        from optuna.trial import TrialState
        from sqlalchemy import select

        with self.rdb.engine.connect() as connection:
            rows = connection.execute(
                select(TrialModel.trial_id, TrialModel.state).where(TrialModel.study_id == self.study)
            ).all()
        newest = max(self._known, default=-1)
        changed = {
            key
            for key, state in rows
            if key <= newest
            and (state == TrialState.RUNNING or key not in self._known or self._known[key].state != state)
        }
        if changed or any(key > newest for key, _ in rows):
            found = self.rdb._get_trials(self.study, None, changed, newest)
            self._known.update((trial._trial_id, trial) for trial in found)
        return sorted(self._known.values(), key=lambda trial: trial.number)

    def one(self, number: int) -> FrozenTrial:
        """The trial of a number, as it stands."""
        return self.rdb.get_trial(self.rdb.get_trial_id_from_study_id_trial_number(self.study, number))

    def append(self, new: Sequence[New]) -> int:
        """Write those that still follow the last trial of their cell, in one transaction; how many.

        What was written before, by whomever, is not written again: this may be repeated at will.
        """
        from optuna.storages._rdb.models import StudyModel, TrialModel, TrialUserAttributeModel
        from sqlalchemy import func, select, update
        from sqlalchemy.orm import Session

        written = 0
        with Session(self.rdb.engine) as session, session.begin():
            # A write that changes nothing: nobody else adds a trial to the study until the end of the transaction.
            session.execute(
                update(StudyModel).where(StudyModel.study_id == self.study).values(study_id=StudyModel.study_id)
            )
            cell = TrialUserAttributeModel.value_json
            attributes = select(cell, func.max(TrialModel.number)).join(
                TrialModel, TrialModel.trial_id == TrialUserAttributeModel.trial_id
            )
            here = (TrialModel.study_id == self.study, TrialUserAttributeModel.key == CELL)
            last = {
                json.loads(text): number for text, number in session.execute(attributes.where(*here).group_by(cell))
            }
            count = session.scalar(select(func.count()).where(TrialModel.study_id == self.study)) or 0
            for trial, before in new:
                if last.get(trial.user_attrs[CELL]) == before:
                    session.add(_row(trial, self.study, count + written))
                    last[trial.user_attrs[CELL]] = count + written
                    written += 1
        return written


def _row(trial: FrozenTrial, study: int, number: int) -> models.TrialModel:
    """A trial without values as Optuna's tables hold it."""
    from optuna.distributions import distribution_to_json
    from optuna.storages._rdb import models

    row = models.TrialModel(
        study_id=study,
        number=number,
        state=trial.state,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
    )
    row.user_attributes = [
        models.TrialUserAttributeModel(key=key, value_json=json.dumps(value)) for key, value in trial.user_attrs.items()
    ]
    row.system_attributes = [
        models.TrialSystemAttributeModel(key=key, value_json=json.dumps(value))
        for key, value in trial.system_attrs.items()
    ]
    row.params = [
        models.TrialParamModel(
            param_name=name,
            param_value=distribution.to_internal_repr(trial.params[name]),
            distribution_json=distribution_to_json(distribution),
        )
        for name, distribution in trial.distributions.items()
    ]
    for step, value in trial.intermediate_values.items():
        stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
        row.intermediate_values.append(
            models.TrialIntermediateValueModel(step=step, intermediate_value=stored, intermediate_value_type=kind)
        )
    return row
