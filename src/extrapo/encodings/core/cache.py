"""Cache: the keys or values of all tokens read so far, in memory that grows by doubling.

A step of decoding writes its tokens behind the others and copies nothing; over a text of S tokens the copies of growing
add up to less than 2 S. A cache is a value: what was handed out keeps its tokens, also where two texts go on from it.
"""

from __future__ import annotations

from torch import Tensor

#: Room for tokens in the first memory of its own.
SMALLEST = 64


class Store:
    """Memory for tokens, and how much of it is taken.

    Args:
        memory: (B, H, C, ...), room for C tokens.
        taken: tokens in it.
    """

    def __init__(self, memory: Tensor, taken: int) -> None:
        self.memory, self.taken = memory, taken


class Cache:
    """The first tokens of a store.

    Args:
        tokens: (B, H, S, ...) of the first S tokens, a vector or a number for each; they are not copied.
    """

    def __init__(self, tokens: Tensor) -> None:
        self._store = Store(tokens, tokens.size(2))
        self._length = tokens.size(2)

    @property
    def tokens(self) -> Tensor:
        """(B, H, S, ...), a view."""
        return self._store.memory.narrow(2, 0, self._length)

    def append(self, new: Tensor) -> Cache:
        """The cache with the tokens (B, H, N, ...) after its own, in its own dtype."""
        longer, room = self.extended(new.size(2))
        room.copy_(new)
        return longer

    def extended(self, count: int) -> tuple[Cache, Tensor]:
        """The cache with room for as many tokens after its own, and that room (B, H, N, ...), to be written to."""
        store, before = self._store, self._length
        length = before + count
        # Behind these tokens there may be those of another text that went on from here.
        if length > store.memory.size(2) or store.taken != before:
            batch, heads, _, *width = store.memory.shape
            memory = store.memory.new_empty(batch, heads, max(SMALLEST, 2 * length), *width)
            memory.narrow(2, 0, before).copy_(self.tokens)
            store = Store(memory, before)
        store.taken = length
        longer = Cache.__new__(Cache)
        longer._store, longer._length = store, length
        return longer, store.memory.narrow(2, before, count)
