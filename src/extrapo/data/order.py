"""Which window comes when: a function of (seed, epoch) alone, for one stream of tokens or several that are mixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from extrapo.data.tokens import Tokens, plain, windows


class Order(Protocol):
    """The windows of a text, epoch by epoch.

    Attributes:
        fingerprint: what the places are counted in, for a checkpoint.
    """

    @property
    def fingerprint(self) -> Any:
        """What a checkpoint is compared by: plain values."""

    def epoch(self, number: int) -> NDArray[np.int64]:
        """(windows, ...) a place for each window of an epoch, in its order."""

    def read(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B, T + 1) the windows at some of these places."""


class Stream:
    """One stream: an epoch cuts it, from a random offset on, into blocks, and walks a random permutation of them.

    Args:
        tokens: (N,) ids.
        seq_len: tokens of a block (T); its last target is the first token of the next block.
        blocks: of an epoch at least; what is left over gives the offset its room.
        seed: of the order.
    """

    def __init__(self, tokens: Tokens, seq_len: int, blocks: int, seed: Sequence[int]) -> None:
        self._tokens, self._seq_len, self._blocks, self._seed = plain(tokens), seq_len, blocks, list(seed)

    @property
    def fingerprint(self) -> int:
        return len(self._tokens)

    def epoch(self, number: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self._seed[0], number, *self._seed[1:]])
        last = len(self._tokens) - 1
        spare = last - self._blocks * self._seq_len
        offset = int(rng.integers(min(spare, self._seq_len - 1) + 1))
        places = rng.permutation((last - offset) // self._seq_len)
        # In place: of billions of tokens this is most of the memory.
        places *= self._seq_len
        places += offset
        return places

    def read(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return windows(self._tokens, places, self._seq_len + 1)


class Mixed:
    """Several streams by weight: in an epoch each has its share of the windows, evenly spread, to a window.

    Each stream walks epochs of its own, as often as its share asks for: a small text with a large weight comes again
    before all of a large one was seen.

    Args:
        streams: (N_i,) ids of each.
        weights: of each, summing to 1.
        seq_len: T.
        total: windows of an epoch.
        seed: of the order.
    """

    def __init__(
        self, streams: Sequence[Tokens], weights: Sequence[float], seq_len: int, total: int, seed: int
    ) -> None:
        self._sizes = [(len(tokens) - 1) // seq_len for tokens in streams]
        self._streams = [
            Stream(tokens, seq_len, size, (seed, 1 + number))
            for number, (tokens, size) in enumerate(zip(streams, self._sizes, strict=True))
        ]
        self._seq_len = seq_len
        self._weights = list(weights)
        self.shares = shares(weights, total)

    @property
    def fingerprint(self) -> list[Any]:
        return [[stream.fingerprint, weight] for stream, weight in zip(self._streams, self._weights, strict=True)]

    def epoch(self, number: int) -> NDArray[np.int64]:
        """(windows, 2): the stream, and the first token of the window in it."""
        turns = [(np.arange(share) + 0.5) / share for share in self.shares]
        stream = np.repeat(np.arange(len(self.shares)), self.shares)
        order = np.argsort(np.concatenate(turns), kind="stable")
        starts = np.concatenate([self._starts(which, number) for which in range(len(self.shares))])
        return np.stack([stream[order], starts[order]], axis=1)

    def read(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        out = np.empty((len(places), self._seq_len + 1), np.int64)
        for which, stream in enumerate(self._streams):
            mine = places[:, 0] == which
            if mine.any():
                out[mine] = stream.read(places[mine, 1])
        return out

    def _starts(self, which: int, epoch: int) -> NDArray[np.int64]:
        """Where the windows of one stream begin in an epoch of the mixture."""
        size, share = self._sizes[which], self.shares[which]
        first, stop = epoch * share, (epoch + 1) * share
        own = [self._streams[which].epoch(number)[:size] for number in range(first // size, -(-stop // size))]
        begin = first % size
        return np.concatenate([np.empty(0, np.int64), *own])[begin : begin + share]


def shares(weights: Sequence[float], total: int) -> list[int]:
    """Whole numbers near `weight * total` that sum to `total`: the largest remainders are rounded up."""
    exact = [weight * total for weight in weights]
    whole = [int(share) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: whole[i] - exact[i])
    for i in by_remainder[: total - sum(whole)]:
        whole[i] += 1
    return whole
