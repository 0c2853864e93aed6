"""Documents to ids: stretches of text in, arrays of ids out, in several threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extrapo.data.document import Annotation
from extrapo.data.sources import Split
from extrapo.data.tokenizer import Ids, Tokenizer

JOB = 1_000_000
"""Characters that are encoded at once."""

#: What the `tokenizers` library reads of the environment.
PARALLELISM = "TOKENIZERS_PARALLELISM"


@dataclass(frozen=True)
class Stretch:
    """A document, or a piece of a long one.

    Args:
        text: what is encoded.
        begins: whether a document begins with it, and so a separator stands before it.
        split: where it belongs.
        annotations: of the document.
    """

    text: str
    begins: bool
    split: Split
    annotations: tuple[Annotation, ...] = ()


@dataclass(frozen=True)
class Job:
    """Stretches that are encoded together.

    Args:
        stretches: them, in order.
        part: the part of the corpus that they come from.
        done: stretches of that part up to the last of these.
    """

    stretches: tuple[Stretch, ...]
    part: int
    done: int


@dataclass(frozen=True)
class Encoded:
    """What a job gives to one split.

    Args:
        ids: (N,) with the separators.
        starts: (documents,) int64, the places of the separators.
        text_bytes: of UTF-8.
        annotations: with token indices: {"token", "tokens", "distance", ...}, the indices counted from `ids`.
    """

    ids: NDArray[Any]
    starts: NDArray[np.int64]
    text_bytes: int
    annotations: tuple[dict[str, Any], ...]


def jobs(stretches: Iterable[tuple[int, Stretch]], part: int = 0, done: int = 0) -> Iterator[Job]:
    """Group the stretches of (part, stretch) pairs; the first `done` of the first part are not among them.

    Where a job ends depends on what came since the last end alone: what goes on from there makes the same jobs.
    """
    held: list[Stretch] = []
    size = 0
    for at, stretch in stretches:
        if held and (at != part or size + len(stretch.text) > JOB):
            done += len(held)
            yield Job(tuple(held), part, done)
            held, size = [], 0
        if at != part:
            part, done = at, 0
        held.append(stretch)
        size += len(stretch.text)
    if held:
        yield Job(tuple(held), part, done + len(held))


def one_by_one(job: Job) -> Iterator[Job]:
    """The same as jobs of one stretch each."""
    before = job.done - len(job.stretches)
    for number, stretch in enumerate(job.stretches, start=1):
        yield Job((stretch,), job.part, before + number)


def encode(job: Job, tokenizer: Tokenizer, dtype: str) -> dict[Split, Encoded]:
    """The ids of a job, by split."""
    plain = [stretch.text for stretch in job.stretches if not stretch.annotations]
    encoded: Iterator[Ids] = iter(tokenizer.encode_batch(plain))
    ids: dict[Split, list[NDArray[Any]]] = {"train": [], "validation": []}
    starts: dict[Split, list[int]] = {"train": [], "validation": []}
    notes: dict[Split, list[dict[str, Any]]] = {"train": [], "validation": []}
    size: dict[Split, int] = {"train": 0, "validation": 0}
    text_bytes: dict[Split, int] = {"train": 0, "validation": 0}
    separator = np.array([tokenizer.separator], dtype)
    for stretch in job.stretches:
        split = stretch.split
        if stretch.begins:
            starts[split].append(size[split])
            ids[split].append(separator)
            size[split] += 1
        if stretch.annotations:
            own: Ids
            own, places = tokenizer.encode_with_places(stretch.text)
            notes[split] += [_in_tokens(one, places, size[split]) for one in stretch.annotations]
        else:
            own = next(encoded)
        ids[split].append(np.array(own, dtype))
        size[split] += len(own)
        text_bytes[split] += len(stretch.text.encode())
    return {
        split: Encoded(
            np.concatenate([np.empty(0, dtype), *ids[split]]),
            np.array(starts[split], np.int64),
            text_bytes[split],
            tuple(notes[split]),
        )
        for split in ids
    }


def _in_tokens(annotation: Annotation, places: NDArray[np.int64], offset: int) -> dict[str, Any]:
    """The annotation by tokens, given the (tokens + 1,) character at which each token begins."""
    first = int(np.searchsorted(places, annotation.start, side="right")) - 1
    last = int(np.searchsorted(places, annotation.end, side="left"))
    note = {**annotation.label, "token": offset + first, "tokens": max(1, last - first), "distance": None}
    if annotation.since is not None:
        note["distance"] = first - (int(np.searchsorted(places, annotation.since, side="right")) - 1)
    return note


def encode_all(
    work: Iterable[Job], tokenizer: Tokenizer, dtype: str, workers: int
) -> Generator[tuple[Job, dict[Split, Encoded]]]:
    """Encode jobs in threads, in their order: while the `tokenizers` library works, others may run Python.

    Args:
        work: the jobs; few of them are held at a time.
        tokenizer: what encodes them.
        dtype: of the ids.
        workers: threads.
    """
    pool = ThreadPoolExecutor(workers, "encode")
    waiting: deque[tuple[Job, Future[dict[Split, Encoded]]]] = deque()
    with one_core_each():
        try:
            for job in work:
                waiting.append((job, pool.submit(encode, job, tokenizer, dtype)))
                if len(waiting) > 2 * workers:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def one_core_each() -> Iterator[None]:
    """The library takes no threads of its own in the block, where it is not told otherwise: it asks anew each time."""
    if PARALLELISM in os.environ:
        yield
        return
    os.environ[PARALLELISM] = "false"
    try:
        yield
    finally:
        del os.environ[PARALLELISM]
