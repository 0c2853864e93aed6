"""The suite: encodings times impls times lengths, attention and training step, as rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from extrapo import encodings
from extrapo.bench.baselines import BASELINES
from extrapo.bench.contenders import PLAIN, Case, attention_run, served, step_run
from extrapo.bench.memory import Children
from extrapo.bench.timing import interleave
from extrapo.errors import UserError

DEFAULTS = ("nope", "rope", "alibi", "cable", "cable-weighted", "fox", "k-cable", "adaptive", "kerple-log")

#: Options under which an encoding runs here; said in a line.
OPTIONS: dict[str, dict[str, Any]] = {"adaptive": {"alpha_mode": "const"}}

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Args:
        names: encodings.
        impls: compute paths, `auto` for the one that serves.
        lengths: T.
        tokens: tokens of a batch; B = tokens / T, at least 1.
        heads, head_dim: of a layer's attention; a training step has a model of its own, see contenders.
        dtype: of q, k, v, and of a step's autocast.
        device: where it runs.
        steps: time training steps.
        baselines: time the formulations of today.
        memory: measure peak memory.
        seconds: for the timing of one length, attention and steps together.
    """

    names: tuple[str, ...] = DEFAULTS
    impls: tuple[str, ...] = ("auto",)
    lengths: tuple[int, ...] = (512, 2048)
    tokens: int = 2048
    heads: int = 8
    head_dim: int = 64
    dtype: str = "float32"
    device: str = "cpu"
    steps: bool = True
    baselines: bool = True
    memory: bool = True
    seconds: float = 60.0


def cases(plan: Plan, length: int, say: Callable[[str], None]) -> Iterator[tuple[Case, str]]:
    """The cases of one length that can run, each with the path that serves; a line for those that cannot."""

    def case(name: str, impl: str = "auto") -> Case:
        batch = max(1, plan.tokens // length)
        options = OPTIONS.get(name, {})
        return Case(name, impl, length, batch, plan.heads, plan.head_dim, plan.dtype, plan.device, options)

    yield case(PLAIN), "-"
    known = set(encodings.names())
    for name in plan.names:
        if plan.names is DEFAULTS and name not in known:
            say(f"{name}: skipped, not in this version")
            continue
        if name in OPTIONS:
            say(f"{name}: with {', '.join(f'{key} = {value}' for key, value in OPTIONS[name].items())}")
        for impl in plan.impls:
            one = case(name, impl)
            try:
                yield one, served(one)
            except UserError as cause:
                say(f"{name}: skipped, {cause}")
    if plan.baselines:
        yield from ((case(name), "-") for name in BASELINES)


def run(plan: Plan, say: Callable[[str], None], progress: Callable[[str], None] = lambda name: None) -> list[Row]:
    """Measure; rows of `encoding`, `options`, `impl`, `length`, `batch`, `phase`, `seconds`, `low`, `high`, `ratio`,
    `tokens_per_second` and `peak_bytes`.

    Args:
        plan: what is to be measured.
        say: takes a line for people.
        progress: told what runs.
    """
    rows: list[Row] = []
    heard: set[str] = set()

    def once(line: str) -> None:
        if line not in heard:
            heard.add(line)
            say(line)

    with Children() as children:
        for length in plan.lengths:
            found = list(cases(plan, length, once))
            kinds = {"attention": attention_run, **({"step": step_run} if plan.steps else {})}
            for kind, make in kinds.items():
                # A baseline is one layer's formula: no model is built on it.
                chosen = [pair for pair in found if kind == "attention" or pair[0].encoding not in BASELINES]
                runs = {f"{case.encoding} {case.impl}": make(case) for case, _ in chosen}
                progress(f"{kind}, length {length:,}")
                timings = interleave(
                    runs,
                    f"{PLAIN} auto",
                    seconds=plan.seconds / len(kinds),
                )
                del runs
                for case, impl in chosen:
                    peak = children.peak(case, kind) if plan.memory else None
                    rows += [
                        {
                            "encoding": "nope" if kind == "step" and case.encoding == PLAIN else case.encoding,
                            "options": dict(case.options),
                            "impl": impl,
                            "length": length,
                            "batch": case.batch,
                            "phase": phase,
                            "seconds": timing.seconds,
                            "low": timing.low,
                            "high": timing.high,
                            "ratio": timing.ratio,
                            "tokens_per_second": case.batch * length / timing.seconds,
                            # A peak belongs to the whole run, not to its forward part.
                            "peak_bytes": None if phase == "forward" else peak,
                        }
                        for phase, timing in timings[f"{case.encoding} {case.impl}"].items()
                        if not (kind == "step" and case.encoding == "nope" and case.impl == "auto")
                    ]
    return rows
