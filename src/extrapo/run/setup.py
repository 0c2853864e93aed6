"""What is settled before a run starts: devices, lengths, and mistakes that can be told at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from lightning.pytorch.strategies import StrategyRegistry

from extrapo.config import CurveSettings, ResolvedConfig, RunConfig
from extrapo.cores import cores
from extrapo.data import Corpus, Tokenizer
from extrapo.encodings.per_layer import layer_names, pattern
from extrapo.errors import UserError, unknown
from extrapo.evaluation import Reading, default_lengths, protocol_of
from extrapo.gpt import GPT
from extrapo.words import counted

#: FSDP2 through Lightning's ModelParallelStrategy, on any device.
SHARDED = ("fsdp", "model-parallel")
#: Processes of a CPU's training on each core, more than which could only wait for one another.
PER_CORE = 8


@dataclass(frozen=True)
class World:
    """The processes that train one model.

    Args:
        accelerator: `cpu` or `gpu`.
        devices: processes on each machine.
        nodes: machines.
        rank: this process among all.
    """

    accelerator: str
    devices: int
    nodes: int
    rank: int

    @classmethod
    def of(cls, config: RunConfig) -> World:
        """The processes that a configuration asks for.

        Raises:
            UserError: they cannot be had, or others were started.
        """
        accelerator, devices = device_count(config)
        check_left_over(devices, config.nodes)
        check_launch(config.nodes, devices)
        return cls(accelerator, devices, config.nodes, process_rank(devices))

    @property
    def size(self) -> int:
        """How many there are."""
        return self.devices * self.nodes

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is the one that speaks and records for all."""
        return self.rank == 0


def accumulation(config: ResolvedConfig, world: World) -> int:
    """Micro-batches in an optimiser step."""
    return config.batch_size // (world.size * config.micro_batch)


def process_rank(devices: int = 1) -> int:
    """This process among all that train one model, as its launcher numbers them: torchrun, Lightning's own, or srun.

    Args:
        devices: processes on each machine.
    """
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        return int(environment["RANK"])
    if environment.get("LOCAL_RANK", "").isdecimal():
        # Before SLURM's number: in an allocation Lightning starts processes of its own, which inherit it.
        machine = environment.get("NODE_RANK", "") or environment.get("GROUP_RANK", "")
        return int(machine if machine.isdecimal() else 0) * devices + int(environment["LOCAL_RANK"])
    return int(environment["SLURM_PROCID"]) if environment.get("SLURM_PROCID", "").isdecimal() else 0


#: Names of jobs under which Lightning starts processes by itself.
INTERACTIVE = ("bash", "interactive")


#: What launchers leave in the environment, and Lightning takes for numbers.
NUMBERS = (
    *("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    *("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"),
)
#: What torchrun sets for every process that it starts.
ELASTIC = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"}


def check_left_over(devices: int, nodes: int) -> None:
    """Whether the environment numbers this process although nobody has started several.

    Args:
        devices: processes on each machine.
        nodes: machines.

    Raises:
        UserError: it does: a run that is not the first one records nothing, and may wait for ever for the others.
    """
    for name in NUMBERS:
        value = os.environ.get(name, "0")
        if not value.isdecimal():
            raise UserError(f"{name}={value!r} in the environment is no number: unset it")
    if "TORCHELASTIC_RUN_ID" in os.environ and (missing := ELASTIC - set(os.environ)):
        raise UserError(
            f"TORCHELASTIC_RUN_ID is left over in the environment, for torchrun would have set {min(missing)}: unset it"
        )
    local = os.environ.get("LOCAL_RANK")
    if local is not None and not {"TORCHELASTIC_RUN_ID", "SLURM_NTASKS"} & set(os.environ):
        # Who starts processes by hand says where they meet, as Lightning does of its own.
        is_met = devices * nodes == 1 or "MASTER_PORT" in os.environ
        if int(local) >= devices or not is_met:
            raise UserError(
                f"LOCAL_RANK={local} is left over in the environment, for nobody has started {devices * nodes} "
                f"processes that meet at MASTER_ADDR and MASTER_PORT: unset it"
            )
    if "RANK" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ:
        raise UserError(
            f"RANK={os.environ['RANK']} is left over in the environment, for torchrun has not started this: unset it"
        )
    if os.environ.get("SLURM_PROCID", "0") != "0" and "SLURM_NTASKS" not in os.environ:
        number = os.environ["SLURM_PROCID"]
        raise UserError(f"SLURM_PROCID={number} is left over in the environment, outside of a SLURM job: unset it")


def check_allocation(size: int) -> None:
    """Whether srun has started as many processes of a SLURM job as are asked for.

    Raises:
        UserError: it has not, and each would take its share of every batch for the whole.
    """
    if "SLURM_NTASKS" not in os.environ or os.environ.get("SLURM_JOB_NAME") in INTERACTIVE:
        return
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ["SLURM_NTASKS"])
    by_srun = "SLURM_JOB_ID" not in os.environ or "SLURM_STEP_ID" in os.environ
    if size > 1 and (tasks != size or not by_srun):
        started = f"srun has started {tasks}" if by_srun else "srun has started none"
        raise UserError(
            f"this SLURM job is to train with {size} processes, and {started}: start it by srun --ntasks {size}"
        )


