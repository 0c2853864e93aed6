"""The progress of a preparation, and a prepared corpus, as people read them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from extrapo.silence import pause

#: Columns of the longest bar of a plot.
BAR = 40


class PreparationProgress:
    """How far a preparation is: tokens, tokens per second, time left; a line now and then where nobody watches.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._name, self._total = "", 0
        self._began = self._told = time.monotonic()
        self._first: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=self.console,
                expand=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, name: str, total: int) -> None:
        """Begin a new bar."""
        self._name, self._total, self._first = name, total, None
        self._began = self._told = time.monotonic()
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(name, total=total or None, rate="")

    def progress(self, size: int, tokens: int) -> None:
        """Move on."""
        now = time.monotonic()
        if self._first is None:
            # What was there before, or came with the first look, is no measure of the speed.
            self._first, self._began = (size, tokens), now
        speed = (tokens - self._first[1]) / max(now - self._began, 1e-3)
        rate = f"{tokens:,} tokens  {speed:,.0f} tokens/s" if tokens else f"{size / 1e6:,.0f} MB"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=size, rate=rate)
        elif now - self._told >= pause(now - self._began):
            self._told = now
            left = ""
            if self._total and size > self._first[0]:
                seconds = (self._total - size) * (now - self._began) / (size - self._first[0])
                left = f"  {max(0.0, seconds) / 60:.1f} min left"
            self.console.print(f"{self._name}: {rate}{left}", highlight=False, markup=False)


def length_plot(lengths: Sequence[Mapping[str, int]]) -> str:
    """The lengths of documents as bars, one for each power of two."""
    if not lengths:
        return ""
    most = max(row["documents"] for row in lengths)
    names = [f"{row['low']:,} - {row['high'] - 1:,}" for row in lengths]
    width = max(map(len, names))
    lines = ["tokens of a document"]
    for name, row in zip(names, lengths, strict=True):
        bar = "█" * max(bool(row["documents"]), round(BAR * row["documents"] / most))
        lines.append(f"{name:>{width}}  {bar} {row['documents']:,}")
    return "\n".join(lines)


def corpus_lines(found: Mapping[str, Any]) -> str:
    """A corpus in a few lines."""
    tokenizer, splits = found["tokenizer"], found["splits"]
    lines = [
        f"{found['name']}: {found['tokens']:,} tokens in {found['documents']:,} documents, {found['shards']} shards",
        f"tokenizer:  {tokenizer['name']}, {tokenizer['vocab_size']:,} ids, sha256 {tokenizer['sha256'][:12]}",
    ]
    for name, split in splits.items():
        if split["tokens"]:
            per_token = split["text_bytes"] / split["tokens"]
            lines.append(
                f"{name + ':':<11} {split['tokens']:,} tokens, {split['documents']:,} documents, "
                f"{split['text_bytes']:,} bytes of text ({per_token:.2f} a token)"
                + (f", {split['annotations']:,} annotations" if split["annotations"] else "")
            )
    lines += [f"sha256:     {found['sha256']}", f"folder:     {found['folder']}"]
    return "\n".join(lines)
