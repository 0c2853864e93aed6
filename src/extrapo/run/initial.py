"""Continued training: a run that starts from the weights of another, as for a longer context (YaRN, 2309.00071), or
without the positions it was trained with (DroPE, 2512.12167).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from extrapo import encodings
from extrapo.config import EncodingFormSettings, ResolvedConfig, RunConfig, ShapeSettings, TextSettings
from extrapo.encodings.interpolated import Interpolated
from extrapo.errors import UserError
from extrapo.gpt import GPT
from extrapo.location import Location
from extrapo.run.another import option_names, parts_of, settings_of
from extrapo.run.find import TOKENIZER, find_checkpoint, recorded_config, sibling_file
from extrapo.run.setup import World
from extrapo.run.weights import Match, encoding_in_force, listed, match, put
from extrapo.tracking import Recorder
from extrapo.training import load_checkpoint

#: The run that another one starts from.
TAG = "extrapo.init"
#: What of its weights was loaded, in the new run's folder and among its artifacts.
FILE = "init.json"
#: With another value the weights would mean something else, or none of them would fit.
FIXED = ("dim", "heads", "kv_heads", "tied", "share_encoding")
#: Token ids mean what the tokenizer of the trained weights says.
VOCABULARY = ("tokenizer", "vocab_size")


@dataclass(frozen=True)
class Loaded:
    """What a run has of another one.

    Args:
        origin: the other one, as the configuration has it.
        found: its weights, and what of them has a place.
    """

    origin: str
    found: Match = field(repr=False)

    def record(self, recorder: Recorder) -> None:
        """Keep it in the record of the new run."""
        recorder.tag(TAG, self.origin)
        names = {"loaded": sorted(self.found.taken), "new": self.found.new, "left_out": self.found.left_out}
        listing = {key: [_full(one) for one in some] for key, some in names.items()}
        recorder.file(FILE, json.dumps({"init": self.origin, "numbers": self.found.numbers, **listing}, indent=1))


def _full(one: Any) -> str:
    return one if isinstance(one, str) else ".".join(filter(None, one))


@final
@dataclass(frozen=True)
class Start:
    """A trained run whose weights another one starts from.

    Args:
        checkpoint: of the weights.
        origin: the run's id, or the checkpoint's path where it is recorded elsewhere.
        config: of the run.
        tokenizer: the file of its tokenizer.
        gpt: its model.
    """

    checkpoint: Path
    origin: str
    config: ResolvedConfig
    tokenizer: Path
    gpt: GPT = field(repr=False)

    @classmethod
    def of(cls, config: RunConfig) -> Start:
        """The run that `init` names.

        Raises:
            UserError: there is no such run, or several processes would each find another one.
        """
        named, location = str(config.init), Location.of(config)
        if named == "last" and World.of(config).size > 1:
            raise UserError("`init='last'` is another run for each of several processes: name it by its id")
        checkpoint = find_checkpoint(named, location).resolve()
        run_id = checkpoint.parent.name
        is_here = not named.endswith(".ckpt") and checkpoint.parent == location.folder(run_id)
        return cls(
            checkpoint=checkpoint,
            origin=run_id if is_here else str(checkpoint),
            config=recorded_config(checkpoint),
            tokenizer=sibling_file(checkpoint, TOKENIZER),
            gpt=load_checkpoint(checkpoint).gpt,
        )

    def continued(self, config: RunConfig) -> RunConfig:
        """The configuration of a run from here: shape, encoding, text, tokenizer and T of this one, unless others are
        given.

        Raises:
            UserError: a setting that the weights do not allow.
        """
        given, before = config.model_fields_set, dict(self.config)
        for name in (*FIXED, *VOCABULARY):
            value = getattr(config, name)
            if name in given and value != before[name]:
                why = "its ids would stand for other text" if name in VOCABULARY else "its weights would not fit"
                raise UserError(f"`{name}` {value}: the run that it starts from has {before[name]}, and {why}")
        kept = [*ShapeSettings.model_fields, *TextSettings.model_fields, "seq_len", "share_encoding"]
        update = {name: before[name] for name in kept if name not in given}
        encoding = config.encoding if "encoding" in given else encoding_in_force(self.gpt)
        form = EncodingFormSettings(encoding_options=config.encoding_options, kernel=config.kernel)
        chosen = settings_of(self.gpt, encoding, form)
        options = self._stretched(encoding, chosen["encoding_options"], config.seq_len if "seq_len" in given else None)
        update |= {"encoding": encoding, "encoding_options": options, "kernel": chosen["kernel"], "init": self.origin}
        return config.model_copy(update=update)

    def _stretched(self, encoding: str, options: Mapping[str, Any], length: int | None) -> dict[str, Any]:
        """The options, with what a stretched RoPE takes from the length that the weights were trained at."""
        parts, before = parts_of(encoding), self.config.seq_len
        own = {part: dict(options if len(parts) == 1 else options.get(part, {})) for part in parts}
        for part in [part for part in parts if part not in parts_of(encoding_in_force(self.gpt))]:
            if "original_length" in option_names(part):
                own[part].setdefault("original_length", before)
            if issubclass(encodings.get(part), Interpolated) and length is not None and length > before:
                own[part].setdefault("factor", length / before)
        return own[parts[0]] if len(parts) == 1 else {part: of_part for part, of_part in own.items() if of_part}

    def into(self, gpt: GPT, say: Callable[[str], None]) -> Loaded:
        """Put the weights into a model that is new, as far as they have a place there, and say how far that is.

        Raises:
            UserError: nothing of them has.
        """
        found = match(self.gpt, gpt)
        if not found.taken:
            raise UserError(f"`init` {self.origin}: none of its weights fits this model")
        put(found, gpt)
        say(
            f"starts from {self.config.name} {self.checkpoint.parent.name[:8]}, {encoding_in_force(self.gpt)} trained "
            f"at {self.config.seq_len}: {found.numbers:,} numbers loaded"
        )
        say(f"new, as the seed and the options make them: {listed(found.new) or 'nothing'}")
        say(f"left out of its weights: {listed(found.left_out) or 'nothing'}")
        return Loaded(self.origin, found)
