"""Blocks: which squares of queries and keys FlexAttention visits (Dong et al., 2412.05496), from their corners alone.

PyTorch's own `create_block_mask` looks at every pair of the text; here nothing is larger than the table of blocks.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from extrapo.encodings.core.visibility import Sight

#: Queries and keys of a block: what FlexAttention expects unless it is told otherwise.
SIZE = 128


@lru_cache(maxsize=16)
def blocks(queries: int, keys: int, sight: Sight | None, device: torch.device) -> BlockMask:
    """The blocks of T queries, the last of S tokens, in which any query sees a key."""
    return blocks_of_rows(queries, keys, sight, None, device)


def blocks_of_rows(
    queries: int, keys: int, sight: Sight | None, lengths: Tensor | None, device: torch.device
) -> BlockMask:
    """The same where the rows of a batch end at different places.

    Args:
        queries, keys: T, S.
        sight: what queries see of the keys before them; None for all.
        lengths: (B,) tokens of each row; queries beyond them see nothing.
        device: where it is needed.
    """
    past = keys - queries
    query, key = (torch.arange(0, n, SIZE, device=device) for n in (queries, keys))
    first, last = (query + past).unsqueeze(-1), (query + SIZE - 1).clamp_max(queries - 1).add(past).unsqueeze(-1)
    ends = (key + SIZE - 1).clamp_max(keys - 1)
    # What is not a full square is never taken for one that is seen as a whole.
    square = (query + SIZE <= queries).unsqueeze(-1) & (key + SIZE <= keys)
    # (B or 1, 1, 1, 1): no query at this place or later sees anything.
    stop = torch.tensor(keys, device=device) if lengths is None else lengths.to(device)
    stop = stop.view(-1, 1, 1, 1)
    some, whole = (first < stop) & (key <= last.minimum(stop - 1)), (last < stop) & (ends <= first) & square
    if sight is not None:
        any_seen, all_seen = sight.of_blocks(first, last, key, ends)
        some, whole = some & any_seen, whole & all_seen

    def seen(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        found = i + past >= j
        if sight is not None:
            found = found & sight.sees(i + past, j)
        return found if lengths is None else found & (i + past < lengths[b])

    return BlockMask.from_kv_blocks(
        *listed(some & ~whole), *listed(whole), BLOCK_SIZE=SIZE, mask_mod=seen, seq_lengths=(queries, keys)
    )


def listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """(B, H, rows, columns) bool -> how many of each row are True, and which, these first."""
    order = blocks.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32), order.to(torch.int32)
