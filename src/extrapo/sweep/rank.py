"""A further rank of a trial: the same model, the same steps. The first rank starts `python -m extrapo.sweep.rank`."""

from __future__ import annotations

import json
import os

from extrapo.config import RunConfig
from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.run.fit import fit
from extrapo.run.pruning import PruningCallback
from extrapo.run.resume import resume

#: Where the further ranks of a trial find what they train: they never choose anything.
RANKS = "EXTRAPO_TRIAL"


def rank_main() -> None:
    """The life of a further rank; it stops when the first rank is told to.

    Raises:
        UserError: not started by a trial.
    """
    encoded = os.environ.get(RANKS)
    if encoded is None:
        raise UserError("this is how a sweep starts the ranks of a trial, and nothing for people")
    task = json.loads(encoded)
    config = RunConfig(**task["config"])
    if task["resume"] is None:
        fit(config, callbacks=[PruningCallback()])
    else:
        resume(task["resume"], Location.of(config), callbacks=[PruningCallback()])


if __name__ == "__main__":
    rank_main()
