"""Ahead: each batch is read, and copied to the GPU, while the step before it computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

#: Tokens, or these and documents.
Batch = Tensor | tuple[Tensor, Tensor]


def one_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches in their order, on a device. While one is in use the next is made by another thread, no more; an
    error in making one comes where the batch would.
    """
    lane: Lane | Direct = Lane(device) if device.type == "cuda" else Direct(device)
    rest = iter(batches)

    def send() -> Any:
        batch = next(rest, None)
        return None if batch is None else lane.send(batch)

    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        coming = thread.submit(send)
        while (sent := coming.result()) is not None:
            coming = thread.submit(send)
            yield lane.receive(sent)


class Lane:
    """Copies to a GPU on a stream of their own, beside that of its computations, out of page-locked memory."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(self, batch: Batch) -> tuple[Batch, Any]:
        """The batch on its way, and the event of its arrival."""
        # A thread begins on the first device: page-locked memory too belongs to one.
        with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
            sent = each(batch, lambda x: x.pin_memory().to(self.device, non_blocking=True))
            return sent, self.stream.record_event()

    def receive(self, sent: tuple[Batch, Any]) -> Batch:
        """The batch, for whom what is computed from now on waits; the host does not."""
        batch, arrival = sent
        current = torch.cuda.current_stream(self.device)
        current.wait_event(arrival)

        def keep(x: Tensor) -> Tensor:
            # Its memory is the other stream's, which may not use it again before this one is done with it.
            x.record_stream(current)
            return x

        return each(batch, keep)


class Direct:
    """Anywhere else a batch is copied as it is."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def send(self, batch: Batch) -> Batch:
        """The batch there."""
        return each(batch, lambda x: x.to(self.device))

    def receive(self, sent: Batch) -> Batch:
        """It is there."""
        return sent


def each(batch: Batch, function: Any) -> Batch:
    """A function of the tensors of a batch."""
    return function(batch) if isinstance(batch, Tensor) else (function(batch[0]), function(batch[1]))
