"""Factors on the query that set how sharp the softmax is: SSMax (Nakanishi, 2501.19399), log-n (Su 2021; Qwen), head
scale (Wang et al., 2404.12224), Llama 4's attention temperature.

    q_i <- f_h(m_i) q_i,   m_i = i + 1 visible keys

A longer row spreads the same logits over more keys; a factor that grows with m_i holds against it. They go with any
encoding, as in `cable+ssmax`, and scale what it makes of q.k; a bias that it adds stays as it is.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, Transformed, encodings
from extrapo.encodings.core.positions import wide
from extrapo.encodings.core.spec import LayerSpec
from extrapo.encodings.core.visible import sharpness, visible_keys
from extrapo.errors import UserError
from extrapo.kernels import Positive


class QueryScale(Encoding):
    """A factor per head and query; the classes below say which."""

    query_key = "scaled"

    @abstractmethod
    def factor(self, keys: Tensor) -> Tensor:
        """f, (1, H or 1, T, 1), of the numbers m_i of visible keys (1, 1, T, 1), which are wide."""

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        keys = visible_keys(context.start, q, wide(q)).view(1, 1, -1, 1)
        return Transformed((q * self.factor(keys)).to(q.dtype), k, v, state)


@encodings.register("ssmax")
class SSMax(QueryScale):
    """f = s_h ln m_i: the softmax with base m_i. The first query sees one key and has f = 0.

    Args:
        init: s_h at the start: 1 as in BAM's code; the paper fits about 0.43.
    """

    paper = Paper("Nakanishi, 2501.19399", summary="logits times s ln(visible keys), s learned per head", year=2025)
    translation_invariant = False

    def __init__(self, spec: LayerSpec, *, init: float = 1.0) -> None:
        super().__init__(spec)
        self.s = nn.Parameter(torch.full((self.heads, 1, 1), init))

    def factor(self, keys: Tensor) -> Tensor:
        return sharpness(self.s, keys)


@encodings.register("log-n")
class LogN(QueryScale):
    """f = ln m_i / ln T, T the training length: 1 there, so that the entropy stays what it was in training.

    Args:
        beyond: scale only rows longer than T, f = max(1, ln m_i / ln T), as Qwen's code does.

    Raises:
        UserError: a training length of 1, whose logarithm is 0.
    """

    paper = Paper(
        "Su 2021, kexue.fm 8823; Qwen", summary="logits times ln(visible keys) / ln(training length)", year=2021
    )
    translation_invariant = False

    def __init__(self, spec: LayerSpec, *, beyond: bool = False) -> None:
        super().__init__(spec)
        if spec.train_length < 2:
            raise UserError("encoding 'log-n' divides by ln(training length): it needs at least 2 tokens")
        self.beyond = beyond

    def factor(self, keys: Tensor) -> Tensor:
        ratio = keys.log() / math.log(self.spec.train_length)
        return ratio.clamp_min(1.0) if self.beyond else ratio


@encodings.register("head-scale")
class HeadScale(QueryScale):
    """f = a learned factor per head, positive: in the paper all else stays as it was trained (with `nope`).

    Args:
        init: f at the start.
    """

    paper = Paper(
        "Wang et al., 2404.12224",
        summary="logits times a learned factor per head; code AntNLP/nope_head_scale",
        year=2024,
    )

    def __init__(self, spec: LayerSpec, *, init: float = 1.0) -> None:
        super().__init__(spec)
        if init <= 0:
            raise UserError(f"encoding 'head-scale': init must be positive, not {init}")
        self.scale = Positive(init, self.heads)

    def factor(self, keys: Tensor) -> Tensor:
        scale: Tensor = self.scale()
        return scale


@encodings.register("attention-temperature")
class AttentionTemperature(QueryScale):
    """f = 1 + slope ln(1 + floor(m_i / floor)): 1 up to `floor` keys, then a step for every further `floor` keys.

    Llama 4 has it in its layers without positions.

    Args:
        slope: 0.1 in Llama 4.
        floor: 8,192 in Llama 4; None is the training length.
    """

    paper = Paper(
        "Llama 4, transformers' code",
        summary="logits grow with the logarithm of the text's length in steps",
        year=2025,
    )
    translation_invariant = False

    def __init__(self, spec: LayerSpec, *, slope: float = 0.1, floor: int | None = None) -> None:
        super().__init__(spec)
        if floor is not None and floor < 1:
            raise UserError(f"encoding 'attention-temperature': floor must be at least 1, not {floor}")
        self.slope, self.floor = slope, floor

    def factor(self, keys: Tensor) -> Tensor:
        floor = self.floor or self.spec.train_length
        return 1 + self.slope * (1 + (keys / floor).floor()).log()
