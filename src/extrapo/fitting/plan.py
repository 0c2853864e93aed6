"""What is settled before a run starts: devices, lengths, the trainer, and mistakes that can be told at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch.strategies import StrategyRegistry
from torch import Tensor

from extrapo.config import RunConfig
from extrapo.data import Corpus
from extrapo.errors import UserError, unknown
from extrapo.evaluation import batch_windows, default_lengths, protocol
from extrapo.gpt import GPT

#: FSDP2 through Lightning's ModelParallelStrategy, on any device.
SHARDED = ("fsdp", "model-parallel")


class Windows:
    """The validation text in windows of T, the batches of one rank.

    Args:
        tokens: (N,) validation tokens.
        length: T.
        wanted: tokens to score at most.
        rank, ranks: this process among those that share the windows.
    """

    def __init__(self, tokens: np.ndarray[Any, Any], length: int, wanted: int, rank: int, ranks: int) -> None:
        windows = protocol("disjoint").cover([length], len(tokens), max(wanted, ranks * length))[length]
        if len(windows) < ranks:
            raise UserError(
                f"the validation text has {len(tokens):,} tokens: {len(windows)} windows of {length} "
                f"for {ranks} devices"
            )
        # Every rank has as many windows as the others: Lightning expects it.
        self.batches = batch_windows(tokens, windows[: len(windows) // ranks * ranks][rank::ranks])

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        return (batch.load() for batch in self.batches)


def process_rank() -> int:
    """This process among all that train one model: as torchrun, SLURM or Lightning's own launcher number them."""
    for variable in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if os.environ.get(variable, "").isdecimal():
            return int(os.environ[variable])
    return 0


def device_count(config: RunConfig) -> tuple[str, int]:
    """The accelerator and the number of processes on this machine that the run will have."""
    gpus = torch.cuda.device_count()
    if config.accelerator == "gpu" and not gpus:
        raise UserError(
            "--accelerator gpu: this machine has no CUDA device that torch can see; leave it out for the CPU"
        )
    accelerator = "gpu" if gpus and config.accelerator != "cpu" else "cpu"
    if config.devices == "auto":
        return accelerator, gpus if accelerator == "gpu" else 1
    if config.devices < 1:
        raise UserError(f"--devices must be at least 1, not {config.devices}")
    if accelerator == "gpu" and config.devices > gpus:
        raise UserError(f"--devices {config.devices}: this machine has {gpus} GPUs")
    return accelerator, config.devices


def check_launch(nodes: int, devices: int) -> None:
    """Whether somebody has started the processes of several machines, and as many as are asked for.

    Raises:
        UserError: nobody has, and Lightning would wait for ever; or torchrun has started others.
    """
    given = os.environ
    if "TORCHELASTIC_RUN_ID" in given:
        world, local = int(given["WORLD_SIZE"]), int(given["LOCAL_WORLD_SIZE"])
        if (world, local) != (nodes * devices, devices):
            raise UserError(
                f"torchrun has started {world} processes, {local} of them here: --num-nodes {world // local} "
                f"--devices {local} is expected, not --num-nodes {nodes} --devices {devices}"
            )
    elif nodes > 1 and not {"SLURM_NTASKS", "NODE_RANK"} & set(given):
        raise UserError(
            f"--num-nodes {nodes}: this command is to be started on every machine, by torchrun (--nnodes {nodes} "
            f"--nproc-per-node {devices}) or by srun"
        )


def check_names(config: RunConfig) -> None:
    """Whether there are such a protocol and such a strategy."""
    protocol(config.protocol)
    strategies = ["auto", *SHARDED, *StrategyRegistry.available_strategies()]
    if config.strategy not in strategies:
        raise unknown("strategy", config.strategy, strategies)


def check(config: RunConfig) -> None:
    """Build what is cheap to build of a resolved run, so that a mistake ends it before any work is done."""
    check_names(config)
    # One layer of the model, so that mistakes in names and options come up before anything is read or written.
    shape = config.gpt(config.vocab_size).model_copy(update={"layers": 1, "vocab_size": 8})
    GPT(shape).path(torch.zeros(1, 1, dtype=torch.int64))


def run_lengths(config: RunConfig, available: int, say: Callable[[str], None]) -> list[int]:
    """The lengths of the curve. Those asked for must fit the text; of the default ones, those that do."""
    if config.lengths is not None:
        lengths = sorted(set(config.lengths))
        protocol(config.protocol).cover(lengths, available, config.eval_tokens)
        return lengths
    every = default_lengths(config.seq_len)
    lengths = [length for length in every if length < available]
    if len(lengths) < len(every):
        say(f"the validation text has {available:,} tokens: lengths above that are left out of the curve")
    protocol(config.protocol).cover(lengths or every[:1], available, config.eval_tokens)
    return lengths


def describe(config: RunConfig, gpt: GPT, corpus: Corpus, accelerator: str, ranks: int) -> str:
    """What is about to happen, in a few lines."""
    where = f"{ranks} {accelerator.upper()}{'s' if ranks > 1 else ''}"
    scheme = f"{config.encoding} with kernel {config.kernel}" if config.kernel else config.encoding
    tokens = (config.batch_size or 0) * config.seq_len
    return (
        f"{scheme}: {config.layers} layers, {config.heads} heads, "
        f"width {config.dim}, {gpt.num_parameters() / 1e6:.2f}M parameters, on {where}\n"
        f"{corpus.name}: {len(corpus.train):,} training and {len(corpus.validation):,} validation tokens "
        f"({corpus.tokenizer.name}, {corpus.tokenizer.vocab_size:,} ids), sha256 {corpus.sha256[:12]}\n"
        f"{config.steps} steps of {config.batch_size} x {config.seq_len} = {tokens:,} tokens, "
        f"peak learning rate {config.lr:g}, seed {config.seed}"
        + (f"\n{config.swap_to} takes over after step {config.swap_step}" if config.swap_to else "")
    )
