"""The loader: every window once, ranks that share a batch, and resumption that loses and repeats none."""

from __future__ import annotations

import logging
import warnings
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint

from extrapo.data import BatchLoader
from extrapo.data.ahead import one_ahead
from extrapo.errors import UserError

SEQ_LEN = 8
BATCH = 4
TOKENS = np.arange(163, dtype=np.uint16)  # five batches and some tokens more


def loader(**changes: Any) -> BatchLoader:
    return BatchLoader(TOKENS, **{"seq_len": SEQ_LEN, "batch_size": BATCH, "seed": 3, **changes})


def firsts(batches: Any) -> list[list[int]]:
    """The first token of every window: it identifies the window."""
    return [batch[:, 0].tolist() for batch in batches]


def epochs(walker: BatchLoader, count: int) -> list[list[int]]:
    return [first for _ in range(count) for first in firsts(walker)]


@given(
    st.integers(2, 600),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 9),
    st.integers(0, 4),
)
def test_an_epoch_holds_every_window_once(
    count: int, seq_len: int, batch_size: int, world_size: int, seed: int, epoch: int
) -> None:
    needed = seq_len * batch_size * world_size + 1
    ranks = []
    for rank in range(world_size):
        arguments: dict[str, Any] = {"seq_len": seq_len, "batch_size": batch_size, "seed": seed}
        if count < needed:
            with pytest.raises(UserError, match=f"has {count:,} tokens; one step needs {needed:,}"):
                BatchLoader(np.arange(count), rank=rank, world_size=world_size, **arguments)
            return
        walker = BatchLoader(np.arange(count), rank=rank, world_size=world_size, **arguments)
        walker.set_epoch(epoch)
        ranks.append(list(walker))
    assert {len(batches) for batches in ranks} == {len(walker)} == {(count - 1) // (needed - 1)}
    for batches in ranks:
        for batch in batches:
            assert batch.dtype == torch.int64
            assert batch.shape == (batch_size, seq_len + 1)
            assert bool((batch.diff(dim=1) == 1).all())
    starts = torch.cat([batch[:, 0] for batches in ranks for batch in batches])
    assert len(set(starts.tolist())) == len(starts)
    assert len(set((starts % seq_len).tolist())) == 1


def test_order_is_a_function_of_seed_and_epoch() -> None:
    assert epochs(loader(), 2) == epochs(loader(), 2)
    first, second = firsts(walker := loader()), firsts(walker)
    assert first != second
    assert firsts(loader(seed=4)) != first


def test_every_offset_occurs() -> None:
    walker = BatchLoader(np.arange(200), seq_len=SEQ_LEN, batch_size=BATCH, seed=0)
    assert {epoch[0] % SEQ_LEN for epoch in epochs(walker, 600)} == set(range(SEQ_LEN))


def test_ranks_share_the_global_batch() -> None:
    whole = epochs(loader(), 2)
    parts = [epochs(loader(batch_size=2, rank=rank, world_size=2), 2) for rank in (0, 1)]
    assert [left + right for left, right in zip(*parts, strict=True)] == whole


@given(st.integers(0, 14))
def test_the_cursor_resumes_anywhere_and_on_any_rank(stop: int) -> None:
    whole = epochs(loader(), 4)
    walker = loader(batch_size=2, rank=0, world_size=2)
    for _ in range(stop // len(walker)):
        list(walker)
    list(islice(walker, stop % len(walker)))
    saved = walker.state_dict()
    resumed = loader()
    resumed.load_state_dict(saved)
    assert epochs(resumed, 3)[: 15 - stop] == whole[stop:15]
    other_rank = loader(batch_size=2, rank=1, world_size=2)
    other_rank.load_state_dict(saved)
    assert epochs(other_rank, 3)[: 15 - stop] == [batch[2:] for batch in whole[stop:15]]


@pytest.mark.parametrize(("name", "value"), [("seed", 4), ("seq_len", 4), ("batch_size", 2)])
def test_a_state_of_other_batches_is_refused(name: str, value: int) -> None:
    walker = loader(**{name: value})
    with pytest.raises(UserError, match="resume with the settings of the checkpoint"):
        walker.load_state_dict(loader().state_dict())


@pytest.mark.parametrize("changes", [{"seq_len": 0}, {"batch_size": 0}, {"seed": -1}])
def test_arguments_out_of_range(changes: dict[str, int]) -> None:
    with pytest.raises(UserError, match="must"):
        loader(**changes)
    with pytest.raises(ValueError, match="rank 2"):
        loader(rank=2, world_size=2)


def test_documents_are_counted_by_their_separators() -> None:
    tokens = np.tile(np.array([7, 1, 2, 7, 3], dtype=np.uint16), 40)
    batches = BatchLoader(tokens, seq_len=SEQ_LEN, batch_size=BATCH, seed=3, separator=7)
    plain = BatchLoader(tokens, seq_len=SEQ_LEN, batch_size=BATCH, seed=3)
    for (rows, documents), same in zip(batches, plain, strict=True):
        assert torch.equal(rows, same)
        assert torch.equal(documents, (rows == 7).cumsum(dim=1))
    assert batches.state_dict() == plain.state_dict()


def test_batches_for_a_gpu_need_none() -> None:
    batch = next(iter(loader(to_gpu=True)))
    assert batch.is_cuda == torch.cuda.is_available()


class Witness(lightning.LightningModule):
    """Remembers, for each batch, the optimiser step it was seen at and the windows that it held."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, list[int]]] = []
        self._fail_at = fail_at

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        if self.global_step == self._fail_at:
            raise RuntimeError("the power went out")
        self.seen.append((self.global_step, batch[:, 0].tolist()))
        return (self.weight * batch.float().mean()).sum()

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        return None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-6)


def fit(
    folder: Path, checkpoint: Path | None = None, fail_at: int | None = None, **options: Any
) -> list[tuple[int, list[int]]]:
    """What a fresh trainer and loader see, with a checkpoint after every optimiser step."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    model = Witness(fail_at)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            callbacks=[ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=1)],
            **options,
        )
        validation = [torch.zeros(1)] if "val_check_interval" in options else None
        dies: AbstractContextManager[Any] = (
            nullcontext() if fail_at is None else pytest.raises(RuntimeError, match="the power went out")
        )
        with dies:
            trainer.fit(model, loader(), validation, ckpt_path=checkpoint, weights_only=True)
            trainer.save_checkpoint(folder / "end.ckpt")
    return model.seen


STEPS: dict[str, Any] = {"max_steps": 15, "max_epochs": -1}


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 3},
        STEPS,
        {**STEPS, "val_check_interval": 2, "check_val_every_n_epoch": None},
        {"max_epochs": 3, "accumulate_grad_batches": 2},
        {"max_steps": 9, "max_epochs": -1, "accumulate_grad_batches": 2},
    ],
    ids=["epochs", "steps", "validation", "accumulate-epochs", "accumulate-steps"],
)
def test_a_trainer_resumes_from_every_step(tmp_path: Path, options: dict[str, Any]) -> None:
    whole = fit(tmp_path / "whole", **options)
    checkpoints = sorted((tmp_path / "whole").glob("step=*.ckpt"))
    assert len(checkpoints) == whole[-1][0] + 1
    for checkpoint in checkpoints:
        step = int(checkpoint.stem.split("=")[1])
        resumed = fit(tmp_path / "resumed", checkpoint, **options)
        assert resumed == [batch for batch in whole if batch[0] >= step], checkpoint.stem


