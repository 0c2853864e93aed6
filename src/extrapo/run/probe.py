"""A task put to a trained model, from where it was left off, and recorded in its run."""

from __future__ import annotations

import json
from hashlib import file_digest, sha256
from pathlib import Path

from torch import Tensor
from torch.nn import functional as F

from extrapo import figures
from extrapo.attention import check_impl
from extrapo.config import ProbeSettings
from extrapo.config.evaluation import default_lengths
from extrapo.errors import Interrupted, UserError
from extrapo.evaluation.probes import PROBES, NextTokens, Result, Unfinished, run_probe
from extrapo.figures.distances import distances_figure
from extrapo.figures.places import places_figure
from extrapo.figures.scores import scores_figure
from extrapo.gpt import GPT
from extrapo.location import Location
from extrapo.reading import check_regular, path_of
from extrapo.run.evaluate import available
from extrapo.run.find import find_checkpoint
from extrapo.run.load import load
from extrapo.run.reporter import Reporter, Silent
from extrapo.tracking.probes import record_probe


def probe(
    run: str,
    location: Location,
    reporter: Reporter = Silent(),  # noqa: B008
    settings: ProbeSettings = ProbeSettings(),  # noqa: B008
) -> tuple[list[Result], Path]:
    """How often the model finds what it is asked for, by length, and the picture by length and place or distance.

    What is found stands in the run's folder until all is: a call that was stopped, and is made again, goes on there.

    Args:
        run: a run, or the path of a checkpoint.
        location: where the run is recorded.
        reporter: where progress goes.
        settings: the task, its questions, the compute path of attention.

    Raises:
        UserError: no such run or task, or a length that is too short for it.
        Interrupted: by Ctrl-C; what was found is kept.
    """
    made = PROBES.get(settings.task)
    check_impl(settings.impl)
    checkpoint = find_checkpoint(run, location)
    device = available(settings.device)
    loaded = load(checkpoint, device=device, impl=settings.impl, skip=settings.skip)
    config, task = loaded.config, settings.task
    tasks = made.asked(loaded.tokenizer, settings)
    usual = default_lengths(config.seq_len)
    fit = [one.lengths(usual) for one in tasks]
    lengths = settings.lengths or [length for length in fit[0] if all(length in others for others in fit)]
    if not lengths:
        raise UserError(f"probe '{task}' needs more than {usual[-1]:,} tokens here")
    reporter.say(f"{config.encoding}, {config.layers} layers, trained at {config.seq_len}: {task}")
    unfinished = Unfinished(checkpoint.parent / f"probe-{task}.unfinished.json", key(settings, checkpoint))
    if unfinished.count:
        reporter.say(f"{unfinished.count:,} answers are known from before: going on from there")
    try:
        with reporter.curve_progress() as progress:
            results = run_probe(
                tasks,
                next_tokens(loaded.model),
                lengths,
                settings,
                device=device,
                unfinished=unfinished,
                progress=progress,
            )
    except KeyboardInterrupt as stop:
        unfinished.save()
        raise Interrupted(checkpoint.parent.name) from stop
    rows = [result.row() for result in results]
    if any("distance" in row for row in rows):
        title = f"{config.encoding}: {task}, by distance"
        figure = distances_figure(rows, train_length=config.seq_len, title=title)
    elif any(row["places"] for row in rows):
        figure = places_figure(rows, title=f"{config.encoding}: {task}, accuracy by length and place")
    else:
        figure = scores_figure(rows, title=f"{config.encoding}: {task}")
    picture = figures.save(figure, checkpoint.parent / f"probe-{task}.png")
    record_probe(location, checkpoint.parent.name, task, rows, picture)
    unfinished.forget()
    return results, picture


def key(settings: ProbeSettings, checkpoint: Path) -> str:
    """What the answers depend on: the settings but for the lengths, each of which has its own, the weights and a file
    of questions.
    """
    asked = settings.model_dump(mode="json", exclude={"lengths"})
    files = [checkpoint] + ([path_of(settings.items)] if isinstance(settings.items, str) else [])
    for path in files:
        try:
            check_regular(path)
            with path.open("rb") as file:
                asked[str(path)] = file_digest(file, "sha256").hexdigest()
        except OSError as cause:
            raise UserError(f"cannot read `items={str(path)!r}`: {cause.strerror}") from cause
    return sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def next_tokens(gpt: GPT) -> NextTokens:
    """A model as probes see it."""

    def model(tokens: Tensor, last: int) -> Tensor:
        hidden = gpt.hidden(tokens)[:, -last:]
        return F.linear(hidden, gpt.unembedding.weight).float().log_softmax(-1)

    return model
