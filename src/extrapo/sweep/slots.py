"""What each trial of a machine may use: devices of its own, and a fair share of the threads."""

from __future__ import annotations

import os
from dataclasses import dataclass

from extrapo.cores import cores
from extrapo.errors import UserError


@dataclass(frozen=True)
class Slot:
    """Room for one trial at a time.

    Args:
        number: which of the machine's.
        gpus: what CUDA_VISIBLE_DEVICES names; none for a trial on the CPU.
        threads: of all its ranks together.
    """

    number: int
    gpus: tuple[str, ...]
    threads: int

    @property
    def device(self) -> str:
        """The slot's devices in a word."""
        return f"gpu {','.join(self.gpus)}" if self.gpus else f"cpu x{self.threads}"

    def environment(self, ranks: int) -> dict[str, str]:
        """The variables that keep a trial of so many ranks within its slot."""
        threads = str(max(1, self.threads // ranks))
        return {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus), "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES would name them; CUDA itself is not started."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(index) for index in range(torch.cuda.device_count())]


def divide(workers: int | None, gpus_per_trial: int | None, gpus: list[str]) -> list[Slot]:
    """This machine, divided into slots.

    Args:
        workers: how many; None for one per GPU or group of GPUs, and one on a machine without.
        gpus_per_trial: devices of each; None for 1 where there are GPUs; 0 leaves them alone.
        gpus: what there is.

    Raises:
        UserError: more is asked for than there is.
    """
    each = (1 if gpus else 0) if gpus_per_trial is None else gpus_per_trial
    if each < 0:
        raise UserError(f"`gpus_per_trial` must be at least 0, not {each}")
    if workers is not None and workers < 1:
        raise UserError(f"`workers` must be at least 1, not {workers}")
    count = workers or (max(1, len(gpus) // each) if each else 1)
    if count * each > len(gpus):
        raise UserError(
            f"{count} workers with {each} GPUs each need {count * each}, this machine has {len(gpus)}: "
            "fewer `workers`, or fewer `gpus_per_trial` (0 for the CPU)"
        )
    threads_text = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(threads_text) if threads_text.isdecimal() and int(threads_text) else max(1, cores() // count)
    return [Slot(n, tuple(gpus[n * each : (n + 1) * each]), threads) for n in range(count)]