@pytest.mark.parametrize("fail_at", [2, 5, 7])
def test_a_run_that_died_continues(tmp_path: Path, fail_at: int) -> None:
    whole = fit(tmp_path / "whole", **STEPS)
    before = fit(tmp_path / "died", fail_at=fail_at, **STEPS)
    after = fit(tmp_path / "died", tmp_path / "died" / f"step={fail_at}.ckpt", **STEPS)
    assert before + after == whole


def test_a_run_that_died_with_a_batch_on_its_way_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit(tmp_path / "whole", **STEPS)
    monkeypatch.setattr(BatchLoader, "_on_the_way", lambda self, batches: one_ahead(batches, torch.device("cpu")))
    before = fit(tmp_path / "died", fail_at=7, **STEPS)
    after = fit(tmp_path / "died", tmp_path / "died" / "step=7.ckpt", **STEPS)
    assert before + after == whole


@pytest.mark.parametrize("name", ["step={}", "end"])
@pytest.mark.parametrize("first", [3, 5, 10])
def test_more_steps_go_on_from_the_last(tmp_path: Path, first: int, name: str) -> None:
    whole = fit(tmp_path / "whole", **STEPS)
    before = fit(tmp_path / "short", max_steps=first, max_epochs=-1)
    after = fit(tmp_path / "long", tmp_path / "short" / f"{name.format(first)}.ckpt", **STEPS)
    assert before + after == whole


@pytest.mark.parametrize("first", [1, 2])
def test_more_epochs_go_on_from_the_end(tmp_path: Path, first: int) -> None:
    whole = fit(tmp_path / "whole", max_epochs=3)
    before = fit(tmp_path / "short", max_epochs=first)
    after = fit(tmp_path / "long", tmp_path / "short" / "end.ckpt", max_epochs=3)
    assert before + after == whole


def test_a_trainer_walks_the_loaders_own_epochs(tmp_path: Path) -> None:
    assert [windows for _, windows in fit(tmp_path, max_epochs=3)] == epochs(loader(), 3)
