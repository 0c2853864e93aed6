"""One of two processes that train a model on halves of a batch, in Triton's interpreter: `rank.py FOLDER RANK MODE`.

It writes the gradients of the whole batch, as its model has them after one backward pass, to `MODE-RANK.pt`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from extrapo import GPT, GPTConfig
from extrapo.sharding import shard


def model() -> GPT:
    torch.manual_seed(0)
    shape = {"layers": 1, "heads": 2, "dim": 32, "vocab_size": 16}
    return GPT(GPTConfig(encoding="k-cable", impl="triton", **shape))


def batch() -> Tensor:
    return torch.randint(0, 16, (2, 18), generator=torch.Generator().manual_seed(1))


def loss(logits: Tensor) -> Tensor:
    return logits.square().mean()


def gradients(made: torch.nn.Module) -> dict[str, Tensor]:
    """By the model's own names, whole."""
    found = {}
    for name, parameter in made.named_parameters():
        if parameter.grad is not None:
            grad = parameter.grad.full_tensor() if isinstance(parameter.grad, DTensor) else parameter.grad
            found[name.removeprefix("module.")] = grad
    return found


def main(folder: Path, rank: int, mode: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/{mode}", rank=rank, world_size=2)
    made: torch.nn.Module = model()
    if mode == "ddp":
        made = DistributedDataParallel(made)
    else:
        assert isinstance(made, GPT)
        shard(made, init_device_mesh("cpu", (2,)))
    loss(made(batch()[rank : rank + 1])).backward()
    torch.save(gradients(made), folder / f"{mode}-{rank}.pt")
    dist.barrier()
    # The interpreter's own end waits now and then for threads of the process group.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
