"""Tasks whose questions stand in a file: read once, and cut from the left where a model is to see less of them."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from extrapo.config import ProbeSettings
from extrapo.errors import UserError
from extrapo.evaluation.probes.base import Task
from extrapo.evaluation.probes.item import Item, Vocabulary
from extrapo.reading import check_regular, path_of


class FileTask(Task):
    """Questions of a file.

    Args:
        tokenizer: the model's.
        path: the file.
        limit: how many of them, from the first on; None is all.

    Raises:
        UserError: no such file, or not of this form.
    """

    name: ClassVar[str]
    #: What the file is, for who does not say where.
    form: ClassVar[str]

    def __init__(self, tokenizer: Vocabulary, path: str | Path, limit: int | None = None) -> None:
        super().__init__(tokenizer)
        lines = read_lines(path_of(path))
        try:
            self.whole = self.questions(lines, limit)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as cause:
            raise UserError(f"'{path}' is not {self.form}: {type(cause).__name__} {cause}") from cause
        if not self.whole or any(size < 1 for item in self.whole for size in item.answers):
            raise UserError(f"'{path}' has no questions, or an empty answer")

    @classmethod
    def asked(cls, tokenizer: Vocabulary, settings: ProbeSettings) -> Sequence[Self]:
        if not isinstance(settings.items, str):
            raise UserError(f"probe '{cls.name}' needs `items`, the path of {cls.form}")
        return [cls(tokenizer, settings.items, settings.limit)]

    @abstractmethod
    def questions(self, lines: Sequence[str], limit: int | None) -> list[Item]:
        """The first questions of a file, or all; ValueError, KeyError and the like where it is another one."""

    def lengths(self, usual: Sequence[int]) -> list[int]:
        """As much as the longest question has."""
        return [max(len(text) - 1 for item in self.whole for text in item.texts)]

    def items(self, length: int, settings: ProbeSettings) -> list[Item]:
        """The questions, of each the last `length` tokens that stand before its last one."""
        longest = max(size for item in self.whole for size in item.answers)
        if length < longest:
            raise UserError(f"probe '{self.name}' needs a length of at least {longest} tokens, its longest answer")
        return [item._replace(texts=[text[-(length + 1) :] for text in item.texts]) for item in self.whole]

    def ends(self, context: str, endings: Sequence[str]) -> tuple[list[np.ndarray[Any, Any]], list[int]]:
        """A text with each of these endings behind it, as tokens, and how many of them are the ending's.

        As lm-evaluation-harness cuts them: the whole is one text, and what goes beyond the tokens of the context alone
        is the answer.
        """
        # Spaces at its end belong to the answer.
        before = self.tokenizer.encode(context.rstrip())
        answers = [self.tokenizer.encode(f"{context} {ending}")[len(before) :] for ending in endings]
        return [np.array([*before, *answer], dtype=np.int64) for answer in answers], [len(answer) for answer in answers]


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without those at its end that are empty; UserError if it cannot be read."""
    try:
        check_regular(path)
        # Only line feeds end a line: a question may hold other characters that Python takes for one.
        return path.read_text(encoding="utf-8").replace("\r\n", "\n").rstrip("\n").split("\n")
    except OSError as cause:
        raise UserError(f"cannot read '{path}': {cause.strerror}") from cause
    except UnicodeDecodeError as cause:
        raise UserError(f"'{path}' is not a text in UTF-8") from cause


def records(lines: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """JSON, one document a line."""
    return (json.loads(line) for line in lines if line)
