"""Fully sharded data parallelism (FSDP2): each rank keeps a share of every weight; a block is whole while it works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from extrapo.gpt import GPT


def shard(gpt: GPT, mesh: DeviceMesh) -> None:
    """Shard a model in place over a mesh, block by block; a model that is sharded stays as it is."""
    if isinstance(gpt, FSDPModule):
        return
    for block in gpt.blocks:
        fully_shard(block, mesh=mesh)
    # The loss reads the output layer after `hidden`: what is around the blocks stays whole until the backward pass.
    fully_shard(gpt, mesh=mesh, reshard_after_forward=False)
    for method in ("hidden", "biases", "choices"):
        register_fsdp_forward_method(gpt, method)


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """All of a model whole on every rank while this runs, for looking into it from outside; all ranks take part."""
    sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in sharded:
        module.unshard()
    try:
        yield
    finally:
        for module in sharded:
            module.reshard()
