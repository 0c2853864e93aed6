"""extrapo bench: time and memory of attention and of a training step, beside plain causal attention in the same run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token, convert

from extrapo.cli.flags import EVALUATION, HARDWARE, MODEL, Json, Written
from extrapo.config import Count, PositiveOrZero, Width
from extrapo.errors import UserError


def listed(kind: type, tokens: Sequence[Token]) -> Any:
    """`512,2048` is a list as well."""
    return convert(kind, [token.evolve(value=part.strip()) for token in tokens for part in token.value.split(",")])


def bench(
    *,
    encodings: Annotated[
        tuple[str, ...] | None,
        Parameter(help="Encodings, also joined by `+` [nine].", negative=(), converter=listed),
    ] = None,
    impls: Annotated[
        tuple[str, ...], Parameter(help="Compute paths: auto, or several by name.", negative=(), converter=listed)
    ] = ("auto",),
    lengths: Annotated[tuple[Count, ...], Parameter(help="Tokens of a text.", negative=(), converter=listed)] = (
        512,
        2048,
    ),
    tokens: Annotated[
        Count, Parameter(help="Tokens of a batch: the batch size is this over the length.", group=MODEL)
    ] = 2048,
    heads: Annotated[Width, Parameter(help="Heads of a layer's attention.", group=MODEL)] = 8,
    head_dim: Annotated[Width, Parameter(help="Width of a head.", group=MODEL)] = 64,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], Parameter(help="Of q, k, v.", group=HARDWARE)
    ] = "float32",
    device: Annotated[Literal["cpu", "cuda"], Parameter(help="Where.", group=HARDWARE)] = "cpu",
    steps: Annotated[bool, Parameter(help="Time whole training steps too.", group=EVALUATION)] = True,
    decode: Annotated[
        tuple[Count, ...],
        Parameter(
            help="Time decoding after so many tokens too, one text at a time.",
            negative=(),
            converter=listed,
            group=EVALUATION,
        ),
    ] = (),
    model: Annotated[
        Literal["nano", "small", "gpt2"],
        Parameter(
            help="Of steps and decoding: 6 layers of width 128 or 256, or the 12 of width 768 of GPT-2.",
            group=EVALUATION,
        ),
    ] = "small",
    baselines: Annotated[
        bool, Parameter(help="Time today's: K-Cable's bias as a matrix; nanoGPT's step.", group=EVALUATION)
    ] = True,
    memory: Annotated[
        bool, Parameter(help="Measure attention's peak memory, in child processes.", group=EVALUATION)
    ] = True,
    seconds: Annotated[
        PositiveOrZero | None,
        Parameter(
            help="Time for a length's rounds, at least three, two of a step [40, and two to three minutes in all].",
            group=EVALUATION,
        ),
    ] = None,
    output: Annotated[Written, Parameter(help="The picture.")] = Path("bench.png"),
    json: Json = False,
) -> int:
    """Time attention and training steps, in interleaved rounds, as ratios to causal attention without bias.

    A step's ratio is to the same model with `nope`, and so is that of decoding. Behind it is the interval, at 99%, of
    the median over the rounds; with fewer than eight, all of their range. Peak memory is what attention
    adds to its inputs. Operations are counted once, without what is computed again; `MFU` is their share of what
    the device could do, where that is known.
    """
    from extrapo.terminal import Output

    out = Output(json=json)
    out.waiting("loading PyTorch ...")
    import torch

    from extrapo import figures
    from extrapo.attention import check_impl
    from extrapo.bench import DEFAULTS, Load, Suite, check_memory, run, this_machine
    from extrapo.encodings import split

    for impl in impls:
        check_impl(impl)
    for name in encodings or ():
        one, colon, count = name.partition(":")
        if colon:
            raise UserError(f"--encodings: each is timed by itself, not in {count} layers: write {one}")
        split(name)
    figures.check_place(output)
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine has no CUDA device that torch can see")
    suite = Suite(
        names=encodings or DEFAULTS,
        impls=impls,
        lengths=lengths,
        tokens=tokens,
        heads=heads,
        head_dim=head_dim,
        dtype=dtype,
        device=device,
        steps=steps,
        decode=decode,
        model=model,
        baselines=baselines,
        memory=memory,
        seconds=seconds,
    )
    check_memory(suite)
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    here, load = this_machine(), Load()
    out.say(f"{here['processor']}, {here['cores']} cores, {here['vectors']}; load {load.before or 0:.1f}")
    out.say(f"torch {here['torch']}, {where}, {dtype}; attention: H = {heads}, d = {head_dim}")
    rows = run(suite, out.say, out.waiting, load)
    out.table([line(row) for row in rows])
    met = load.row()
    out.say(f"load {met['load_before'] or 0:.1f} before, {met['load_after'] or 0:.1f} after")
    if warning := load.warning():
        out.say(warning)
    figures.save(figures.bench_figure(rows, title=f"Beside causal attention without bias ({where}, {dtype})"), output)
    out.say(f"picture: {output}")
    out.document({"machine": here | met, "rows": rows})
    return 0


def line(row: dict[str, Any]) -> dict[str, str]:
    """A row for people."""
    peak = row["peak_bytes"]
    return {
        "phase": row["phase"],
        "length": f"{row['length']:,}",
        "batch": str(row["batch"]),
        "encoding": row["encoding"],
        "impl": f"auto: {row['impl']}" if row["asked"] == "auto" else row["impl"],
        "ms": f"{1e3 * row['seconds']:,.1f}",
        "quartiles": f"{1e3 * row['low']:,.1f} - {1e3 * row['high']:,.1f}",
        "ratio": f"{row['ratio']:.2f}",
        "99%": f"{row['ratio_low']:.2f} - {row['ratio_high']:.2f}",
        "rounds": str(row["rounds"]),
        "tokens/s": f"{row['tokens_per_second']:,.0f}",
        "GFLOP/s": f"{row['flops_per_second'] / 1e9:,.0f}",
        "MFU": "-" if row["utilisation"] is None else f"{row['utilisation']:.0%}",
        "peak MiB": "-" if peak is None else f"{peak / 2**20:,.0f}",
    }
