"""A run: what is derived, what is refused, and that yesterday's runs load."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from extrapo.config import ResolvedConfig, RunConfig
from extrapo.errors import UserError

DERIVED = ("heads", "dim", "batch_size", "micro_batch", "lr", "warmup", "val_every", "name")


def run_config(**settings: Any) -> RunConfig:
    return RunConfig(**settings)


runs = st.fixed_dictionaries(
    {"layers": st.integers(1, 64), "seq_len": st.integers(2, 10_000), "steps": st.integers(1, 100_000)},
    optional={
        "heads": st.integers(1, 32),
        "batch_size": st.integers(1, 8).map(lambda n: 12 * n),
        "warmup": st.integers(0, 100),
        "lr": st.floats(1e-6, 1.0),
        "name": st.just("mine"),
    },
)


@given(run=runs, devices=st.sampled_from([1, 2, 3, 4]))
@settings(max_examples=200)
def test_resolved_fills_everything_once(run: dict[str, Any], devices: int) -> None:
    resolved = run_config(**run).resolved(devices)
    assert all(getattr(resolved, field) is not None for field in DERIVED)
    for field, value in run.items():
        assert getattr(resolved, field) == value
    assert resolved.resolved(devices) == resolved
    assert resolved.batch_size == resolved.micro_batch * devices
    assert resolved.warmup <= resolved.steps or "warmup" in run
    assert run_config(**resolved.model_dump()).resolved(devices) == resolved


@pytest.mark.parametrize("layers", range(1, 65))
def test_layers_alone_make_a_model(layers: int) -> None:
    resolved = run_config(layers=layers).resolved()
    shape = resolved.gpt(vocab_size=257)
    assert shape.dim % shape.heads == 0
    assert shape.head_dim == 32
    assert shape.layers == layers
    assert 0 < resolved.lr <= 4e-3


@given(dim=st.integers(1, 4096))
def test_the_heads_of_a_width_divide_it(dim: int) -> None:
    assert dim % run_config(dim=dim).resolved().heads == 0


def test_about_the_papers_rate_at_their_width() -> None:
    assert run_config(dim=768, heads=12).resolved().lr == pytest.approx(6e-4, rel=0.25)
    assert run_config(dim=128).resolved().lr == pytest.approx(0.02 / 128**0.5, rel=1e-4)


def test_a_step_is_about_4096_tokens() -> None:
    assert run_config(seq_len=256).resolved().batch_size == 16
    assert run_config(seq_len=100_000).resolved(devices=2).batch_size == 2


def test_what_does_not_divide() -> None:
    with pytest.raises(UserError, match="a batch of 10 sequences does not divide among 4 devices"):
        run_config(batch_size=10).resolved(devices=4)
    with pytest.raises(UserError, match="`micro_batch` 3 does not divide a device's share of 4 sequences"):
        run_config(batch_size=8, micro_batch=3).resolved(devices=2)


@pytest.mark.parametrize(
    ("swap", "step", "lr", "warmup"),
    [
        ({}, 80, 0.3, 10),
        ({"swap_step": 95}, 95, 0.3, 5),
        ({"swap_lr": 0.1, "swap_warmup": 0}, 80, 0.1, 0),
        ({"swap_warmup": 70}, 80, 0.3, 20),
    ],
)
def test_after_the_swap_rate_and_warmup_are_those_before_it_as_far_as_steps_are_left(
    swap: dict[str, Any], step: int, lr: float, warmup: int
) -> None:
    run = run_config(steps=100, lr=0.3, swap_to="nope", **swap).resolved()
    assert (run.swap_step, run.swap_lr, run.swap_warmup) == (step, lr, warmup)
    assert run.resolved() == run


@pytest.mark.parametrize(
    ("swap", "message"),
    [
        ({"swap_step": 3}, "say which with `swap_to`"),
        ({"swap_to": "nope", "swap_step": 250}, "does not lie before the last of 250 steps"),
    ],
)
def test_a_swap_that_never_happens(swap: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_config(**swap).resolved()


@pytest.mark.parametrize("wrong", [{"lenghts": (1,)}, {"layers": 0}, {"dropout": 1.0}, {"logit_scale": 0}])
def test_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        run_config(**wrong)


@pytest.mark.parametrize("missing", DERIVED)
def test_nothing_is_left_open_in_a_resolved_run(missing: str) -> None:
    values = run_config().resolved().model_dump()
    with pytest.raises(ValidationError, match=missing):
        ResolvedConfig(**{**values, missing: None})
    del values[missing]
    with pytest.raises(ValidationError, match=missing):
        ResolvedConfig(**values)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        run_config().layers = 3  # type: ignore[misc]


def test_the_shape_of_the_model_is_that_of_the_run() -> None:
    run = run_config(
        encoding="rope+cable",
        encoding_options={"rope": {"base": 5.0}},
        kernel="log",
        mlp="swiglu",
        seq_len=77,
    )
    shape = run.resolved().gpt(vocab_size=300)
    assert (shape.vocab_size, shape.train_length, shape.kernel, shape.mlp) == (300, 77, "log", "swiglu")
    assert shape.encoding_options == {"rope": {"base": 5.0}}


#: As a run was recorded before settings had groups.
RECORDED = """
encoding: rope+k-cable
encoding_options: {rope: {base: 500000.0}}
kernel: null
share_encoding: null
swap_to: nope
swap_options: {}
swap_step: 200
swap_lr: null
layers: 6
heads: 4
kv_heads: null
dim: 128
norm: layernorm
mlp: gelu
tied: true
bias: true
dropout: 0.0
logit_scale: null
data: stdlib
tokenizer: bpe
vocab_size: 4096
seq_len: 256
steps: 250
batch_size: 16
micro_batch: 16
lr: 0.0017678
warmup: 10
weight_decay: 0.1
clip: 1.0
seed: 0
val_every: 41
val_tokens: 8192
log_every: 10
lengths: [128, 256]
eval_tokens: 32768
protocol: disjoint
heatmaps: 3
devices: auto
accelerator: auto
nodes: 1
strategy: auto
precision: auto
compile: null
impl: auto
root: runs
tracking_uri: null
experiment: extrapo
name: rope+k-cable-to-nope-6l-s0
"""


def test_a_run_recorded_before_still_loads() -> None:
    recorded = yaml.safe_load(RECORDED)
    now = run_config(**recorded).resolved().model_dump(mode="json")
    # What is written out today was derived in training then.
    assert {key: now[key] for key in recorded} == {**recorded, "swap_lr": recorded["lr"]}
    assert [key for key in now if key in recorded] == list(recorded)
