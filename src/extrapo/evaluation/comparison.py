"""Curves of several runs beside one another: groups over seeds, paired differences, and a refusal where two numbers of
one name are not the same quantity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, combinations
from statistics import fmean, stdev
from typing import Any, TypeAlias

from extrapo.errors import UserError
from extrapo.evaluation.uncertainty import BlockLosses, Resampled, resampled
from extrapo.evaluation.uncertainty import differences as differences_of
from extrapo.evaluation.units import perplexity

Row: TypeAlias = Mapping[str, Any]

#: What must agree where losses or perplexities are compared, and what each is called.
TERMS = {
    "protocol": "protocols",
    "scope": "borders",
    "description": "windows",
    "window": "window sizes",
    "stride": "strides",
    "tokens": "numbers of targets",
    "targets": "targets",
    "documents": "numbers of documents",
    "start_token": "start tokens",
    "corpus_sha256": "texts",
    "tokenizer_sha256": "tokenizers",
    "dtype": "precisions",
}
#: Of these, what bits per byte do without.
PER_BYTE = (
    *("protocol", "scope", "description", "window", "stride"),
    *("tokens", "targets", "documents", "tokenizer_sha256"),
)
#: What belongs to a length: compared where both curves have it.
OF_LENGTH = ("window", "stride")


@dataclass(frozen=True)
class MeasuredRun:
    """A run's curve, and what it is told apart by.

    Args:
        name: how people call it.
        key: values of what runs are grouped by, such as the encoding.
        seed: of its training.
        rows: the curve, one row per length.
        blocks: the losses of each length in stretches of the text; empty where they were not recorded.
    """

    name: str
    key: tuple[str, ...]
    seed: int | None
    rows: Sequence[Row]
    blocks: Mapping[int, BlockLosses] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    Args:
        key: what they have in common.
        members: at least one, by seed.
    """

    key: tuple[str, ...]
    members: Sequence[MeasuredRun]

    @property
    def name(self) -> str:
        """The values of the key."""
        return ", ".join(self.key)

    @property
    def seeds(self) -> list[int | None]:
        """Of each member."""
        return [run.seed for run in self.members]

    def curve(self) -> list[dict[str, Any]]:
        """A row per length that all members have, see `over_seeds`."""
        of_members = [{int(row["length"]): row for row in member.rows} for member in self.members]
        lengths = sorted(set.intersection(*(set(rows) for rows in of_members)))
        return [over_seeds([rows[length] for rows in of_members]) for length in lengths]

    def partial(self) -> list[int]:
        """The lengths at which some members have a loss and others none, so that there is no mean."""
        first, *others = map(_lengths, self.members)
        return sorted(first.union(*others) - first.intersection(*others))


def over_seeds(rows: Sequence[Row]) -> dict[str, Any]:
    """One length of runs that differ in their seed alone, as a row: the mean of loss and bits per byte, the perplexity
    of that loss, `seeds`, and of several `spread`, the standard deviation in nats (of the bits: `spread_bits`), with
    `low` and `high` the mean less and plus it; of one seed these stay the interval over texts.
    """
    row = {**rows[0], "seeds": len(rows)}
    if any(one["nll"] is None for one in rows):
        return row | {"nll": None, "ppl": None, "bits_per_byte": None, "low": None, "high": None}
    losses = [float(one["nll"]) for one in rows]
    bits = [one["bits_per_byte"] for one in rows if one.get("bits_per_byte") is not None]
    mean = fmean(losses)
    row |= {"nll": mean, "ppl": perplexity(mean), "bits_per_byte": fmean(bits) if len(bits) == len(rows) else None}
    if len(rows) > 1:
        # Of each seed its own; there is no mean of them.
        row.pop("positions", None)
        spread = spread_of(losses)
        row |= {"spread": spread, "low": mean - spread, "high": mean + spread}
        row |= {"spread_bits": spread_of(bits)} if len(bits) == len(rows) else {}
    return row


def spread_of(values: Sequence[float]) -> float:
    """The standard deviation (n - 1) of several values; NaN where one of them is not finite."""
    return stdev(values) if all(map(math.isfinite, values)) else math.nan


def table_of(curves: Mapping[str, Sequence[Row]], metric: str = "ppl", thousands: str = ",") -> list[dict[str, str]]:
    """A row per length, a column per curve: `ppl` or `bits_per_byte`, and its spread where there are several seeds.

    Args:
        curves: rows of `over_seeds` by name.
        metric: `ppl` or `bits_per_byte`.
        thousands: what stands between them; nothing where a program is to read the numbers.
    """
    values = {
        name: {int(row["length"]): cell_of(row, metric, thousands) for row in rows} for name, rows in curves.items()
    }
    lengths = sorted({length for of_length in values.values() for length in of_length})
    return [
        {"length": f"{length:{thousands}d}", **{name: of_length.get(length, "-") for name, of_length in values.items()}}
        for length in lengths
    ]


