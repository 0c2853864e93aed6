"""Recorded runs beside one another: their curves over seeds, and which differences are more than chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from extrapo.config import EncodingSettings, ShapeSettings, SwapSettings, TextSettings, TrainingSettings
from extrapo.errors import UserError
from extrapo.evaluation.comparison import Group, MeasuredRun, check_comparable, differences, grouped
from extrapo.evaluation.uncertainty import BlockLosses
from extrapo.location import Location
from extrapo.tracking import RecordedRun, RunStore, recorded_runs
from extrapo.tracking import runs as all_runs
from extrapo.tracking.configuration import flatten
from extrapo.tracking.store import uncollected

#: Settings that make another model, or another training of it.
OF_THE_MODEL = (EncodingSettings, SwapSettings, ShapeSettings, TextSettings, TrainingSettings)
#: But for these, of which the trained weights depend on none, or by chance alone.
NOT_OF_IT = ("seed", "micro_batch", "val_every", "val_tokens", "log_every", "on_nan")
#: Settings whose values speak for themselves.
BARE = ("encoding", "encoding_options", "kernel")
#: What stands between a run and one of the curves that were measured later, as in `last@nope-disjoint-stdlib-8f0e5b7c`.
AT = "@"


@dataclass(frozen=True)
class Candidate:
    """A curve to be compared: a run's own, or one that was measured later.

    Args:
        name: how people call it.
        recorded: the run whose it is.
        curve: which of those that were measured later; empty for its own.
        config: of the run, with the encoding that the curve is of.
        rows: one per length.
        blocks: the losses of each length in stretches of the text.
        train_length: T.
    """

    name: str
    recorded: RecordedRun = field(repr=False)
    curve: str
    config: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    blocks: Mapping[int, Mapping[str, Any]]
    train_length: int | None


@dataclass(frozen=True)
class Losses(Mapping[int, BlockLosses]):
    """The losses of each length, made when a length is asked for: of a report it is one of fifty.

    Args:
        recorded: `nll` and `tokens` of each length.
    """

    recorded: Mapping[int, Mapping[str, Any]] = field(repr=False)

    def __getitem__(self, length: int) -> BlockLosses:
        of_length = self.recorded[length]
        return BlockLosses(tuple(of_length["nll"]), tuple(map(int, of_length["tokens"])))

    def __iter__(self) -> Iterator[int]:
        return iter(self.recorded)

    def __len__(self) -> int:
        return len(self.recorded)


def candidate(run: RecordedRun, curve: str = "") -> Candidate:
    """A run's own curve, or the later one whose name begins like this.

    Raises:
        UserError: it has no such curve, or several.
    """
    name = f"{run.name} {run.run_id[:8]}"
    # Whose weights it started from is the seed's matter; whether it did is not.
    config = {**run.config, "init": bool(run.config.get("init"))}
    if not curve:
        return Candidate(name, run, "", config, run.curve, run.blocks, run.train_length)
    matches = [one for one in run.measured if one == curve] or [one for one in run.measured if one.startswith(curve)]
    if len(matches) != 1:
        listed = ", ".join(matches or run.measured) or "none"
        raise UserError(f"run {run.run_id[:8]} has {len(matches)} measured curves '{curve}'; there are: {listed}")
    document = run.measured[matches[0]]
    if not document["own_encoding"]:
        config |= {key: document[key] for key in ("encoding", "encoding_options", "kernel")}
    blocks = {int(length): of_length for length, of_length in document["blocks"].items()}
    return Candidate(f"{name}{AT}{matches[0]}", run, matches[0], config, document["rows"], blocks, run.train_length)


@dataclass(frozen=True)
class Comparison:
    """Groups of runs that were measured alike.

    Args:
        groups: each of runs that differ in their seed alone.
        train_length: T, that of the first.
        differences: see `evaluation.comparison.differences`; empty where the losses are not of the same targets.
        recorded: the run of each member of a group, by its name.
        left_out: runs that were done again since, by name.
        why: why there are no differences, where there are none.
    """

    groups: Sequence[Group]
    train_length: int
    differences: Sequence[dict[str, Any]]
    recorded: Mapping[str, RecordedRun] = field(default_factory=dict, repr=False)
    left_out: Sequence[str] = ()
    why: str = ""

    def curves(self) -> dict[str, list[dict[str, Any]]]:
        """The mean curve of each group by its name."""
        return {group.name: group.curve() for group in self.groups}

    def runs(self) -> dict[str, list[RecordedRun]]:
        """The runs of each group by its name."""
        return {group.name: [self.recorded[run.name] for run in group.members] for group in self.groups}

    def document(self) -> dict[str, Any]:
        """The document that `extrapo compare --json` prints."""
        return {
            "runs": [
                {"name": group.name, "runs": [run.name for run in group.members], "curve": group.curve()}
                for group in self.groups
            ],
            "differences": list(self.differences),
        }


def compare(
    names: Sequence[str],
    location: Location,
    *,
    experiment: str | None = None,
    by: Sequence[str] | None = None,
    per_byte: bool = False,
    longest: bool = False,
) -> Comparison:
    """The runs that are named, or all that an experiment has a curve of.

    Args:
        names: ids, the beginning of them, names, or `last`; behind an `@`, one of the curves that were measured later.
        location: where they are recorded.
        experiment: all finished runs of it, where none is named.
        by: settings that runs are grouped by, whose seeds make a mean; None is all of the model's in which they differ.
        per_byte: compare bits per byte, which are one quantity whatever the protocol's targets and the tokenizer.
        longest: differences at the longest length of each pair alone.

    Raises:
        UserError: no such run, curves that are not of one quantity, or a setting that none has.
    """
    with uncollected():
        chosen = _chosen(names, location, experiment)
        keys = _keys(chosen, by)
        measured = [_measured(run, keys) for run in chosen]
    check_comparable(measured, per_byte=per_byte)
    # Of a training that was done twice, the later one.
    runs = list({(run.key, run.seed): run for run in measured}.values())
    left_out = [run.name for run in measured if run not in runs]
    groups = grouped(runs)
    apart, why = _differences(groups, measured, longest)
    length = chosen[0].train_length
    assert length is not None
    return Comparison(groups, length, apart, {run.name: run.recorded for run in chosen}, left_out, why)


def _chosen(names: Sequence[str], location: Location, experiment: str | None) -> list[Candidate]:
    """What is compared, each curve once."""
    if names:
        asked = [name.partition(AT) for name in names]
        found = recorded_runs(RunStore.existing(location), [run for run, _, _ in asked])
        chosen = [candidate(run, curve) for run, (_, _, curve) in zip(found, asked, strict=True)]
    else:
        everything = all_runs(location.root, location.tracking_uri, experiment)
        finished = [run for run in reversed(everything) if run.status == "FINISHED" and run.curve]
        chosen = [candidate(run) for run in finished]
    if not chosen:
        raise UserError("there is no finished run with a curve to compare")
    return list({(run.recorded.run_id, run.curve): run for run in chosen}.values())


def _differences(
    groups: Sequence[Group], runs: Sequence[MeasuredRun], longest: bool
) -> tuple[list[dict[str, Any]], str]:
    """Of losses, where these are one quantity; or none, and why."""
    if not all(run.blocks for run in runs):
        return [], "some runs were recorded without their losses in stretches of the text: no differences"
    try:
        check_comparable(runs)
        return differences(groups, longest=longest), ""
    except UserError as cause:
        return [], f"no differences of losses: {cause}"


def _keys(chosen: Sequence[Candidate], by: Sequence[str] | None) -> list[str]:
    """What tells the runs apart: what is asked for, or every setting of the model in which they differ."""
    if by is None:
        known = [key for group in OF_THE_MODEL for key in group.model_fields if key not in NOT_OF_IT]
        return [key for key in (*known, "init") if len({str(run.config.get(key)) for run in chosen}) > 1] or [
            "encoding"
        ]
    for key in by:
        if not any(key in run.config for run in chosen):
            raise UserError(f"no run has a setting '{key}' to be grouped by")
    return list(by)


def _measured(run: Candidate, keys: Sequence[str]) -> MeasuredRun:
    values = {key: run.config.get(key) for key in keys}
    key = tuple(_told(key, value) for key, value in values.items() if value not in (None, {}))
    return MeasuredRun(run.name, key, run.config.get("seed"), run.rows, Losses(run.blocks))


def _told(key: str, value: Any) -> str:
    if key == "init":
        return "continued" if value else "from scratch"
    options = flatten(value) if isinstance(value, Mapping) else ()
    words = ", ".join(f"{name} {one}" for name, one in options) or str(value)
    return words if key in BARE else f"{key} {words}"
