"""BiPE, bilevel positional encoding (He et al., 2401.16421; code zhenyuhe00/BiPE): segment, and offset in the segment.

A segment ends with a separator token, which belongs to it. The offset restarts at 0 in each segment and has a learned
embedding; the index of the segment is the index position of the encoding that it is joined to. All tokens of a segment
share it, so that RoPE or ALiBi tells segments apart and not the tokens in them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from extrapo.encodings.core.context import Context, Positions
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.positions import wide
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError

#: Full stop and newline as bytes, and in byte-level BPE vocabularies, GPT-2's among them.
BYTES, BYTE_LEVEL_BPE = [46, 10], [13, 198]


class Segments(nn.Module):
    """Segment index and offset of every token, from the separators before it.

    Args:
        separators: token ids that end a segment.
    """

    separators: Tensor

    def __init__(self, separators: list[int]) -> None:
        super().__init__()
        self.register_buffer("separators", torch.tensor(separators, dtype=torch.int64), persistent=False)

    def forward(self, tokens: Tensor, start: int, state: tuple[Tensor, Tensor] | None) -> Positions:
        """(B, T) -> segment indices and offsets, (B, 1, T) each; `state` is those of the first token, (B, 1) each."""
        segment, offset = (torch.zeros_like(tokens[:, :1]),) * 2 if state is None else state
        ends = torch.isin(tokens, self.separators)
        after = torch.arange(1, tokens.size(1) + 1, device=tokens.device)
        # Where the segment of the next token begins, counted from the first token of this pass.
        begins = torch.where(ends, after, -offset).cummax(-1).values
        segments = torch.cat([segment, segment + ends.cumsum(-1)], dim=-1)
        offsets = torch.cat([offset, after - begins], dim=-1)
        index, place = (number[:, None, :-1].to(wide(tokens)) for number in (segments, offsets))
        return Positions(index, place, (segments[:, -1:], offsets[:, -1:]))


class OffsetEmbedding(nn.Module):
    """A learned vector per offset in the segment, N(0, 0.02) at the start; beyond the table the last one serves.

    Args:
        rows: rows of the table.
        dim: model width D.
    """

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, dim))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """(B, T, D) -> the same with offsets added; without segments the text is one."""
        offset = context.offset
        if offset is None:
            offset = torch.arange(context.start, context.start + x.size(1), device=x.device).view(1, 1, -1)
        row = offset.squeeze(1).long().clamp_max(self.weight.size(0) - 1)
        return x + self.weight[row]


@encodings.register("bipe")
class BiPE(Encoding):
    """Segments for the encoding that it is joined to, and a learned embedding of the offset: `bipe-rope`, `bipe-alibi`.

    Args:
        separators: token ids that end a segment. By default full stop and newline: 46 and 10 for bytes (a vocabulary
            of at most 257), else 13 and 198, their ids in GPT-2's vocabulary and in a byte-level BPE trained here. The
            authors take LLaMA's, 869 and 13. A piece such as ").", a full stop beside others, ends no segment.
        rows: offsets with an embedding of their own, later ones share the last; the training length by default (1,024
            in the authors' code).
    """

    paper = Paper(
        "He et al., 2401.16421",
        "contextual",
        summary="offset in the segment, learned; segment index for the encoding it is joined to",
        year=2024,
    )

    def __init__(self, spec: LayerSpec, *, separators: list[int] | None = None, rows: int | None = None) -> None:
        super().__init__(spec)
        vocab = spec.vocab_size
        if separators is None:
            separators = BYTES if vocab <= 257 else BYTE_LEVEL_BPE
        elif not separators or not all(0 <= token < vocab for token in separators):
            raise UserError(f"encoding 'bipe': separators must be token ids below {vocab}, not {separators}")
        if rows is not None and rows < 1:
            raise UserError(f"encoding 'bipe': rows must be at least 1, not {rows}")
        self.separators, self.rows = separators, rows or spec.train_length

    def source(self) -> nn.Module:
        return Segments(self.separators)

    def embedding(self) -> nn.Module:
        return OffsetEmbedding(self.rows, self.dim)
