"""What is settled before a run: processes, lengths, and the mistakes that are told at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from small_runs import change

from extrapo.config import RunConfig
from extrapo.errors import UserError
from extrapo.run.fit import fit
from extrapo.run.setup import (
    NUMBERS,
    World,
    accumulation,
    by_layer,
    check_launch,
    check_left_over,
    counted,
    process_rank,
    run_lengths,
)

ELASTIC = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}


@pytest.mark.parametrize(
    ("environment", "nodes", "devices", "cause"),
    [
        ({}, 2, 4, r"`nodes=2`: .* by torchrun \(--nnodes 2 --nproc-per-node 4\) or by srun"),
        (ELASTIC, 1, 4, "started 8 processes, 4 of them here: `nodes=2` and `devices=4` are expected"),
        (ELASTIC, 4, 2, "not `nodes=4` and `devices=2`"),
        (ELASTIC, 2, 4, None),
        ({"SLURM_NTASKS": "8"}, 2, 4, None),
        ({"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train"}, 1, 2, "2 processes, and srun has started 1: .* --ntasks 2"),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "7"}, 1, 2, "and srun has started none"),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}, 1, 2, None),
        ({"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "bash", "SLURM_JOB_ID": "7"}, 1, 2, None),
        ({"NODE_RANK": "1"}, 2, 4, None),
        ({}, 1, 4, None),
    ],
)
def test_who_starts_the_machines(
    environment: dict[str, str], nodes: int, devices: int, cause: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_") or name in {*ELASTIC, "NODE_RANK"}]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if cause is None:
        check_launch(nodes, devices)
        return
    with pytest.raises(UserError, match=cause):
        check_launch(nodes, devices)


def test_nobody_waits_for_a_machine_that_nobody_starts(small: RunConfig) -> None:
    values: dict[str, Any] = {"nodes": 2, "strategy": "ddp"}
    with pytest.raises(UserError, match="to be started on every machine"):
        fit(small.model_copy(update=values))
    assert not Path(small.root).exists()


def test_the_rank_is_what_the_launcher_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    assert process_rank() == 0
    monkeypatch.setenv("SLURM_PROCID", "3")
    assert process_rank() == 3
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert process_rank() == 1
    monkeypatch.setenv("NODE_RANK", "2")
    assert process_rank(4) == 9
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("RANK", "5")
    assert process_rank() == 5


@pytest.mark.parametrize("name", ["RANK", "SLURM_PROCID"])
def test_a_number_that_is_left_over_is_told(name: str, small: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("RANK", "SLURM_PROCID", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID", "LOCAL_RANK"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "1")
    with pytest.raises(UserError, match=f"^{name}=1 is left over in the environment") as told:
        fit(small)
    assert "\n" not in str(told.value)
    assert not Path(small.root).exists()


@pytest.mark.parametrize("name", ["LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS"])
@pytest.mark.parametrize("value", ["", "x", "-1"])
def test_what_should_be_a_number_is_told(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in NUMBERS:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"^{name}='{value}' in the environment is no number"):
        check_left_over(1, 1)


@pytest.mark.parametrize(
    ("environment", "devices", "nodes", "is_wrong"),
    [
        ({"LOCAL_RANK": "1"}, 1, 1, True),
        ({"LOCAL_RANK": "0"}, 1, 1, False),
        ({"LOCAL_RANK": "0"}, 2, 1, True),
        ({"LOCAL_RANK": "1", "MASTER_PORT": "9"}, 2, 1, False),
        ({"LOCAL_RANK": "2", "MASTER_PORT": "9"}, 2, 2, True),
        ({"LOCAL_RANK": "1", "SLURM_NTASKS": "2"}, 1, 2, False),
    ],
)
def test_nobody_waits_for_processes_that_nobody_has_started(
    environment: dict[str, str], devices: int, nodes: int, is_wrong: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*NUMBERS, "TORCHELASTIC_RUN_ID", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if not is_wrong:
        check_left_over(devices, nodes)
        return
    with pytest.raises(UserError, match=r"LOCAL_RANK=\d is left over"):
        check_left_over(devices, nodes)


def test_torchruns_name_alone_is_left_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NUMBERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(UserError, match="torchrun would have set LOCAL_RANK"):
        check_left_over(1, 1)


def test_a_world_shares_a_step(small: RunConfig) -> None:
    world = World("cpu", devices=2, nodes=2, rank=3)
    assert (world.size, world.is_rank_zero) == (4, False)
    config = small.model_copy(update={"batch_size": 16, "micro_batch": 2}).resolved(world.size)
    assert accumulation(config, world) == 2


def test_which_layer_has_which_encoding_is_told_where_they_differ(small: RunConfig) -> None:
    one = change(small, encoding="alibi", layers=3, kernel=None).resolved()
    assert by_layer(one) == ""
    mixed = change(small, encoding="rope, alibi", layers=3, kernel=None).resolved()
    assert by_layer(mixed) == "layers, from 0: rope in 0, 2; alibi in 1\n"
    assert (counted(1, "layer"), counted(2, "layer")) == ("1 layer", "2 layers")


def test_default_lengths_are_those_that_the_text_allows(small: RunConfig) -> None:
    lines: list[str] = []
    assert run_lengths(small, 32, 200, lines.append) == [16, 32, 64, 128]
    assert "200 tokens" in lines[0]
    with pytest.raises(UserError, match="shorter than one window of 256"):
        run_lengths(small.model_copy(update={"lengths": (256,)}), 32, 200, lines.append)
    within = small.model_copy(update={"by_document": True})
    assert run_lengths(within, 32, 100, lines.append) == [16, 32, 64]
    assert lines[-1].startswith("the longest validation document has 100 tokens")
    with pytest.raises(
        UserError, match="the longest validation document has 100 tokens, shorter than one window of 128"
    ):
        run_lengths(within.model_copy(update={"lengths": (64, 128)}), 32, 100, lines.append)
