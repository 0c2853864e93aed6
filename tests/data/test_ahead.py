"""Batches read one ahead: the same ones, in their order, and a cursor that knows nothing of what is on its way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from extrapo.data import BatchLoader
from extrapo.data.ahead import Lane, one_ahead

CPU = torch.device("cpu")
TOKENS = np.tile(np.arange(41, dtype=np.uint16), 4)


def loader(**changes: Any) -> BatchLoader:
    return BatchLoader(TOKENS, seq_len=8, batch_size=4, seed=3, **changes)


def test_one_is_made_while_another_is_in_use_and_no_more() -> None:
    made: list[int] = []
    second = threading.Event()

    def batches() -> Iterator[Tensor]:
        for n in range(5):
            made.append(n)
            if n == 1:
                second.set()
            yield torch.tensor([n])

    walker = one_ahead(batches(), CPU)
    assert int(next(walker)) == 0
    assert second.wait(30)
    assert made == [0, 1]
    assert [int(batch) for batch in walker] == [1, 2, 3, 4]
    assert made == [0, 1, 2, 3, 4]


def test_an_error_comes_where_the_batch_would() -> None:
    def batches() -> Iterator[Tensor]:
        yield torch.tensor([0])
        raise OSError("the disk went away")

    walker = one_ahead(batches(), CPU)
    assert int(next(walker)) == 0
    with pytest.raises(OSError, match="went away"):
        next(walker)


def test_whoever_stops_leaves_no_thread() -> None:
    before = threading.active_count()
    walker = one_ahead((torch.tensor([n]) for n in range(9)), CPU)
    next(walker)
    walker.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


@pytest.mark.parametrize("separator", [None, 7])
def test_the_cursor_counts_what_was_handed_out(separator: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped anywhere, and resumed with or without batches ahead: the very next one, none lost."""
    plain = loader(separator=separator)
    whole = [batch for _ in range(3) for batch in plain]
    cursors = [loader(separator=separator).state_dict()]
    walker = loader(separator=separator)
    cursors += [walker.state_dict() for _ in range(3) for _ in walker]
    real = BatchLoader._on_the_way
    for stop in range(len(whole)):
        with monkeypatch.context() as patch:
            patch.setattr(BatchLoader, "_on_the_way", lambda self, batches: one_ahead(batches, CPU))
            ahead = loader(separator=separator)
            found = [batch for _ in range(stop // len(plain)) for batch in ahead]
            found += islice(ahead, stop % len(plain))
            saved = ahead.state_dict()
        assert BatchLoader._on_the_way is real
        assert saved == cursors[stop]
        resumed = loader(separator=separator)
        resumed.load_state_dict(saved)
        found += [batch for _ in range(3) for batch in resumed]
        for x, y in zip(found, whole, strict=False):
            torch.testing.assert_close(x, y, rtol=0, atol=0)


def test_a_copy_is_on_a_stream_of_its_own_and_waited_for_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU is told, in its order, by a stand-in that writes it down: there is none here."""
    told: list[str] = []

    class Stream:
        def __init__(self, device: object = None, name: str = "copies") -> None:
            self.name = name

        def record_event(self) -> str:
            told.append(f"event on {self.name}")
            return "arrival"

        def wait_event(self, event: str) -> None:
            told.append(f"{self.name} waits for {event}")

    @contextmanager
    def entered(which: object) -> Iterator[None]:
        told.append(f"in {getattr(which, 'name', 'device')}")
        yield
        told.append("out")

    def to(self: Tensor, device: torch.device, non_blocking: bool) -> Tensor:
        told.append(f"copy, waiting: {not non_blocking}")
        return self

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", entered)
    monkeypatch.setattr(torch.cuda, "device", entered)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(device, "steps"))
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: told.append("pinned") or self)
    monkeypatch.setattr(Tensor, "to", to)
    monkeypatch.setattr(Tensor, "record_stream", lambda self, stream: told.append(f"kept for {stream.name}"))
    lane = Lane(torch.device("cuda", 0))
    sent = lane.send(torch.zeros(2))
    assert told == ["in device", "in copies", "pinned", "copy, waiting: False", "event on copies", "out", "out"]
    told.clear()
    lane.receive(sent)
    assert told == ["steps waits for arrival", "kept for steps"]


@pytest.mark.gpu
def test_on_a_card_the_host_waits_for_nothing() -> None:
    expected = [batch for _ in range(3) for batch in loader(separator=7)]
    batches = loader(separator=7, to_gpu=True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = [batch for _ in range(3) for batch in batches]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for pair, same in zip(found, expected, strict=True):
        for x, y in zip(pair, same, strict=True):
            assert x.is_cuda
            assert torch.equal(x.cpu(), y)
