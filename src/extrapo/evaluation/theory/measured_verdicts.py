"""The claims of 2601.06113 and what follows from them, read off a trained model's rows; slopes over lengths decide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from extrapo.evaluation.theory.ldcp import LEVEL, correlation_length
from extrapo.evaluation.theory.verdicts import GROWING, Verdict

#: Slopes against ln L: below, a quantity of real attention counts as bounded.
BOUNDED = 0.1
Rows = Sequence[Mapping[str, Any]]


def measured_verdicts(found: Mapping[str, Rows], train_length: int) -> dict[str, Verdict]:
    """What the rows of all lengths say, see `of_model`; of a claim that they do not reach, nothing."""
    verdicts: dict[str, Verdict] = {}
    for claim, name in (("normalisation", "ln_z"), ("entropy", "entropy")):
        growth = slope(found["heads"], name)
        if growth is not None:
            holds = "yes" if growth < BOUNDED else "no" if growth > GROWING else "undecided"
            verdicts[claim] = Verdict(holds, f"d {name} / d ln L is {growth:.3g} over the lengths")  # type: ignore[arg-type]
    longest = max((row["length"] for row in found["distances"]), default=0)
    bins = [row for row in found["distances"] if row["length"] == longest]
    if bins:
        verdicts["ldcp_logit"] = logit_correlation(bins)
        verdicts["ldcp_content"] = content_correlation(bins)
    heads = [row for row in found["heads"] if row["length"] == longest and longest > train_length]
    if heads:
        mass = math.fsum(row["far_mass"] for row in heads) / len(heads)
        why = f"{mass:.1%} of the attention of {longest:,} tokens lies beyond {train_length:,}, in the mean over heads"
        verdicts["near_mass"] = Verdict("yes" if mass < 0.5 else "no", why)
    fields = sorted(found["fields"], key=lambda row: int(row["length"]))
    if fields and fields[-1]["length"] > train_length:
        reach, length = fields[-1]["erf_99"], fields[-1]["length"]
        why = f"99% of the gradient at {length:,} tokens comes from the nearest {reach:,}; T = {train_length:,}"
        verdicts["receptive_field"] = Verdict("yes" if reach <= train_length else "no", why)
    return verdicts


def slope(rows: Rows, name: str) -> float | None:
    """d value / d ln L by least squares, in the mean over layers and heads; None of fewer than two lengths."""
    known = [(float(row["length"]), float(row[name])) for row in rows if row.get(name) is not None]
    if len({length for length, _ in known}) < 2:
        return None
    x, y = (torch.tensor(values, dtype=torch.float64) for values in zip(*known, strict=True))
    x = x.log() - x.log().mean()
    return float((x * (y - y.mean())).sum() / x.square().sum())


def by_bin(bins: Rows, name: str) -> dict[int, float]:
    """The mean over layers and heads by the first distance of a bin."""
    groups: dict[int, list[float]] = {}
    for row in bins:
        if row[name] is not None:
            groups.setdefault(row["distance"], []).append(row[name])
    return {distance: math.fsum(values) / len(values) for distance, values in sorted(groups.items())}


def logit_correlation(bins: Rows) -> Verdict:
    """Whether the mean logit stays above -C of that at distance 0."""
    mean = by_bin(bins, "mean_logit")
    fails = [distance for distance, value in mean.items() if value - mean[0] < -LEVEL]
    if not fails:
        return Verdict("yes", f"the mean logit is nowhere {LEVEL:g} below that of the query's own key")
    return Verdict(
        "local", f"the mean logit is {LEVEL:g} below that of the query's own key from {min(fails):,} tokens on"
    )


def content_correlation(bins: Rows) -> Verdict:
    """Whether what the transform leaves of the content stays above half of that at distance 1."""
    phase, size = by_bin(bins, "coherence"), by_bin(bins, "size")
    distances = [distance for distance in phase if distance >= 1]
    if len(distances) < 2:
        return Verdict("undecided", "too few distances")
    length = correlation_length([phase[distance] for distance in distances], distances)
    if length is None:
        return Verdict(
            "yes", f"coherence {phase[distances[-1]]:.2f} at the farthest, {distances[-1]:,} tokens and more"
        )
    shrinks = correlation_length([size[distance] for distance in distances], distances)
    kept = "its size stays" if shrinks is None else f"its size falls with it, to half at {shrinks:,.0f}"
    return Verdict("local", f"coherence falls to half at {length:,.0f} tokens; {kept}")
