"""A trained model measured at other lengths, on other text, under another protocol; and its biases on its own text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from extrapo.attention import check_impl
from extrapo.config import MeasurementSettings
from extrapo.data import prepare
from extrapo.errors import UserError
from extrapo.evaluation import Point, extrapolation_curve, protocol_of
from extrapo.location import Location
from extrapo.run.load import find_checkpoint, recorded_config, sibling_file
from extrapo.run.reporter import Reporter, Silent
from extrapo.run.setup import reading, run_lengths
from extrapo.training import load_checkpoint


def evaluate(
    run: str,
    location: Location,
    reporter: Reporter = Silent(),  # noqa: B008
    settings: MeasurementSettings = MeasurementSettings(),  # noqa: B008
    *,
    data: str | None = None,
    device: str = "auto",
) -> tuple[list[Point], int]:
    """The curve of a trained model, and its training length.

    Args:
        run: a run, or the path of a checkpoint.
        location: where the run is recorded.
        reporter: where progress goes.
        settings: lengths, tokens, protocol, compute path.
        data: another text; it is cut by the tokenizer that the model was trained with.
        device: auto, cpu or cuda.

    Raises:
        UserError: nothing to evaluate, or nothing to evaluate it on.
    """
    # A name that is none is told before anything is loaded.
    chosen = protocol_of(settings)
    check_impl(settings.impl)
    checkpoint = find_checkpoint(run, location)
    config = recorded_config(checkpoint)
    tokenizer = sibling_file(checkpoint, "tokenizer.json")
    device = available(device)
    corpus = prepare(data or config.data, tokenizer=f"file:{tokenizer}", say=reporter.say)
    asked = settings.model_copy(update={"lengths": settings.lengths or config.lengths})
    module = load_checkpoint(checkpoint, device, asked.impl, asked.skip)
    read = reading(asked, corpus.tokenizer)
    reporter.say(
        f"{config.encoding}, {config.layers} layers, trained at {config.seq_len}, on {corpus.name} "
        f"({len(corpus.validation):,} validation tokens, sha256 {corpus.sha256[:12]})"
    )
    with reporter.curve_progress() as progress:
        points = extrapolation_curve(
            module.token_nll,
            corpus.validation,
            run_lengths(asked, config.seq_len, read.reach(corpus.validation), reporter.say),
            tokens_wanted=asked.eval_tokens,
            protocol_name=chosen,
            token_bytes=corpus.tokenizer.token_bytes(),
            reading=read.by(module),
            device=device,
            progress=progress,
        )
    return points, config.seq_len


def trained_biases(
    checkpoint: Path, length: int, say: Callable[[str], None] = lambda line: None
) -> tuple[str, list[NDArray[np.float32]]]:
    """A title, and what each layer of a trained model adds to s q.k on the first `length` validation tokens, (H, T, T).

    Raises:
        UserError: nothing lies beside the checkpoint, or the text is shorter.
    """
    config = recorded_config(checkpoint)
    corpus = prepare(config.data, tokenizer=f"file:{sibling_file(checkpoint, 'tokenizer.json')}", say=say)
    if length > len(corpus.validation):
        raise UserError(f"the validation text has {len(corpus.validation):,} tokens, not {length:,}")
    tokens = torch.from_numpy(np.asarray(corpus.validation[:length], dtype=np.int64)).unsqueeze(0)
    biases = load_checkpoint(checkpoint).gpt.biases(tokens)
    return f"{config.encoding} after {config.steps:,} steps", [bias[0].numpy() for bias in biases]


def available(device: str) -> str:
    """`cpu` or `cuda`; UserError if that is not to be had."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("`device='cuda'`: this machine has no CUDA device that torch can see")
    if device not in ("cpu", "cuda"):
        raise UserError(f"`device` must be auto, cpu or cuda, not '{device}'")
    return device
