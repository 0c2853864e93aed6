"""A trained model measured at other lengths, on other text, under another protocol or another encoding; and its biases
on its own text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from extrapo.attention import check_impl
from extrapo.config import EncodingFormSettings, MeasurementSettings, ResolvedConfig
from extrapo.data import HeldOut, held_out
from extrapo.errors import UserError
from extrapo.evaluation import Point, Protocol, Reading, extrapolation_curve, protocol_of
from extrapo.gpt import GPT
from extrapo.location import Location
from extrapo.run.another import forms, parts_of, with_encoding
from extrapo.run.find import (
    CHECKPOINT,
    check_vocabulary,
    find_checkpoint,
    recorded_config,
    sibling_tokenizer,
)
from extrapo.run.measured import Measured, record
from extrapo.run.record import rows_of
from extrapo.run.reporter import Reporter, Silent
from extrapo.run.setup import reading, run_lengths
from extrapo.run.weights import encoding_in_force
from extrapo.training import LanguageModel, load_checkpoint

#: Neither options nor a kernel that are not the trained ones.
AS_TRAINED = EncodingFormSettings()


def evaluate(
    run: str,
    location: Location,
    reporter: Reporter = Silent(),  # noqa: B008
    settings: MeasurementSettings = MeasurementSettings(),  # noqa: B008
    *,
    data: str | None = None,
    device: str = "auto",
    recorded: bool = True,
) -> tuple[list[Point], int]:
    """The curve of one trained model, and its training length; arguments and errors as those of `measure`."""
    (only,) = measure([run], location, reporter, settings, data=data, device=device, recorded=recorded)
    return list(only.points), only.train_length


def measure(
    runs: Sequence[str],
    location: Location,
    reporter: Reporter = Silent(),  # noqa: B008
    settings: MeasurementSettings = MeasurementSettings(),  # noqa: B008
    *,
    encodings: Sequence[str] = (),
    form: EncodingFormSettings = AS_TRAINED,
    data: str | None = None,
    device: str = "auto",
    recorded: bool = True,
) -> list[Measured]:
    """The curves of trained models, each under its own encoding or under each of several others.

    Args:
        runs: runs, or paths of checkpoints.
        location: where the runs are recorded.
        reporter: where progress goes.
        settings: lengths, tokens, protocol, compute path; without lengths or tokens, those of each run.
        encodings: other encodings on the trained weights, see `another.with_encoding`; none is each run's own.
        form: the options and the kernel of these, see `another.forms`.
        data: another text; it is cut by the tokenizer that the model was trained with.
        device: auto, cpu or cuda.
        recorded: whether the curves are recorded in their runs; where that cannot be, a line says so.

    Raises:
        UserError: nothing to evaluate, nothing to evaluate it on, or an encoding that the weights do not fit; before
            anything is measured.
    """
    # A name that is none is told before anything is loaded.
    chosen = protocol_of(settings)
    check_impl(settings.impl)
    encodings = list(dict.fromkeys(encodings))
    for name in encodings:
        parts_of(name)
    if not encodings and form != AS_TRAINED:
        raise UserError("`encoding_options` and `kernel` are those of another `encoding`: name it")
    asked = list(zip(encodings, forms(encodings, form), strict=True)) if encodings else []
    on = available(device)
    texts: dict[tuple[str, str], HeldOut] = {}
    trials = []
    for checkpoint in dict.fromkeys(find_checkpoint(run, location) for run in runs):
        config = recorded_config(checkpoint)
        tokenizer = sibling_tokenizer(checkpoint)
        spec = data or config.data
        key = (spec, tokenizer.sha256)
        texts[key] = texts.get(key) or held_out(spec, tokenizer, say=reporter.say)
        wanted = settings.eval_tokens or config.eval_tokens
        its = settings.model_copy(update={"lengths": settings.lengths or config.lengths, "eval_tokens": wanted})
        read = reading(its, tokenizer)
        lengths = run_lengths(its, config.seq_len, read.reach(texts[key].validation), reporter.say)
        module = load_checkpoint(checkpoint, on, settings.impl, settings.skip)
        check_vocabulary(checkpoint, tokenizer, module.gpt.config.vocab_size)
        own, trained = module.gpt, encoding_in_force(module.gpt)
        every = [(name, its_form, with_encoding(own, name, its_form, reporter.say)) for name, its_form in asked]
        for name, its_form, gpt in every or [(trained, AS_TRAINED, own)]:
            is_own = (name, its_form) == (trained, AS_TRAINED)
            trials.append(
                Trial(checkpoint, config, texts[key], read, lengths, wanted, module, gpt, name, its_form, is_own)
            )
    return [trial.run(location, reporter, settings, chosen, on, recorded) for trial in trials]


@dataclass(frozen=True)
class Trial:
    """One model on one text, ready to be measured.

    Args:
        checkpoint: of its weights.
        config: of its run.
        text: to be scored.
        reading: over the borders of its documents or not.
        lengths: in tokens.
        tokens: targets wanted at each of them.
        module: what scores.
        gpt: the model in it.
        encoding: in force.
        form: what was given of its options.
        is_own: whether it is the encoding of the training, unchanged.
    """

    checkpoint: Path
    config: ResolvedConfig
    text: HeldOut
    reading: Reading
    lengths: Sequence[int]
    tokens: int
    module: LanguageModel = field(repr=False)
    gpt: GPT = field(repr=False)
    encoding: str
    form: EncodingFormSettings
    is_own: bool

    def run(
        self,
        location: Location,
        reporter: Reporter,
        settings: MeasurementSettings,
        protocol: Protocol,
        device: str,
        recorded: bool,
    ) -> Measured:
        """Measure, and record what came of it."""
        config, text = self.config, self.text
        reporter.say(
            f"{self.encoding}, {config.layers} layers, trained at {config.seq_len}, on {text.name} "
            f"({len(text.validation):,} validation tokens, sha256 {text.sha256[:12]})"
        )
        self.module.gpt = self.gpt
        with reporter.curve_progress() as progress:
            points = extrapolation_curve(
                self.module.token_nll,
                text.validation,
                self.lengths,
                tokens_wanted=self.tokens,
                protocol_name=protocol,
                token_bytes=text.tokenizer.token_bytes(),
                reading=self.reading.by(self.module),
                device=device,
                progress=progress,
            )
        which = "" if self.checkpoint.name == CHECKPOINT else f" {self.checkpoint.stem}"
        found = Measured(
            checkpoint=self.checkpoint,
            run=f"{config.name} {self.checkpoint.parent.name[:8]}{which}",
            encoding=self.encoding,
            form=self.form,
            is_own=self.is_own,
            corpus=text.name,
            skip=settings.skip,
            train_length=config.seq_len,
            points=points,
            rows=rows_of(points, config, text),
        )
        return record(found, location, reporter.say) if recorded else found


def trained_biases(
    checkpoint: Path, length: int, say: Callable[[str], None] = lambda line: None
) -> tuple[str, list[NDArray[np.float32]]]:
    """A title, and what each layer of a trained model adds to s q.k on the first `length` validation tokens, (H, T, T).

    Raises:
        UserError: nothing lies beside the checkpoint, or the text is shorter.
    """
    config = recorded_config(checkpoint)
    text = held_out(config.data, sibling_tokenizer(checkpoint), say=say)
    if length > len(text.validation):
        raise UserError(f"the validation text has {len(text.validation):,} tokens, not {length:,}")
    tokens = torch.from_numpy(np.asarray(text.validation[:length], dtype=np.int64)).unsqueeze(0)
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
