"""The settings of a run: what is derived, what is refused, and that none of it needs torch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from extrapo.config import PRESETS, GPTConfig, RunConfig
from extrapo.errors import UserError

DERIVED = ("heads", "dim", "batch_size", "micro_batch", "lr", "warmup", "val_every", "name")


def run_config(**settings: Any) -> RunConfig:
    return RunConfig(**settings)


runs = st.fixed_dictionaries(
    {"layers": st.integers(1, 64), "seq_len": st.integers(1, 10_000), "steps": st.integers(1, 100_000)},
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
    assert resolved.batch_size == resolved.micro_batch * devices  # type: ignore[operator]
    assert resolved.warmup <= resolved.steps or "warmup" in run  # type: ignore[operator]
    assert run_config(**resolved.model_dump()) == resolved


@pytest.mark.parametrize("layers", range(1, 65))
def test_layers_alone_make_a_model(layers: int) -> None:
    resolved = run_config(layers=layers).resolved()
    shape = resolved.gpt(vocab_size=257)
    assert shape.dim % shape.heads == 0
    assert shape.head_dim == 32
    assert shape.layers == layers
    assert 0 < resolved.lr <= 4e-3  # type: ignore[operator]


@given(dim=st.integers(1, 4096))
def test_the_heads_of_a_width_divide_it(dim: int) -> None:
    heads = run_config(dim=dim).resolved().heads
    assert heads is not None
    assert dim % heads == 0


def test_about_the_papers_rate_at_their_width() -> None:
    assert run_config(dim=768, heads=12).resolved().lr == pytest.approx(6e-4, rel=0.25)
    assert run_config(dim=128).resolved().lr == pytest.approx(0.02 / 128**0.5, rel=1e-4)


def test_a_step_is_about_4096_tokens() -> None:
    assert run_config(seq_len=256).resolved().batch_size == 16
    assert run_config(seq_len=100_000).resolved(devices=2).batch_size == 2


def test_what_does_not_divide() -> None:
    with pytest.raises(UserError, match="a batch of 10 sequences does not divide among 4 devices"):
        run_config(batch_size=10).resolved(devices=4)
    with pytest.raises(UserError, match="micro_batch 3 does not divide a device's share of 4 sequences"):
        run_config(batch_size=8, micro_batch=3).resolved(devices=2)


@pytest.mark.parametrize("schema", [RunConfig, GPTConfig])
@pytest.mark.parametrize(
    "wrong", [{"lenghts": (1,)}, {"layers": 0}, {"dropout": 1.0}, {"impl": "flex3"}, {"logit_scale": 0}]
)
def test_refused(schema: type[RunConfig] | type[GPTConfig], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        schema(**wrong)


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


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets(preset: str) -> None:
    assert GPTConfig.preset(preset).head_dim == 64
    assert GPTConfig.preset(preset, encoding="rope").encoding == "rope"


@pytest.mark.parametrize("module", ["extrapo", "extrapo.config", "extrapo.cli"])
def test_imports_without_torch(module: str) -> None:
    code = f"import sys, {module}; print(*{{'torch', 'lightning', 'mlflow', 'numpy'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.split()
