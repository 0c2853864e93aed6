"""Batches of windows in an order that depends on (seed, epoch) alone, with a cursor that resumes exactly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from extrapo.data.order import Mixed, Order, Stream
from extrapo.data.tokens import Mixture, Tokens
from extrapo.errors import UserError

if TYPE_CHECKING:
    from extrapo.data.ahead import Batch


class BatchLoader:
    """The windows of a token stream, shuffled anew in every epoch, in batches for one rank.

    A batch is (B, T + 1) int64 tokens; with a `separator`, the pair of these and of (B, T + 1) int64 documents: which
    document of its row each token belongs to, by counting the separators.

    An epoch cuts the stream, from a random offset on, into blocks of `seq_len` + 1 tokens (inputs and,
    shifted by one, targets; neighbours share one token), and walks a random permutation of the blocks. Offset
    and permutation are functions of (seed, epoch); of a mixture each text has its own, see `Mixed`.

    A global batch is `batch_size` * `world_size` consecutive entries of the permutation; a rank takes its slice. What
    does not fill a global batch is left out.

    The cursor (epoch, batch) counts the global batches that were delivered: it is the same on every rank, so
    a checkpoint of rank 0 resumes them all, also with another `world_size` if the global batch is the same.
    `lightning.Trainer` saves and restores it, so that it resumes with the very next batch. With
    accumulation, say so: Lightning 2.6 groups the batches after an epoch's end otherwise if a step would be
    left incomplete there. Bound a run by steps or whole epochs, not by `limit_train_batches`, whose epochs
    are not the loader's.

    Args:
        tokens: (N,) token ids, in memory or mapped from files, or a mixture of such.
        seq_len: tokens of a window that the model sees (T).
        batch_size: windows per batch on this rank (B).
        seed: non-negative; the order of the windows.
        rank: this process among `world_size`.
        world_size: processes that share the global batch.
        accumulate: global batches in an optimiser step; an epoch holds whole steps.
        separator: the token that begins every document, where batches are to tell documents apart.
        to_gpu: give batches on this process's GPU, the next of which is read and copied meanwhile (ignored without
            CUDA).

    Raises:
        UserError: the tokens do not fill one global batch, or an argument is out of its range.
    """

    def __init__(
        self,
        tokens: Tokens | Mixture,
        *,
        seq_len: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        separator: int | None = None,
        to_gpu: bool = False,
    ) -> None:
        if seq_len < 1 or batch_size < 1:
            raise UserError(f"seq_len ({seq_len}) and batch_size ({batch_size}) must be at least 1")
        if seed < 0:
            raise UserError(f"the seed must not be negative, and it is {seed}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is outside of a world of {world_size}")
        self._global_batch = batch_size * world_size
        step = self._global_batch * accumulate
        needed = step * seq_len + 1
        streams = tokens.streams if isinstance(tokens, Mixture) else (tokens,)
        for stream in streams:
            if len(streams) > 1 and len(stream) <= seq_len:
                raise UserError(
                    f"a text of the mixture has {len(stream):,} training tokens, too few for a window of {seq_len}"
                )
        blocks = sum((len(stream) - 1) // seq_len for stream in streams)
        if blocks < step:
            raise UserError(
                f"the training split has {len(tokens):,} tokens; one step needs {needed:,}: "
                f"{step} windows of {seq_len} tokens, and one more; "
                "take a shorter length, a smaller batch, or more text"
            )
        self._num_batches = blocks // step * accumulate
        self._order: Order = (
            Mixed(tokens.streams, tokens.weights, seq_len, self._num_batches * self._global_batch, seed)
            if isinstance(tokens, Mixture)
            else Stream(tokens, seq_len, self._num_batches * self._global_batch, (seed,))
        )
        self._seq_len = seq_len
        self._seed = seed
        self._mine = slice(rank * batch_size, (rank + 1) * batch_size)
        self._separator = separator
        self._to_gpu = to_gpu
        self._epoch = 0
        self._batch = 0

    def __len__(self) -> int:
        """Global batches in an epoch, the same in every epoch."""
        return self._num_batches

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches from the cursor to the end of its epoch; from there, the next."""
        if self._batch >= len(self):
            self._epoch, self._batch = self._epoch + 1, 0
        places = self._order.epoch(self._epoch)
        firsts = range(self._batch * self._global_batch, len(self) * self._global_batch, self._global_batch)
        batches = (self._gather(places[first : first + self._global_batch][self._mine]) for first in firsts)
        for batch in self._on_the_way(batches):
            # The cursor moves before the batch is handed out: a checkpoint written while the batch is in use,
            # or just after, must resume behind it; and what is only on its way is read again.
            self._batch += 1
            yield batch

    def _on_the_way(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches on the GPU, where they are to be and there is one."""
        import torch

        if not (self._to_gpu and torch.cuda.is_available()):
            return batches
        from extrapo.data.ahead import one_ahead

        return one_ahead(batches, torch.device("cuda", torch.cuda.current_device()))

    @property
    def sampler(self) -> BatchLoader:
        """Itself: Lightning announces an epoch to `loader.sampler.set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Start at `epoch`, if nothing was delivered or restored yet; a cursor that moved knows better.

        Needed because Lightning restores no loader state from a checkpoint that lies between two epochs.
        Not obeyed later, because Lightning's own count runs ahead after some resumptions.
        """
        if self._epoch == 0 and self._batch == 0:
            self._epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """The cursor, and what it is counted in."""
        return {
            "epoch": self._epoch,
            "batch": self._batch,
            "seed": self._seed,
            "seq_len": self._seq_len,
            "global_batch": self._global_batch,
            "tokens": self._order.fingerprint,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue behind the batch at which `state` was saved.

        Raises:
            UserError: the state counts other batches (another seed, length, global batch or text).
        """
        here = self.state_dict()
        for name in ("seed", "seq_len", "global_batch", "tokens"):
            if state[name] != here[name]:
                raise UserError(
                    f"the checkpoint's data has {name} = {state[name]} and this run's has {here[name]}; "
                    "resume with the settings of the checkpoint, or start a new run"
                )
        self._epoch, self._batch = state["epoch"], state["batch"]

    def _gather(self, places: np.ndarray) -> Batch:
        import torch

        rows = self._order.read(places)
        if self._separator is None:
            return torch.from_numpy(rows)
        return torch.from_numpy(rows), torch.from_numpy((rows == self._separator).cumsum(axis=1))
