"""The name of a run where nobody says one tells it from the others."""

from __future__ import annotations

from typing import Any

import pytest

from extrapo.config import RunConfig


def name(**settings: Any) -> str:
    return RunConfig(**settings).resolved().name


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "k-cable-6l-s0"),
        ({"kernel": "log", "seed": 3}, "k-cable-log-6l-s3"),
        ({"encoding": "rope", "swap_to": "nope", "swap_step": 9}, "rope-to-nope-6l-s0-swap-step9"),
        ({"data": "text:a/novels.txt", "tokenizer": "byte"}, "k-cable-6l-s0-novels-tokenizerbyte"),
        ({"steps": 500, "seq_len": 64, "lr": 1e-3}, "k-cable-6l-s0-T64-steps500-lr0.001"),
        ({"encoding": "rope", "encoding_options": {"base": 500}}, "rope-6l-s0-base500"),
        ({"tied": False, "pack": True, "precision": "bf16-mixed"}, "k-cable-6l-s0-no-tied-precisionbf16-mixed-pack"),
        ({"root": "x", "lengths": [64], "devices": 1, "log_every": 1, "name": None}, "k-cable-6l-s0"),
        ({"name": "mine", "steps": 3}, "mine"),
    ],
)
def test_what_differs_is_in_the_name(settings: dict[str, Any], words: str) -> None:
    assert sorted(name(**settings).split("-")) == sorted(words.split("-"))
    assert name(**settings)[:5] == words[:5]


def test_a_long_name_is_cut() -> None:
    assert len(name(encoding_options={f"a{i}": "b" * 30 for i in range(20)})) == 200
