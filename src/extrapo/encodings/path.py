"""PaTH, position encoding by accumulated Householder steps (Yang et al., 2505.16381; code flash-linear-attention).

    logit_ij = s q_i^T H_i H_{i-1} ... H_{j+1} k_j,   H_t = I - beta_t w_t w_t^T
    w_t = z_t / |z_t| per head,  z = SiLU(conv(W2 W1 x)),   beta_t = 2 sigma(u . x_t + b) in (0, 2)

beta = 1 projects w_t out (the start), beta -> 2 reflects, beta -> 0 is no position at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.encodings.core.bias import Bias, Rowwise
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.encoding import Paper, encodings
from extrapo.encodings.core.householder import Steps, chunked, propagate_keys, wy_triangle
from extrapo.encodings.core.normed import NormedQK
from extrapo.encodings.core.positions import HeadProjection
from extrapo.encodings.core.relative import wide_enough
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError


@final
@dataclass(frozen=True)
class PathBias(Rowwise):
    """The steps of T new tokens, which come after `before` older keys; `bind` takes the new keys through them.

    Args:
        before: number of keys older than the new tokens.
        tokens: T.
        w: (B, H, chunks, m, d) unit vectors of the new tokens, zeros after the last.
        beta: (B, H, T) how far along w each step goes.
        t: (B, H, chunks, m, m) the chunks' triangles, see encodings/core/householder.py.
        taps: (B, width - 1, H d) what the convolution has still in view; the state of decoding, with the keys.
    """

    before: int
    tokens: int
    w: Tensor
    beta: Tensor
    t: Tensor
    taps: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.w.size(0), self.w.size(1), self.tokens, self.before + self.tokens

    def bind(self, q: Tensor, k: Tensor) -> Bias:
        if k.size(-1) != self.w.size(-1):
            raise UserError(f"'path' acts on keys of width {self.w.size(-1)}; another scheme made it {k.size(-1)}")
        new = chunked(k[:, :, self.before :].to(self.w.dtype), self.w.size(-2))
        return self.bound_to(BoundPathBias(self, propagate_keys(new, self.w, self.t)))

    @property
    def needs_binding(self) -> bool:
        return True

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        raise UserError("encoding 'path': the logits need all keys at once: `encode` and attend_under bind them")

    def rewrite_keys(self, k: Tensor) -> Tensor:
        """Every key taken through the new tokens' steps; kept in float32, since each step rounds them again."""
        k, size = k.to(self.w.dtype), self.w.size(-2)
        for start, w, t in zip(range(0, self.tokens, size), self.w.unbind(2), self.t.unbind(2), strict=True):
            stop = self.before + min(start + size, self.tokens)
            k = torch.cat([propagate_keys(k[:, :, :stop], w, t, self.before + start), k[:, :, stop:]], dim=2)
        return k


