"""The kinds of values that settings take, and the spellings of them that are understood."""

from __future__ import annotations

import json
import math
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

#: More of anything, tokens or steps, is a slip of the hand.
LARGEST_COUNT = 2**40
LARGEST_VOCABULARY = 2**24
#: Processes of one machine, and machines.
MOST_PROCESSES = 4096
#: How deep options are nested at most: of parts of parts of a composition.
DEEPEST_OPTIONS = 8


def joined(value: Any) -> Any:
    """A list of encodings, one per layer, is their names joined by commas."""
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return ",".join(value)
    return value


def _listed(value: Any) -> Any:
    """`128,256` is a list as well."""
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        return parts
    return [item for part in parts for item in (part.split(",") if isinstance(part, str) else [part])]


def _plain(value: Any, depth: int = 0) -> Any:
    """Options given as flags arrive as text: numbers, truth values and lists are meant as such.

    Raises:
        ValueError: what is no option: a name that is not text, a value that is not plain, a number that is not finite.
    """
    if depth > DEEPEST_OPTIONS:
        raise ValueError(f"options are nested at most {DEEPEST_OPTIONS} deep")
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"the name of an option is text, not {key!r}")
        # The parts of a composition keep their hyphens, options are Python names.
        return {k if isinstance(v, dict) else k.replace("-", "_"): _plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_value(one, depth + 1) for one in value]
    return _value(_read(value) if isinstance(value, str) else value, depth)


def _read(value: str) -> Any:
    """The number, list or truth value that a text spells, else the text."""
    for kind in (int, float, _list):
        try:
            return kind(value)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(value.lower(), value)


def _list(value: str) -> list[Any]:
    """`[13, 198]`; ValueError for what is no list."""
    try:
        items = json.loads(value)
    except RecursionError as cause:
        raise ValueError(value) from cause
    if not isinstance(items, list):
        raise ValueError(value)
    return items


def _value(value: Any, depth: int) -> Any:
    """A plain value as it is; ValueError for another one."""
    if depth > DEEPEST_OPTIONS:
        raise ValueError(f"options are nested at most {DEEPEST_OPTIONS} deep")
    if isinstance(value, list):
        return [_value(one, depth + 1) for one in value]
    if isinstance(value, dict):
        return _plain(value, depth)
    if not isinstance(value, bool | int | float | str | None):
        raise ValueError(f"the value of an option is a number, a text, a truth value or a list, not {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"the value of an option must be a finite number, not {value}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("the value of an option must be a number of 64 bits")
    return _text(value) if isinstance(value, str) and value else value


def _text(value: str) -> str:
    """Text in one line that is what it looks like."""
    # Of signs that nobody sees as well: marks of formatting, accents without a letter, spaces.
    if all(unicodedata.category(sign) in ("Cf", "Mn", "Zs") for sign in value.strip()):
        raise ValueError("must not be empty")
    for sign in value:
        if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(sign) in _DIRECTIONS:
            raise ValueError(f"must have no line breaks, control characters or direction marks, and has {sign!a}")
    return value


#: Marks that make a text look like another one.
_DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def _path(value: str) -> str:
    """What may be the name of a file: that may have line breaks."""
    if not value.strip():
        raise ValueError("must not be empty; a folder or a file is expected")
    for sign in value:
        if sign == "\0" or unicodedata.category(sign) == "Cs":
            raise ValueError(f"must be text that can be written down, and has {sign!a}")
    return value


def _no_truth(value: Any) -> Any:
    """A truth value is no number, though Python counts with it."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {value}")
    return value


Whole = Annotated[int, BeforeValidator(_no_truth)]
Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_no_truth)]
Count = Annotated[Whole, Field(ge=1, le=LARGEST_COUNT)]
CountOrZero = Annotated[Whole, Field(ge=0, le=LARGEST_COUNT)]
#: A text of one token has nothing to attend to, and no second half.
TrainLength = Annotated[Whole, Field(ge=2, le=LARGEST_COUNT)]
#: Pictures, of which a thousand are as good as more.
Pictures = Annotated[Whole, Field(ge=0, le=1000)]
Layers = Annotated[Whole, Field(ge=1, le=10_000)]
#: Of a model, and heads in it.
Width = Annotated[Whole, Field(ge=1, le=2**20)]
#: Of a tokenizer: the 256 bytes and the separator at least.
TokenizerSize = Annotated[Whole, Field(ge=257, le=LARGEST_VOCABULARY)]
Vocabulary = Annotated[Whole, Field(ge=1, le=LARGEST_VOCABULARY)]
#: At least one, which is checked beside what the machine has.
Devices = Annotated[Whole, Field(le=MOST_PROCESSES)]
Processes = Annotated[Whole, Field(ge=1, le=MOST_PROCESSES)]
Port = Annotated[Whole, Field(ge=1, le=65_535)]
#: What PyTorch and NumPy both take.
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]
Positive = Annotated[Number, Field(gt=0)]
PositiveOrZero = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, lt=1)]
Lengths = Annotated[tuple[Count, ...], Field(min_length=1), BeforeValidator(_listed)]
#: A name or an address: one line that is what it looks like.
Line = Annotated[str, Field(max_length=1000), AfterValidator(_text)]
#: A name that a person gives, and that a database and a page must hold.
Name = Annotated[str, Field(max_length=200), AfterValidator(_text)]
Place = Annotated[str, AfterValidator(_path)]
#: Registry names: several joined by `+` in one layer, by commas from layer to layer.
EncodingName = Annotated[Line, BeforeValidator(joined)]
Options = Annotated[dict[str, Any], BeforeValidator(_plain)]
Norm = Literal["layernorm", "rmsnorm"]
MLP = Literal["gelu", "swiglu"]
SwapSchedule = Literal["cosine", "constant"]
SwapOptimizer = Literal["same", "fresh"]
