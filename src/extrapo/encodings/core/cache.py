"""Cache: the keys or values of all tokens read so far, in memory that grows by doubling.

A step of decoding writes its tokens behind the others and copies nothing; over a text of S tokens the copies of growing
add up to less than 2 S. A cache is a value: what was handed out keeps its tokens, also where two texts go on from it.
"""

from __future__ import annotations

from torch import Tensor

#: Room for tokens in the first memory of its own.
SMALLEST = 64


class Memory:
    """Room for tokens, and how much of it is taken.

    Args:
        room: (B, H, C, ...), for C tokens.
        taken: tokens in it.
    """

    def __init__(self, room: Tensor, taken: int) -> None:
        self.room, self.taken = room, taken


class Cache:
    """The first tokens of a memory.

    Args:
        tokens: (B, H, S, ...) of the first S tokens, a vector or a number for each; they are not copied.
        memory: what they are the beginning of; None where they are all there is.
    """

    def __init__(self, tokens: Tensor, memory: Memory | None = None) -> None:
        self.tokens, self.length = tokens, tokens.size(2)
        self._memory = Memory(tokens, self.length) if memory is None else memory

    def append(self, new: Tensor) -> Cache:
        """The cache with the tokens (B, H, N, ...) after its own, in its own dtype."""
        longer, room = self.extended(new.size(2))
        room.copy_(new)
        return longer

    def extended(self, count: int) -> tuple[Cache, Tensor]:
        """The cache with room for as many tokens after its own, and that room (B, H, N, ...), to be written to."""
        memory, before = self._memory, self.length
        length = before + count
        # Behind these tokens there may be those of another text that went on from here.
        if length > memory.room.size(2) or memory.taken != before:
            batch, heads, _, *width = memory.room.shape
            room = memory.room.new_empty(batch, heads, max(SMALLEST, 2 * length), *width)
            room.narrow(2, 0, before).copy_(self.tokens)
            memory = Memory(room, before)
        memory.taken = length
        return Cache(memory.room.narrow(2, 0, length), memory), memory.room.narrow(2, before, count)
