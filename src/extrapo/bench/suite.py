"""The suite: encodings times impls times lengths, attention and training step, as rows of a table."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from extrapo import encodings
from extrapo.attention import backend
from extrapo.bench.contenders import KINDS, PLAIN, TODAY, Case, num_parameters, served
from extrapo.bench.machine import Load
from extrapo.bench.memory import Children
from extrapo.bench.timing import interleave
from extrapo.bench.work import flops, utilisation
from extrapo.errors import UserError

DEFAULTS = ("nope", "rope", "alibi", "cable", "cable-weighted", "fox", "k-cable", "adaptive", "kerple-log")

#: Options under which an encoding runs here; said in a line.
OPTIONS: dict[str, dict[str, Any]] = {"adaptive": {"alpha_mode": "const"}}

#: Seconds of rounds for one kind of run at one length, and for all there is; the least rounds are taken anyhow.
KIND, WHOLE = 20.0, 120.0

Row = dict[str, Any]


@dataclass(frozen=True)
class Suite:
    """What is to be measured.

    Args:
        names: encodings.
        impls: compute paths, `auto` for the one that serves.
        lengths: T.
        tokens: tokens of a batch; B = tokens / T, at least 1.
        heads, head_dim: of a layer's attention.
        model: of a training step and of decoding, a name of contenders.MODELS.
        dtype: of q, k, v, and of a step's autocast.
        device: where it runs.
        steps: time training steps.
        decode: contexts after which decoding is timed, one text at a time.
        baselines: time the formulations of today.
        memory: measure peak memory.
        seconds: for the timing of one length, attention and steps together; None for KIND each, but no more than leaves
            the whole run at WHOLE.
    """

    names: tuple[str, ...] = DEFAULTS
    impls: tuple[str, ...] = ("auto",)
    lengths: tuple[int, ...] = (512, 2048)
    tokens: int = 2048
    heads: int = 8
    head_dim: int = 64
    model: str = "small"
    dtype: str = "float32"
    device: str = "cpu"
    steps: bool = True
    decode: tuple[int, ...] = ()
    baselines: bool = True
    memory: bool = True
    seconds: float | None = None


def check_memory(suite: Suite) -> None:
    """Whether this machine holds q, k, v and their gradients at the longest length, in the plainest way to attend.

    Raises:
        UserError: it does not.
    """
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for length in (*suite.lengths, *suite.decode):
        needed = 8 * 4 * max(length, suite.tokens) * suite.heads * suite.head_dim
        if suite.device == "cpu" and needed > here:
            raise UserError(
                f"`lengths` {length:,}: queries, keys and values take {needed / 2**30:,.0f} GiB, "
                f"more than the {here / 2**30:,.0f} GiB here; ask for shorter ones"
            )


def cases(
    suite: Suite, length: int, batch: int, say: Callable[[str], None], kind: str = "attention"
) -> Iterator[tuple[Case, str]]:
    """The cases of one length that can run, each with the path that serves; a line for those that cannot."""

    def case(name: str, impl: str = "auto") -> Case:
        return Case(
            name,
            impl,
            length,
            batch,
            suite.heads,
            suite.head_dim,
            suite.dtype,
            suite.device,
            suite.model,
            OPTIONS.get(name, {}),
        )

    yield case(PLAIN), "-"
    registered = set(encodings.names())
    for name in suite.names:
        if suite.names is DEFAULTS and name not in registered:
            say(f"{name}: skipped, not in this version")
            continue
        if name in OPTIONS:
            say(f"{name}: with {', '.join(f'{key} = {value}' for key, value in OPTIONS[name].items())}")
        for impl in suite.impls:
            one = case(name, impl)
            try:
                yield one, served(one, kind)
            except UserError as cause:
                say(f"{name}: skipped, {cause}")
    if suite.baselines:
        yield from ((case(name), "-") for name in TODAY[kind])


def run(
    suite: Suite,
    say: Callable[[str], None],
    progress: Callable[[str], None] = lambda name: None,
    load: Load | None = None,
) -> list[Row]:
    """Measure; rows of `encoding`, `options`, `asked`, `impl`, `length`, `batch`, `phase`, what a Timing has,
    `tokens_per_second`, `flops_per_second`, `utilisation` and `peak_bytes`. `impl` served where `asked` was asked for,
    `auto` or a name.

    Args:
        suite: what is to be measured.
        say: takes a line for people.
        progress: told what runs.
        load: watches what others do meanwhile.
    """
    load = load or Load()
    rows: list[Row] = []
    heard: set[str] = set()

    def once(line: str) -> None:
        if line not in heard:
            heard.add(line)
            say(line)

    kinds = ["attention", *(["step"] if suite.steps else [])]
    parts = [(kind, length) for length in suite.lengths for kind in kinds]
    parts += [("decode", length) for length in suite.decode]
    began = time.perf_counter()
    for n, (kind, length) in enumerate(parts):

        def seconds(kind: str = kind, rest: int = len(parts) - n) -> float:
            if suite.seconds is not None:
                return suite.seconds / (1 if kind == "decode" else len(kinds))
            return min(KIND, (began + WHOLE - time.perf_counter()) / rest)

        progress(f"{kind}, context {length:,}" if kind == "decode" else f"{kind}, length {length:,}")
        batch = 1 if kind == "decode" else max(1, suite.tokens // length)
        rows += measured(suite, kind, list(cases(suite, length, batch, once, kind)), seconds, load)
    return rows


def measured(
    suite: Suite, kind: str, pairs: Sequence[tuple[Case, str]], seconds: Callable[[], float], load: Load
) -> Iterator[Row]:
    """The rows of one kind of run at one length; `seconds` says for how long, once all is ready."""
    # The reference of models is `nope` itself.
    chosen = [pair for pair in pairs if kind == "attention" or (pair[0].encoding, pair[0].impl) != ("nope", "auto")]
    peaks: list[int | None] = [None] * len(chosen)
    if suite.memory and kind == "attention":
        # First: what has to be compiled is so there, two at a time and before all else, and found by this process.
        order = sorted(range(len(chosen)), key=lambda n: not compiles(chosen[n][1]))
        for n, peak in zip(order, Children().peaks([chosen[n][0] for n in order], kind), strict=True):
            peaks[n] = peak
    runs = {f"{case.encoding} {case.impl}": KINDS[kind](case) for case, _ in chosen}
    # A step is long, steady, and warm.
    least, warm = (2, 0) if kind == "step" else (3, 1)
    steady = {f"{name} auto" for name in TODAY["attention"]}
    with load.watching():
        timings = interleave(runs, f"{PLAIN} auto", seconds=seconds(), least=least, warm=warm, steady=steady)
    del runs
    for (case, impl), peak in zip(chosen, peaks, strict=True):
        parameters = num_parameters(case, kind)
        for phase, timing in timings[f"{case.encoding} {case.impl}"].items():
            done = flops(case, phase, parameters) / timing.seconds
            yield {
                "encoding": case.encoding if kind == "attention" or case.encoding != PLAIN else "nope",
                "options": dict(case.options),
                "asked": "-" if impl == "-" else case.impl,
                "impl": impl,
                "length": case.length,
                "batch": case.batch,
                "phase": phase,
                **asdict(timing),
                "tokens_per_second": case.batch * (1 if kind == "decode" else case.length) / timing.seconds,
                "flops_per_second": done,
                "utilisation": utilisation(done, case),
                # A peak belongs to the whole run, not to its forward part.
                "peak_bytes": None if phase == "forward" else peak,
            }


def compiles(impl: str) -> bool:
    """Whether a compute path, `-` for none of ours, has something to compile."""
    return impl != "-" and backend(impl).compiles