def device_count(config: RunConfig) -> tuple[str, int]:
    """The accelerator and the number of processes on this machine that the run will have.

    Raises:
        UserError: this machine has no such accelerator, not as many, or none that computes in this precision.
    """
    gpus = torch.cuda.device_count()
    if config.accelerator == "gpu" and not gpus:
        raise UserError(
            "`accelerator='gpu'`: this machine has no CUDA device that torch can see; leave it out for the CPU"
        )
    accelerator = "gpu" if gpus and config.accelerator != "cpu" else "cpu"
    if accelerator == "cpu" and config.precision == "16-mixed":
        raise UserError("`precision='16-mixed'` needs a GPU: on a CPU give `precision='bf16-mixed'` or '32-true'")
    if config.devices == "auto":
        return accelerator, gpus if accelerator == "gpu" else 1
    if config.devices < 1:
        raise UserError(f"`devices` must be at least 1, not {config.devices}")
    if accelerator == "gpu" and config.devices > gpus:
        raise UserError(f"`devices={config.devices}`: this machine has {gpus} GPUs")
    if accelerator == "cpu" and config.devices > PER_CORE * cores():
        raise UserError(f"`devices={config.devices}`: that many processes are too many for {cores()} cores")
    return accelerator, config.devices


def check_launch(nodes: int, devices: int) -> None:
    """Whether somebody has started the processes of several machines, and as many as are asked for.

    Raises:
        UserError: nobody has, and Lightning would wait for ever; or torchrun has started others.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        if (world, local) != (nodes * devices, devices):
            raise UserError(
                f"torchrun has started {world} processes, {local} of them here: `nodes={world // local}` and "
                f"`devices={local}` are expected, not `nodes={nodes}` and `devices={devices}`"
            )
    elif nodes > 1 and not {"SLURM_NTASKS", "NODE_RANK"} & set(os.environ):
        raise UserError(
            f"`nodes={nodes}`: this command is to be started on every machine, by torchrun (--nnodes {nodes} "
            f"--nproc-per-node {devices}) or by srun"
        )
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        check_allocation(nodes * devices)


def check_names(config: RunConfig) -> None:
    """Whether there are such a protocol and such a strategy."""
    protocol_of(config)
    # A process of its own for each device is started as a command: what forks or spawns copies a model that cannot be.
    copies = ("spawn", "fork", "notebook")
    others = [name for name in StrategyRegistry.available_strategies() if not any(kind in name for kind in copies)]
    strategies = ["auto", *SHARDED, *others]
    if config.strategy not in strategies:
        raise unknown("strategy", config.strategy, strategies)


def check(config: ResolvedConfig) -> None:
    """Build what is cheap to build of a resolved run, so that a mistake ends it before any work is done."""
    check_names(config)
    config.gpt(config.vocab_size).check_memory()
    # One layer of the model, or all where they differ, so that mistakes in names and options come up before anything is
    # read or written.
    differ = any(len(pattern(name)) > 1 for name in (config.encoding, config.swap_to or config.encoding))
    layers = config.layers if differ else 1
    shape = config.gpt(config.vocab_size).model_copy(update={"layers": layers, "vocab_size": 8})
    # Two tokens: one alone is served by what decodes, whatever path was asked for.
    GPT(shape).choices(torch.zeros(1, min(2, config.seq_len), dtype=torch.int64))


def reading(config: CurveSettings, tokenizer: Tokenizer) -> Reading:
    """How a text that this tokenizer cut is read for a curve."""
    return Reading(tokenizer.separator, config.by_document, config.start_token)


def run_lengths(config: CurveSettings, train_length: int, available: int, say: Callable[[str], None]) -> list[int]:
    """The lengths of the curve. Those asked for must fit what a window reaches; of the default ones, those that do."""
    text = "the longest validation document" if config.by_document else "the validation text"
    if config.lengths is not None:
        lengths = sorted(set(config.lengths))
        if max(lengths) >= available:
            raise UserError(f"{text} has {available:,} tokens, shorter than one window of {max(lengths)}")
        protocol_of(config).cover(lengths, available, config.eval_tokens)
        return lengths
    every, chosen = default_lengths(train_length), protocol_of(config)
    lengths = [length for length in every if chosen.fits(length, available, config.eval_tokens)]
    if len(lengths) < len(every):
        say(f"{text} has {available:,} tokens: longer lengths are left out of the curve")
    chosen.cover(lengths or every[:1], available, config.eval_tokens)
    return lengths


def by_layer(config: ResolvedConfig) -> str:
    """Which layer has which encoding, as a line; nothing where all have the same."""
    names = layer_names(config.encoding, config.layers)
    if len(set(names)) == 1:
        return ""
    where = {one: ", ".join(str(layer) for layer, own in enumerate(names) if own == one) for one in names}
    return f"layers, from 0: {'; '.join(f'{one} in {at}' for one, at in where.items())}\n"


def describe(config: ResolvedConfig, gpt: GPT, corpus: Corpus, world: World) -> str:
    """What is about to happen, in a few lines."""
    where = counted(world.size, world.accelerator.upper())
    scheme = f"{config.encoding} with kernel {config.kernel}" if config.kernel else config.encoding
    tokens = config.batch_size * config.seq_len
    return (
        f"{scheme}: {counted(config.layers, 'layer')}, {counted(config.heads, 'head')}, "
        f"width {config.dim}, {gpt.num_parameters() / 1e6:.2f}M parameters, on {where}\n"
        f"{by_layer(config)}"
        f"{corpus.name}: {len(corpus.train):,} training and {len(corpus.validation):,} validation tokens "
        f"({corpus.tokenizer.name}, {corpus.tokenizer.vocab_size:,} ids), sha256 {corpus.sha256[:12]}\n"
        f"{config.steps} steps of {config.batch_size} x {config.seq_len} = {tokens:,} tokens, "
        f"peak learning rate {config.lr:g}, seed {config.seed}"
        + ("\nin a row, no document sees another" if config.pack else "")
        + (f"\n{config.swap_to} takes over after step {config.swap_step}" if config.swap_to else "")
    )
