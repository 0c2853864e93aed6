"""DAPE, data-adaptive positional encoding (Zheng et al., 2405.14722), and DAPE v2 with a convolution over the keys
(2410.04798; code chuanyang-Zheng/DAPE).

    logit = z + B + W2 LeakyReLU(W1 [z ; B]),   z = s q.k,   B the bias of another scheme, the host

W1 and W2 act on the heads: for each pair (i, j) alone in `dape`, on the keys j-1, j, j+1 of each row in `dape-v2`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.encodings.core.bias import Bias, NoBias
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Encoding, Paper, Transformed, encodings
from extrapo.encodings.core.hosted import HostedRows
from extrapo.encodings.core.spec import LayerSpec
from extrapo.encodings.core.visibility import hidden
from extrapo.errors import UserError
from extrapo.options import check

Hidden = Literal["zero", "open"]


@dataclass(frozen=True)
class NetworkBias(HostedRows):
    """The logits, corrected by a network that reads them and the host's bias, all heads at once.

    Args:
        first: W1 as a convolution, (units, H or 2H, 1, w), and its bias (units,).
        second: W2, (H, units, 1, w).
        hidden: what the hidden map holds at keys later than the query: `zero`, or what the first map made of zeros.
    """

    first: tuple[Tensor, ...]
    second: Tensor
    hidden: Hidden

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        dtype = torch.promote_types(q.dtype, torch.float32)
        logits = channels = scale * (q @ k.transpose(-1, -2)).to(dtype)
        if not isinstance(self.host, NoBias):
            bias = self.host.added(rows).to(dtype).expand_as(logits)
            logits, channels = logits + bias, torch.cat([logits, bias], dim=1)
        size, keys = logits.shape[-2:]
        # A convolution would see the next key: it must read zeros there.
        future, reach = hidden(size, keys, None, q.device), self.first[0].size(-1) // 2
        if reach:
            channels = channels.masked_fill(future, 0.0)
        if reach and self.hidden == "open":
            channels = F.pad(channels, (0, reach))
        inner = F.leaky_relu(over_heads(channels, *self.first))
        if reach and self.hidden == "zero":
            inner = inner.masked_fill(future, 0.0)
        return logits + over_heads(inner, self.second)[..., :keys]


def over_heads(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear map (M, N, 1, w) of the N channels of x (B, N, R, S) at w neighbouring keys: (B, M, R, S)."""
    bias = None if bias is None else bias.to(x.dtype)
    return F.conv2d(x, weight.to(x.dtype), bias, padding=(0, weight.size(-1) // 2))


class Network(Encoding):
    """A network over the heads, around a host; the classes below only choose its width along the keys.

    The host is an option and not a part of a composition, since the network reads its bias: in `dape+cable`, Cable's
    is added to what the network makes of its host.

    Args:
        host: the scheme whose bias the network reads and corrects, by name; None (`none`) is no bias: it reads H
            logits instead of 2H numbers.
        host_options: the host's own.
        units: hidden width.

    Raises:
        UserError: a host that adds no bias; no unit.
    """

    bias_kind = "owns"
    query_key = "scaled"
    width: ClassVar[int]
    hidden: Hidden = "zero"

    def __init__(
        self,
        spec: LayerSpec,
        *,
        host: str | None = "kerple-log",
        host_options: Mapping[str, Any] | None = None,
        units: int = 32,
    ) -> None:
        super().__init__(spec)
        if units < 1:
            raise UserError(f"units of the network must be at least 1, not {units}")
        self.host: Encoding | None = None
        if host not in (None, "none"):
            cls = encodings.get(host)
            if cls.bias_kind != "adds":
                raise UserError(f"'{host}' adds no bias: it cannot be the host of a network that reads one")
            check("encoding", host, cls, host_options or {})
            self.host = cls(spec, **(host_options or {}))
        self.first = nn.Conv2d(spec.heads if self.host is None else 2 * spec.heads, units, (1, self.width))
        # A constant per head cancels in the softmax: no bias.
        self.second = nn.Conv2d(units, spec.heads, (1, self.width), bias=False)

    def exemptions(self) -> dict[str, str]:
        kinks = {"float32_gradients": "within 1e-3: the gradient jumps where a hidden unit is 0"}
        if self.host is None:
            return kinks
        of_host = {} if self.host.translation_invariant else {"translation": "its host reads the index itself"}
        return {**self.host.exemptions(), **of_host, **kinks}

    def besides_bias(self) -> frozenset[str]:
        return frozenset() if self.host is None else self.host.besides_bias()

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, state: Any) -> Transformed:
        if self.host is None:
            return Transformed(q, k, v, state)
        return self.host.transform(q, k, v, x=x, context=context, state=state)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        if self.host is None:
            keys = x.size(1) + (0 if past is None else past.shape[-1])
            host: Bias = NoBias(self.heads, x.size(1), keys, x.device)
        else:
            host = self.host.bias(x, past.host if isinstance(past, NetworkBias) else None, context)
        assert self.first.bias is not None
        return NetworkBias(host, (self.first.weight, self.first.bias), self.second.weight, self.hidden)


@encodings.register("dape")
class DAPE(Network):
    """Each pair's H logits and H biases go through a small network, which adds to the logits; see Network."""

    paper = Paper(
        "Zheng et al., 2405.14722",
        "index",
        kernel="log",
        summary="a network over the heads' logits and biases of each pair",
        year=2024,
        contextual=True,
        state="the host's",
    )
    width = 1


@encodings.register("dape-v2")
class DAPEv2(Network):
    """The network reads three neighbouring keys: two convolutions of width 3 along each row; see Network.

    Args:
        hidden: what the second convolution finds at the key after the query. `zero` (default), as beyond the end of the
            text. `open`, what the first convolution makes of the last keys, as the authors' code does in all rows of a
            pass but the last, where that column does not exist: there a row depends on where the text ends. Here it is
            in every row, so that a row is the same in a longer text and while decoding.
        host, host_options, units: see Network.
    """

    paper = Paper(
        "Zheng et al., 2410.04798",
        "index",
        kernel="log",
        summary="convolutions along the keys over the heads' logits and biases",
        year=2024,
        contextual=True,
        state="the host's",
    )
    width = 3

    def __init__(
        self,
        spec: LayerSpec,
        *,
        host: str | None = "kerple-log",
        host_options: Mapping[str, Any] | None = None,
        units: int = 32,
        hidden: Hidden = "zero",
    ) -> None:
        super().__init__(spec, host=host, host_options=host_options, units=units)
        self.hidden = hidden
