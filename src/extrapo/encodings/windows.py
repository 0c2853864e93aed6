"""Windows: only the last w tokens are seen, and with sinks the first few as well (StreamingLLM, Xiao et al.,
2309.17453; LM-Infinite, Han et al., 2308.16137).

    window, sinks                  a limit on any other scheme, whose positions stay those of the text
    lm-infinite, streaming-llm     RoPE whose sinks move along, so that no distance is longer than in training

A key is seen where i - j < w, or where it is among the first k, in tokens. Attention masks what a query does not see.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from extrapo.encodings.core.bias import Bias, Rowwise
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, Transformed, encodings
from extrapo.encodings.core.frequencies import frequencies, require_even
from extrapo.encodings.core.hosted import limited
from extrapo.encodings.core.relative import Relative, index_positions, wide_enough, with_past
from extrapo.encodings.core.rotation import rotate, rotate_both
from extrapo.encodings.core.spec import LayerSpec
from extrapo.encodings.core.visibility import Visibility
from extrapo.errors import UserError


@dataclass(frozen=True, kw_only=True)
class SinkBias(Relative, Rowwise):
    """The logits of RoPE, with queries beyond a distance from the sinks held where that distance ends.

    Args:
        seen: what queries see.
        slots: (k,) where the sinks stand for a query that is held.
        held: where that query stands; held - slots are the longest distances.
        theta: (d/2,) frequencies, wide.
    """

    seen: Visibility
    slots: Tensor
    held: int
    theta: Tensor

    def visibility(self) -> Visibility:
        return self.seen

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        first = min(self.slots.numel(), k.size(-2))
        slots = self.slots[:first]
        # q and k come rotated to their positions in the text; from there to where they are held.
        query = rotate(q, (self.held - self.queries[..., rows]).unsqueeze(-1) * self.theta)
        sinks = rotate(k[:, :, :first], (slots - self.keys[..., :first]).unsqueeze(-1) * self.theta)
        far = self.distance(rows)[..., :first] > self.held - slots
        logits = q @ k.transpose(-1, -2)
        ahead = torch.where(far, query @ sinks.transpose(-1, -2), logits[..., :first])
        return scale * torch.cat([ahead, logits[..., first:]], dim=-1)


class WindowAndSinks(Encoding):
    """A window of w tokens and k sinks; the classes below say what they act on.

    Raises:
        UserError: a window or a number of sinks out of range.
    """

    name: ClassVar[str]
    exempt: ClassVar[dict[str, str]] = {"finite_bias": "keys that are not seen have the bias -inf"}

    def __init__(self, spec: LayerSpec, *, window: int | None, sinks: int) -> None:
        super().__init__(spec)
        if window is not None and window < 1:
            raise UserError(f"encoding '{self.name}': window must be at least 1, not {window}")
        if sinks < 0:
            raise UserError(f"encoding '{self.name}': sinks must not be negative, not {sinks}")
        self._window, self.sinks = window, sinks

    @property
    def window(self) -> int:
        """w; with the sinks as many tokens as the training length, unless told."""
        return self._window or max(1, self.spec.train_length - self.sinks)

    @property
    def visibility(self) -> Visibility:
        """What queries see."""
        return Visibility(self.window, self.sinks)


@encodings.register("window")
class Window(WindowAndSinks):
    """Keys i - j >= w are not seen, whatever the encoding: `window+alibi`, `rope+window`.

    Args:
        window: w in tokens; None is the training length.
    """

    name = "window"
    paper = Paper("Beltagy et al., 2004.05150", summary="only the last w tokens are seen", year=2020)

    def __init__(self, spec: LayerSpec, *, window: int | None = None) -> None:
        super().__init__(spec, window=window, sinks=0)

    def wrap(self, bias: Bias, x: Tensor, context: Context | None) -> Bias:
        return limited(bias, self.visibility)


@encodings.register("sinks")
class Sinks(WindowAndSinks):
    """A window, and the first k tokens always; distances to these grow with the text.

    Args:
        window: w in tokens; None is the training length less the sinks.
        sinks: k, 4 in StreamingLLM.
    """

    name = "sinks"
    paper = Paper(
        "Xiao et al., 2309.17453", summary="the last w tokens and the first few; positions as in the text", year=2023
    )

    def __init__(self, spec: LayerSpec, *, window: int | None = None, sinks: int = 4) -> None:
        super().__init__(spec, window=window, sinks=sinks)

    def wrap(self, bias: Bias, x: Tensor, context: Context | None) -> Bias:
        return limited(bias, self.visibility)


class RotatedSinks(WindowAndSinks):
    """RoPE with a window and sinks that come along; the classes below say where they stand."""

    bias_kind = "owns"

    def __init__(self, spec: LayerSpec, *, window: int | None, sinks: int, base: float) -> None:
        super().__init__(spec, window=window, sinks=sinks)
        require_even(self.head_dim, self.name)
        self.base = base

    @abstractmethod
    def held_positions(self) -> tuple[int, list[int]]:
        """Where a query is held once it is farther than that from the sinks, and where these stand then."""

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        angles = context.index.unsqueeze(-1) * frequencies(self.head_dim, self.base, q)
        return Transformed(*rotate_both(q, k, angles), v, state)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        queries = index_positions(x, past, context)
        held, slots = self.held_positions()
        return SinkBias(
            heads=self.heads,
            queries=queries,
            keys=with_past(queries, past),
            dtype=wide_enough(x),
            seen=self.visibility,
            slots=torch.tensor(slots, dtype=queries.dtype, device=queries.device),
            held=held,
            theta=frequencies(self.head_dim, self.base, x),
        )


@encodings.register("lm-infinite")
class LMInfinite(RotatedSinks):
    """The last w tokens, and the first k at distances min(n, w).

    Args:
        window: w in tokens; None is the training length.
        sinks: k, 10 to 100 in the paper.
        base: of RoPE's frequencies.
    """

    name = "lm-infinite"
    paper = Paper(
        "Han et al., 2308.16137",
        "index",
        "rotation",
        summary="RoPE, the last w tokens and the first few, at a distance of at most w",
        year=2023,
        state="position",
    )

    def __init__(
        self,
        spec: LayerSpec,
        *,
        window: int | None = None,
        sinks: int = 10,
        base: float = 10_000.0,
    ) -> None:
        super().__init__(spec, window=window, sinks=sinks, base=base)

    @property
    def window(self) -> int:
        return self._window or self.spec.train_length

    def held_positions(self) -> tuple[int, list[int]]:
        return self.window, [0] * self.sinks


@encodings.register("streaming-llm")
class StreamingLLM(RotatedSinks):
    """The last w tokens and the first k, at their positions in a cache of these alone: the sinks come first.

    Args:
        window: w in tokens; None is the training length less the sinks.
        sinks: k, 4 in the paper.
        base: of RoPE's frequencies.
    """

    name = "streaming-llm"
    paper = Paper(
        "Xiao et al., 2309.17453",
        "index",
        "rotation",
        summary="RoPE, the last w tokens and the first few, at their places in the cache",
        year=2023,
        state="position",
    )

    def __init__(
        self,
        spec: LayerSpec,
        *,
        window: int | None = None,
        sinks: int = 4,
        base: float = 10_000.0,
    ) -> None:
        super().__init__(spec, window=window, sinks=sinks, base=base)

    def held_positions(self) -> tuple[int, list[int]]:
        return self.sinks + self.window - 1, list(range(self.sinks))
