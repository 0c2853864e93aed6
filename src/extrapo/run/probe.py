"""A probe put to a trained model, and recorded in its run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torch.nn import functional as F

from extrapo import figures
from extrapo.attention import check_impl
from extrapo.config import InferenceSettings
from extrapo.config.evaluation import default_lengths
from extrapo.errors import UserError
from extrapo.evaluation.probes import PROBES, NextTokens, Result, run_probe
from extrapo.figures.places import places_figure
from extrapo.gpt import GPT
from extrapo.location import Location
from extrapo.run.evaluate import available
from extrapo.run.find import find_checkpoint
from extrapo.run.load import load
from extrapo.run.reporter import Reporter, Silent
from extrapo.tracking.probes import record_probe


def probe(
    run: str,
    location: Location,
    reporter: Reporter = Silent(),  # noqa: B008
    settings: InferenceSettings = InferenceSettings(),  # noqa: B008
    *,
    task: str,
    lengths: Sequence[int] | None = None,
    items: int = 100,
    places: int = 10,
    seed: int = 0,
    device: str = "auto",
) -> tuple[list[Result], Path]:
    """How often the model finds what it is asked for, by length, and the picture by length and place.

    Args:
        run: a run, or the path of a checkpoint.
        location: where the run is recorded.
        reporter: where progress goes.
        settings: compute path of attention.
        task: a name of PROBES.
        lengths: in tokens; None for T/2, T, 2T, 4T, 8T, 16T, those that the task fits in.
        items: questions at each length.
        places: where the model has to look, at so many places from the far end to the near one.
        seed: of the questions.
        device: auto, cpu or cuda.

    Raises:
        UserError: no such run or task, or a length that is too short for it.
    """
    made = PROBES.get(task)
    check_impl(settings.impl)
    checkpoint = find_checkpoint(run, location)
    on = available(device)
    loaded = load(checkpoint, device=on, impl=settings.impl, skip=settings.skip)
    asked = made(loaded.tokenizer)
    train_length = loaded.config.seq_len
    if lengths is None:
        lengths = [length for length in default_lengths(train_length) if asked.fits(length)]
        if not lengths:
            raise UserError(f"probe '{task}' needs more than {default_lengths(train_length)[-1]:,} tokens here")
    reporter.say(f"{loaded.config.encoding}, {loaded.config.layers} layers, trained at {train_length}: {task}")
    with reporter.curve_progress() as progress:
        results = run_probe(
            asked,
            next_tokens(loaded.model),
            lengths,
            items=items,
            places=places,
            seed=seed,
            device=on,
            progress=progress,
        )
    rows = [result.row() for result in results]
    title = f"{loaded.config.encoding}: {task}, accuracy by length and place"
    picture = figures.save(places_figure(rows, title=title), checkpoint.parent / f"probe-{task}.png")
    record_probe(location, checkpoint.parent.name, task, rows, picture)
    return results, picture


def next_tokens(gpt: GPT) -> NextTokens:
    """A model as probes see it."""

    def model(tokens: Tensor, last: int) -> Tensor:
        hidden = gpt.hidden(tokens)[:, -last:]
        return F.linear(hidden, gpt.unembedding.weight).float().log_softmax(-1)

    return model
