"""The bias explorer of a run: a page made of what was recorded while it trained, or of its checkpoint as it is now."""

from __future__ import annotations

from pathlib import Path

import torch

from extrapo.config import ResolvedConfig
from extrapo.data import Tokenizer, held_out
from extrapo.errors import MachineError, UserError
from extrapo.evaluation.look import looks
from extrapo.figures.explorer import explorer_page
from extrapo.figures.explorer.page import TOKENS
from extrapo.files import write_text
from extrapo.location import Location
from extrapo.run.find import find_checkpoint, recorded_config, sibling_tokenizer
from extrapo.run.measured import home, trained_steps
from extrapo.run.reporter import Reporter, Silent
from extrapo.tracking import Recorder, RunStore
from extrapo.tracking.looks import Looks, recorded_looks
from extrapo.training import load_checkpoint

#: In the run's folder and among its artifacts.
PAGE = "explorer.html"


def explore(
    run: str,
    location: Location,
    reporter: Reporter = Silent(),  # noqa: B008
    *,
    output: Path | None = None,
) -> Path:
    """Write the page of a run, and record it in the run; returns the file.

    Args:
        run: a run, or the path of a checkpoint.
        location: where the run is recorded.
        reporter: where people read.
        output: the file; None for `explorer.html` in the run's folder.

    Raises:
        UserError: no such run, or one whose text or tokenizer is not to be had.
    """
    checkpoint = find_checkpoint(run, location)
    config, folder = recorded_config(checkpoint), checkpoint.parent
    tokenizer = sibling_tokenizer(checkpoint)
    recorder, found = None, None
    try:
        recorder = Recorder(RunStore.existing(home(checkpoint, location)), folder.name)
        found = recorded_looks(recorder.store.client, recorder.run_id)
    except (UserError, MachineError) as cause:
        reporter.say(f"not recorded: {cause}")
    if found is None:
        reporter.say("nobody looked while it trained: the page shows the checkpoint alone")
        text = held_out(config.data, tokenizer, say=reporter.say).validation
        found = checkpoint_looks(checkpoint, text[: min(TOKENS, config.seq_len)].tolist())
    page = page_of(config, folder.name, found, tokenizer)
    path = write_text(output or folder / PAGE, page)
    if recorder is not None:
        recorder.file(PAGE, page)
    return path


def record_explorer(recorder: Recorder, config: ResolvedConfig, tokenizer: Tokenizer) -> None:
    """Record the page of a run that has just been trained; nothing where nobody looked at it."""
    found = recorded_looks(recorder.store.client, recorder.run_id)
    if found is not None:
        recorder.file(PAGE, page_of(config, recorder.run_id, found, tokenizer))


def page_of(config: ResolvedConfig, run_id: str, found: Looks, tokenizer: Tokenizer) -> str:
    """The page of a run's looks."""
    about = {
        "encoding": config.encoding,
        "run": f"{config.name} {run_id[:8]}",
        "train_length": config.seq_len,
        "corpus": config.data,
    }
    return explorer_page(found.steps, [tokenizer.decode([token]) for token in found.tokens], about=about)


def checkpoint_looks(checkpoint: Path, tokens: list[int]) -> Looks:
    """What each layer does now, on these tokens."""
    layers = looks(load_checkpoint(checkpoint).gpt, torch.tensor([tokens]))
    return Looks(tokens, {trained_steps(checkpoint): layers})
