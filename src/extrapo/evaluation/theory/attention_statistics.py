"""Statistics of trained attention per head (2606.24975; Sandwich, 2212.10356): dilution, sharpness, sinks, far mass.

    max p <= e^Delta / (e^Delta + L - 1),  Delta = max - min of the logits: sharpness goes unless Delta grows as ln L
    effective keys e^H, participation 1 / sum p^2, mean distance E_p[n], n_50 and n_90 its quantiles
    sink mass: p on the first tokens, which are far and do no harm

Rows are taken one at a time, of queries over the last eighth of a text: nothing of size T x T is ever there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from extrapo.evaluation.theory.far_mass import far_coherence, far_mass
from extrapo.evaluation.theory.normalisation import EPS, window
from extrapo.evaluation.theory.passes import LayerPass, QueryRow

#: Queries of a text, and the tokens at its start that count as sinks.
QUERIES, SINKS = 16, 1
#: A head is local if 90% of its mass lies within so many tokens, global if half of it lies beyond.
LOCAL = 64


def places(length: int, queries: int = QUERIES) -> list[int]:
    """Where the queries stand: evenly over the last eighth of a text, the last token among them."""
    first = length - 1 - length // 8
    count = min(queries, length - first)
    return [length - 1 - (length - 1 - first) * i // max(1, count - 1) for i in range(count)]


class HeadStatistics:
    """Sums over queries of one layer's heads, and the mean weight by distance.

    Args:
        length: L of the text.
        near: W, the keys that count as near in far mass.
        mixing: the mixing window of each head, where there is one: far mass is measured beyond that as well.
    """

    def __init__(self, length: int, near: int, mixing: Sequence[float] | None = None) -> None:
        self.length, self.near, self.mixing = length, near, mixing
        self.sums: dict[str, Tensor] = {}
        self.weights = torch.zeros(())
        self.distances = DistanceBins(length)
        self.queries = 0

    def add(self, row: QueryRow) -> None:
        """Take in one query."""
        for name, value in row_statistics(row, self.near).items():
            self.sums[name] = self.sums.get(name, torch.zeros(())) + value.cpu()
        missing = self.length - row.p.size(-1)
        self.weights = self.weights + torch.nn.functional.pad(row.p.cpu(), (0, missing))
        self.distances.add(row)
        self.queries += 1

    def rows(self) -> list[dict[str, Any]]:
        """A row per head: means over queries; windows of the mean weights."""
        mean = self.weights / self.queries
        rows = []
        for head in range(mean.size(0)):
            row: dict[str, Any] = {name: known(float(total[head]) / self.queries) for name, total in self.sums.items()}
            line = mean[head].clamp_min(0).log()
            row |= {f"window_{round(100 * eps)}": int(window(line, eps)) for eps in EPS}
            row["far_mass_mixing"] = None
            if self.mixing is not None and self.mixing[head] < self.length:
                row["far_mass_mixing"] = float(mean[head, int(self.mixing[head]) :].sum())
            entropy = row["entropy"]
            row["entropy_share"] = None if entropy is None or self.length == 1 else entropy / math.log(self.length)
            # In the mean of the gaps, not of their exponentials.
            row["half_mass_length"] = (
                None if row["gap"] is None else known(self.near * math.exp(min(row["gap"], 700.0)))
            )
            row["kind"] = "local" if row["n_90"] < LOCAL else "global" if row["n_50"] > self.near / 2 else "medium"
            rows.append({"head": head, "near": self.near, "queries": self.queries, **row})
        return rows


def known(value: float) -> float | None:
    """A number, or None where there is none to be had."""
    return value if math.isfinite(value) else None


def row_statistics(row: QueryRow, near: int) -> dict[str, Tensor]:
    """(H,) each, of one query; ln Z, the gap and the bound in the gauge of the query's own key, b_ii = 0."""
    own = row.added[:, :1]
    logits, p, length = row.logits - own, row.p, row.p.size(-1)
    seen = logits.isfinite()
    distance = torch.arange(length, dtype=torch.float64, device=p.device)
    cumulative = p.cumsum(-1) / p.sum(-1, keepdim=True)
    spread = logits.amax(-1) - logits.masked_fill(~seen, math.inf).amin(-1)
    entropy = torch.special.entr(p).sum(-1)
    mass = far_mass(logits, near)
    # Head by head: of a long text the values of all heads in float64 are what takes memory.
    coherence = [values_statistics(p[head], row.values[head], near) for head in range(len(p))]
    kappa, floor, output, ratio = (torch.stack(parts) for parts in zip(*coherence, strict=True))
    return {
        "ln_z": logits.logsumexp(-1),
        "entropy": entropy,
        "effective_keys": entropy.exp(),
        "participation": 1 / p.square().sum(-1),
        "max_weight": p.amax(-1),
        "spread": spread,
        "max_weight_bound": 1 / (1 + (seen.sum(-1) - 1) * (-spread).exp()),
        "sink_mass": p[:, -SINKS:].sum(-1),
        "mean_distance": (p * distance).sum(-1) / p.sum(-1),
        "n_50": (cumulative >= 0.5 - 1e-12).double().argmax(-1).double() + 1,
        "n_90": (cumulative >= 0.9 - 1e-12).double().argmax(-1).double() + 1,
        "far_mass": p[:, near:].sum(-1),
        "near_mass": p[:, :near].sum(-1),
        "far_mass_bound": mass.bound,
        "gap": mass.gap,
        "mean_gap": mass.mean_gap,
        "far_variance": mass.variance,
        "far_coherence": kappa,
        "far_coherence_floor": floor,
        "log_output": output.clamp_min(1e-30).log(),
        "log_near_to_far": ratio.log(),
    }