@final
@dataclass(frozen=True)
class BoundPathBias(Rowwise):
    """The logits of T new tokens over themselves and older keys, which the steps so far have rewritten.

    Within a tile the query rows go back in time chunk by chunk, r_i^T <- r_i^T H_t for every token t <= i on the way.

    Args:
        steps: of the new tokens.
        ends: (B, H, chunks, m, d) the new keys, each taken to the end of its chunk.
    """

    steps: PathBias
    ends: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.steps.shape

    def householder(self) -> Steps | None:
        if self.steps.before:
            return None
        return Steps(self.steps.w.flatten(2, 3).narrow(2, 0, self.steps.tokens), self.steps.beta)

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        before, dtype, size = self.steps.before, self.steps.w.dtype, self.steps.w.size(-2)
        r, k = q.to(dtype), k.to(dtype)
        # One backward pass per tensor instead of one per chunk.
        chunks = list(zip(self.steps.w.unbind(2), self.steps.t.unbind(2), self.ends.unbind(2), strict=True))
        row = torch.arange(rows.start, rows.stop, device=r.device).unsqueeze(-1)
        logits = []
        for start in reversed(range(0, rows.stop, size)):
            w, t, ends = chunks[start // size]
            met = r @ w.transpose(-1, -2)
            if start + size <= rows.start + 1:
                taken = met @ t
                logits.append(r @ ends.transpose(-1, -2))
            else:
                # Some row stands inside the chunk: it meets the steps up to its own alone.
                token = torch.arange(start, start + size, device=r.device)
                taken = met.masked_fill(token > row, 0.0) @ t
                own = k[:, :, before + start : before + start + size].transpose(-1, -2)
                logits.append(r @ own - taken @ (w @ own).tril(-1))
            r = r - taken @ w
        logits.append(r @ k[:, :, :before].transpose(-1, -2))
        return scale * torch.cat(logits[::-1], dim=-1)


@encodings.register("path")
class PaTH(NormedQK):
    """The key's way to the query is a product of steps that the tokens between them choose.

    Args:
        rank: of the map of x to the w; None is a full one (the library's, for grouped heads).
        conv: width of the causal convolution over time, per channel and without a bias; 0 leaves it and the SiLU out.
        qk_norm: RMS-normalise q and k of each head, with learned gains that the heads share (the library trains so,
            and over the whole width until October 2025; it forgets the norm while decoding, here it holds in both).
        chunk: tokens per chunk of the parallel pass: speed, not values.

    Raises:
        UserError: an option out of range.
    """

    paper = Paper(
        "Yang et al., 2505.16381",
        "contextual",
        "product of Householder steps",
        summary="each token projects or reflects what passes it on the way from key to query",
        year=2025,
        state="k rewritten; 2 inputs of the convolution",
    )
    bias_kind = "owns"
    query_key = "rewritten"

    def __init__(
        self,
        spec: LayerSpec,
        *,
        rank: int | None = 32,
        conv: int = 3,
        qk_norm: bool = False,
        chunk: int = 64,
    ) -> None:
        super().__init__(spec)
        if (rank is not None and rank < 1) or conv < 0 or chunk < 1:
            raise UserError(f"encoding 'path': rank {rank}, conv {conv} and chunk {chunk} must be at least 1, 0 and 1")
        heads, head_dim, dim = spec.heads, spec.head_dim, spec.dim
        width = heads * head_dim
        maps = [(dim, width)] if rank is None else [(dim, rank), (rank, width)]
        self.w = nn.Sequential(*(nn.Linear(*sizes, bias=False) for sizes in maps))
        self.conv = nn.Conv1d(width, width, conv, groups=width, bias=False) if conv else None
        self.beta = HeadProjection(dim, heads, bias=True)
        self.add_norms(qk_norm)
        self.chunk = chunk
        for module in (*self.w, *([self.conv] if self.conv else [])):
            nn.init.normal_(module.weight, std=0.02)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        z = self.w(x.to(self.beta.weight.dtype))
        seen = 0 if self.conv is None else self.conv.kernel_size[0] - 1
        taps = past.taps if isinstance(past, PathBias) else z.new_zeros(z.size(0), seen, z.size(-1))
        window = torch.cat([taps, z], dim=1)
        if self.conv is not None:
            z = F.silu(self.conv(window.transpose(1, 2)).transpose(1, 2))
        z = z.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2).to(wide_enough(x))
        # The library adds 1e-6, as much as a short z of a narrow model itself at the start.
        w = z * (z.square().sum(-1, keepdim=True) + torch.finfo(z.dtype).eps ** 2).rsqrt()
        beta = 2 * self.beta(x).sigmoid()
        with torch.autocast(x.device.type, enabled=False):
            size = min(self.chunk, x.size(1))
            w = chunked(w, size)
            t = wy_triangle(w, chunked(beta.unsqueeze(-1), size).squeeze(-1))
        before = 0 if past is None else past.shape[-1]
        return PathBias(before, x.size(1), w, beta, t, window[:, window.size(1) - seen :])