def cell_of(row: Row, metric: str = "ppl", thousands: str = ",") -> str:
    """`ppl` or `bits_per_byte` of a row of `over_seeds`, with the spread where there are several seeds."""
    if row.get(metric) is None:
        return "-"
    value, spread = float(row[metric]), row.get("spread" if metric == "ppl" else "spread_bits")
    digits = 2 if metric == "ppl" else 4
    if spread is None:
        return f"{value:{thousands}.{digits}f}"
    # That of a perplexity is of its logarithm: what moves this by so much moves it by as much of itself.
    moves = value * _expm1(spread) if metric == "ppl" else spread
    return f"{value:{thousands}.{digits}f} ± {moves:{thousands}.{digits}f}"


def _expm1(spread: float) -> float:
    return math.expm1(spread) if spread < 700 else math.inf


def grouped(runs: Sequence[MeasuredRun]) -> list[Group]:
    """The runs by their key, in the order in which they come."""
    members: dict[tuple[str, ...], list[MeasuredRun]] = {}
    for run in runs:
        members.setdefault(run.key, []).append(run)
    return [Group(key, sorted(found, key=lambda run: run.seed or 0)) for key, found in members.items()]


def check_comparable(runs: Sequence[MeasuredRun], *, per_byte: bool = False) -> None:
    """Raise UserError where the curves are not of one quantity, with the reason.

    Args:
        runs: what is to be compared.
        per_byte: whether bits per byte are compared, which are the same quantity under any tokenizer.
    """
    for run in runs:
        if not run.rows:
            raise UserError(f"'{run.name}' has no curve")
    # Of runs that say the same the first: two hundred of one sweep make twenty thousand pairs.
    distinct: dict[frozenset[tuple[Any, ...]], MeasuredRun] = {}
    for run in runs:
        distinct.setdefault(_terms(run), run)
    for term, plural in TERMS.items():
        if per_byte and term in PER_BYTE:
            continue
        for one, other in combinations(distinct.values(), 2):
            both = _lengths(one) & _lengths(other) if term in OF_LENGTH else _lengths(one) | _lengths(other)
            of_one, of_other = ({row[term] for row in _measured(run, both) if row.get(term)} for run in (one, other))
            if of_one and of_other and of_one != of_other:
                values = " and ".join(f"{_told(of)} ({run.name})" for run, of in ((one, of_one), (other, of_other)))
                raise UserError(f"these curves are not comparable: their {plural} differ, {values}")


def _terms(run: MeasuredRun) -> frozenset[tuple[Any, ...]]:
    """All that is compared of a run."""
    return frozenset((int(row["length"]), *map(row.get, TERMS)) for row in _measured(run, _lengths(run)))


def _lengths(run: MeasuredRun) -> set[int]:
    return {int(row["length"]) for row in run.rows if row["nll"] is not None}


def _measured(run: MeasuredRun, lengths: set[int]) -> list[Row]:
    return [row for row in run.rows if row["nll"] is not None and int(row["length"]) in lengths]


def _told(values: set[Any]) -> str:
    return ", ".join(sorted(f"'{str(value)[:60]}'" for value in values))


def differences(groups: Sequence[Group], *, longest: bool = False) -> list[dict[str, Any]]:
    """Each pair of groups at each length that both have: the difference of their mean losses, its interval, a verdict.

    Args:
        groups: in pairs.
        longest: at the longest of these lengths alone.

    Raises:
        UserError: losses of other targets.
    """
    found: dict[tuple[int, int], list[dict[str, Any]]] = {pair: [] for pair in combinations(range(len(groups)), 2)}
    lengths = [set.intersection(*(set(run.blocks) for run in group.members)) for group in groups]

    @cache
    def sample(number: int, length: int, after: int = 0) -> Resampled:
        return resampled([run.blocks[length] for run in groups[number].members], after=after)

    for length in sorted(set().union(*lengths)):
        sample.cache_clear()
        having = [number for number, of_group in enumerate(lengths) if length in of_group]
        for at, one in enumerate(having[:-1], 1):
            seeds, rest = groups[one].seeds, having[at:]
            if longest:
                rest = [other for other in rest if max(lengths[one] & lengths[other]) == length]
                if not rest:
                    continue
            # What a seed does to both tells nothing: the same ones are drawn once.
            others = [sample(other, length, 0 if groups[other].seeds == seeds else len(seeds)) for other in rest]
            for other, apart in zip(rest, differences_of(sample(one, length), others), strict=True):
                names = {"one": groups[one].name, "other": groups[other].name}
                found[one, other].append({**names, "length": length, **apart._asdict()})
    return list(chain.from_iterable(found.values()))