def values_statistics(p: Tensor, values: Tensor, near: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Far coherence, its floor, |o| and |o_near| / |o_far|, of one head: p (L,) by distance, values (L, e) by place."""
    by_distance = values.flip(0).double()
    from_near, from_far = p[:near] @ by_distance[:near], p[near:] @ by_distance[near:]
    output = (from_near + from_far).norm()
    return *far_coherence(p, by_distance, near), output, from_near.norm() / from_far.norm()


class DistanceBins:
    """Sums by distance in bins 0, 1, 2-3, 4-7 ...: weights, logits, the content with its transform and without.

    Args:
        length: L.
    """

    NAMES = ("p", "logit", "content", "content_square", "plain", "plain_square", "agreement")

    def __init__(self, length: int) -> None:
        self.edges = [0, *(2**k for k in range(length.bit_length())), length]
        self.edges = sorted({edge for edge in self.edges if edge <= length})
        self.sums: dict[str, Tensor] = {}
        self.counts: Tensor = torch.zeros(())
        self.queries = 0

    def add(self, row: QueryRow) -> None:
        """Take in one query."""
        seen = row.logits.isfinite().double()
        logits = row.logits.masked_fill(seen == 0, 0.0)
        content = (logits - row.added.masked_fill(seen == 0, 0.0)) * seen
        plain = row.plain * seen
        values = (row.p, logits, content, content.square(), plain, plain.square(), content * plain)
        for name, value in zip(self.NAMES, values, strict=True):
            self.sums[name] = self.sums.get(name, torch.zeros(())) + self._binned(value)
        self.counts = self.counts + self._binned(seen)
        self.queries += 1

    def _binned(self, value: Tensor) -> Tensor:
        total = torch.nn.functional.pad(value.cumsum(-1), (1, 0)).cpu()
        ends = [min(edge, value.size(-1)) for edge in self.edges]
        return total[:, ends].diff(dim=-1)

    def rows(self) -> list[dict[str, Any]]:
        """A row per head and bin: share of the mass, mean logits, and what the transform left of the content."""
        rows = []
        for head in range(self.counts.size(0)):
            for at, (start, stop) in enumerate(zip(self.edges, self.edges[1:], strict=False)):
                count = float(self.counts[head, at])
                if count == 0:
                    continue
                mean = {name: float(self.sums[name][head, at]) / count for name in self.NAMES}
                size = (
                    math.sqrt(mean["content_square"] / mean["plain_square"]) if mean["plain_square"] > 0 else math.nan
                )
                # Against the same pairs without the transform: their product tells the phase, whatever the sign.
                phase = mean["agreement"] / mean["plain_square"] if mean["plain_square"] > 0 else math.nan
                rows.append(
                    {
                        "distance": start,
                        "to": stop - 1,
                        "head": head,
                        "mass": float(self.sums["p"][head, at]) / self.queries,
                        "mean_weight": mean["p"],
                        "mean_logit": mean["logit"],
                        "mean_content": mean["content"],
                        "mean_plain": mean["plain"],
                        "sd_content": math.sqrt(max(0.0, mean["content_square"] - mean["content"] ** 2)),
                        "coherence": known(phase),
                        "size": known(size),
                    }
                )
        return rows


def add_queries(statistics: HeadStatistics, layer: LayerPass) -> None:
    """Take in the queries of one layer on one text."""
    for place in places(statistics.length):
        statistics.add(layer.row(place))
