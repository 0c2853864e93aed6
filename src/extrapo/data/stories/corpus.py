"""The stories as a corpus: a spec such as `tiny-stories-like,words=2000000,seed=1` becomes documents in two splits."""

from __future__ import annotations

from collections.abc import Iterator

from extrapo.data.stories.presets import PRESETS, VALIDATION, Story, story
from extrapo.errors import UserError, unknown

DEFAULT_PRESET = "tiny-stories-like"
DEFAULT_WORDS = 1_000_000

#: One word in so many is held out, and never fewer than one story.
HELD_OUT = 20
#: Of a setting: more words would take years.
DIGITS = 12

_SETTINGS = ("words", "seed")


def read_spec(spec: str) -> tuple[str, int, int]:
    """(preset, words, seed) of PRESET[,words=N][,seed=N]; "" is the default preset.

    Raises:
        UserError: an unknown preset or setting, or not a number.
    """
    name, *settings = spec.split(",")
    preset = name.strip() or DEFAULT_PRESET
    if preset not in PRESETS:
        raise unknown("preset of stories", preset, PRESETS)
    numbers = {"words": DEFAULT_WORDS, "seed": 0}
    for setting in settings:
        key, _, value = (part.strip() for part in setting.partition("="))
        if key not in numbers:
            raise unknown("setting of the corpus 'stories'", key, _SETTINGS)
        number = int(value) if value.isascii() and value.isdigit() and len(value) <= DIGITS else -1
        if number < (key == "words"):
            wanted = f"a whole number of at most {DIGITS} digits for {key}"
            raise UserError(f"the corpus 'stories' needs {wanted}, not '{value}'")
        numbers[key] = number
    return preset, numbers["words"], numbers["seed"]


def of_words(preset: str, words: int, *, seed: int = 0, validation: bool = False) -> Iterator[Story]:
    """Stories in order until they have that many words; one at least. The two splits share none."""
    index = VALIDATION if validation else 0
    told = 0
    while not told or told < words:
        made = story(preset, index, seed=seed)
        yield made
        told += made.words
        index += 1


def splits(spec: str) -> tuple[tuple[Story, ...], tuple[Story, ...]]:
    """The training stories, of as many words as the spec says, and the held-out ones.

    Raises:
        UserError: see `read_spec`.
    """
    preset, words, seed = read_spec(spec)
    train = tuple(of_words(preset, words, seed=seed))
    return train, tuple(of_words(preset, words // HELD_OUT, seed=seed, validation=True))
