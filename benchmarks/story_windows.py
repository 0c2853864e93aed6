"""The table of docs/results.md on stories, from the runs of sweeps/stories.yaml and their curves on long stories.

python benchmarks/story_windows.py --root runs
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from extrapo.tracking import RecordedRun, runs

SWEEP = "stories"
SHORT, LONG = (256, 1024, 4096, 16_384), (256, 4096, 16_384)
#: Times the window: how far the paper goes.
FAR = 64


def cells(root: Path) -> dict[tuple[str, int], list[RecordedRun]]:
    """The finished runs of the sweep by encoding and window, in the order of its cells."""
    mine = [run for run in runs(root) if run.tags.get("extrapo.sweep") == SWEEP and run.status == "FINISHED"]
    found = defaultdict(list)
    for run in sorted(mine, key=lambda run: int(run.tags["extrapo.cell"])):
        found[run.encoding, int(run.config["seq_len"])].append(run)
    return dict(sorted(found.items(), key=lambda item: list(dict.fromkeys(e for e, _ in found)).index(item[0][0])))


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean and standard deviation over seeds."""
    return f"{fmean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def perplexities(run: RecordedRun, long: bool) -> dict[int, float]:
    """Perplexity by length, on the run's own text or on the one that it was evaluated on later."""
    rows = next(iter(run.measured.values()))["rows"] if long else run.curve
    return {row["length"]: row["ppl"] for row in rows}


def lines(found: Mapping[tuple[str, int], Sequence[RecordedRun]]) -> Iterator[str]:
    """The table in Markdown."""
    head = [
        "",
        "T",
        "short: T",
        *map("{:,}".format, SHORT),
        f"{FAR} T over T",
        "long: 256",
        *map("{:,}".format, LONG[1:]),
    ]
    yield "| " + " | ".join(head) + " |"
    yield "|---|" + "---:|" * (len(head) - 1)
    for (encoding, window), members in found.items():
        on_short, on_long = ([perplexities(run, of_long) for run in members] for of_long in (False, True))
        row = [
            f"`{encoding}`",
            str(window),
            *(spread([one[length] for one in on_short]) for length in (window, *SHORT)),
            spread([one[FAR * window] / one[window] for one in on_short], 3),
            *(spread([one[length] for one in on_long]) for length in LONG),
        ]
        yield "| " + " | ".join(row) + " |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path("runs"))
    print("\n".join(lines(cells(parser.parse_args().root))))
