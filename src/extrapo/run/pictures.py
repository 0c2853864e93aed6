"""The pictures of a trained run that are drawn when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch

from extrapo.config import ResolvedConfig
from extrapo.data import held_out
from extrapo.encodings import create
from extrapo.errors import UserError
from extrapo.evaluation.look import LayerLook, looks
from extrapo.figures.gain import gain_figure
from extrapo.figures.mean_bias import mean_bias_figure
from extrapo.figures.passage import passage_figure
from extrapo.figures.sentence_bias import sentence_figure
from extrapo.location import Location
from extrapo.run.find import find_checkpoint, recorded_config, sibling_tokenizer
from extrapo.run.reporter import Reporter, Silent
from extrapo.tracking.curves import read_sheet
from extrapo.training import load_checkpoint

#: A figure of matplotlib, which only the pictures themselves know.
Figure: TypeAlias = Any
#: Tokens of the start of the validation text, where no text is given: of a sentence, of a passage.
FEW, MANY = 8, 160


class Look:
    """What a trained model does on a text.

    Args:
        checkpoint: of the model.
        text: to be shown; None for the first `tokens` of its validation text.
        tokens: how many of these.
        reporter: where people read.
    """

    def __init__(self, checkpoint: Path, text: str | None, tokens: int, reporter: Reporter) -> None:
        self.config: ResolvedConfig = recorded_config(checkpoint)
        tokenizer = sibling_tokenizer(checkpoint)
        if text is not None:
            ids = list(tokenizer.encode(text))
            self.source = "a text that was given"
        else:
            ids = held_out(self.config.data, tokenizer, say=reporter.say).validation[:tokens].tolist()
            self.source = f"the start of the validation text of {self.config.data}"
        if len(ids) < 2:
            raise UserError("`text` has fewer than two tokens: there is no pair to show")
        self.words = [tokenizer.decode([token]) for token in ids]
        self.layers: list[LayerLook] = looks(load_checkpoint(checkpoint).gpt, torch.tensor([ids]))

    def layer(self, asked: int | None) -> int:
        """A layer that there is; the last one where none is asked for."""
        if asked is not None and not 0 <= asked < len(self.layers):
            raise UserError(f"`layer` {asked}: the model has layers 0 to {len(self.layers) - 1}")
        return len(self.layers) - 1 if asked is None else asked


def mean_bias(checkpoint: Path, text: str | None, layer: int | None, reporter: Reporter) -> Figure:
    """The bias of a layer in the mean over heads, beside ALiBi's."""
    look = Look(checkpoint, text, max(recorded_config(checkpoint).seq_len, 2), reporter)
    at = look.layer(layer)
    bias = look.layers[at].bias
    heads, length = bias.shape[0], bias.shape[-1]
    alibi = create("alibi", heads=heads, head_dim=8, dim=8 * heads).bias(torch.zeros(1, length, 8 * heads)).dense()
    name = f"{look.config.encoding}, layer {at}"
    caption = f"mean over {heads} heads, over its largest size; {length:,} tokens, {look.source}"
    return mean_bias_figure(
        bias, alibi[0].detach().numpy(), name=name, caption=caption, train_length=look.config.seq_len
    )


def sentence(checkpoint: Path, text: str | None, layer: int | None, reporter: Reporter) -> Figure:
    """The bias of each layer and head on a short sentence."""
    look = Look(checkpoint, text, FEW, reporter)
    shown = look.layers if layer is None else [look.layers[look.layer(layer)]]
    title = f"{look.config.encoding} after {look.config.steps:,} steps: bias of {len(look.words)} tokens"
    return sentence_figure(
        [one.bias for one in shown], look.words, title=title, caption=f"rows: queries; {look.source}"
    )


def increments(checkpoint: Path, text: str | None, layer: int | None, reporter: Reporter) -> Figure:
    """How far each token of a passage moves the clock."""
    look = Look(checkpoint, text, MANY, reporter)
    with_clock = [number for number, one in enumerate(look.layers) if one.positions is not None]
    if not with_clock:
        raise UserError(f"the tokens drive no positions in '{look.config.encoding}': there are no increments to show")
    at = look.layer(with_clock[-1] if layer is None else layer)
    clock = look.layers[at].positions
    if clock is None:
        raise UserError(f"the tokens drive no positions in layer {at}; they do in {', '.join(map(str, with_clock))}")
    title = f"{look.config.encoding}, layer {at}: how far each token moves the clock"
    return passage_figure(clock, look.words, title=title, caption=f"S_t - S_(t-1); ·: a space; {look.source}")


def context_gain(checkpoint: Path, text: str | None, layer: int | None, reporter: Reporter) -> Figure:
    """What more context is worth, by the run's own curve."""
    rows = read_sheet(checkpoint.parent)
    config = recorded_config(checkpoint)
    if not rows:
        raise UserError(f"run {checkpoint.parent.name[:8]} has no curve yet")
    return gain_figure({config.encoding: rows}, train_length=config.seq_len, title=f"{config.encoding}: context gain")


#: Name -> what draws it.
PICTURES: dict[str, Callable[[Path, str | None, int | None, Reporter], Figure]] = {
    "mean-bias": mean_bias,
    "sentence": sentence,
    "increments": increments,
    "context-gain": context_gain,
}


def picture(
    run: str,
    name: str,
    location: Location,
    reporter: Reporter = Silent(),  # noqa: B008
    *,
    text: str | None = None,
    layer: int | None = None,
) -> Figure:
    """Draw one of PICTURES.

    Args:
        run: a run, or the path of a checkpoint.
        name: of the picture.
        location: where the run is recorded.
        reporter: where people read.
        text: to be shown in place of the start of the validation text.
        layer: of which, where the picture is of one.

    Raises:
        UserError: no such picture or run, or nothing of the kind to see in it.
    """
    if name not in PICTURES:
        raise UserError(f"there is no picture '{name}'; there are {', '.join(PICTURES)}")
    return PICTURES[name](find_checkpoint(run, location), text, layer, reporter)
