"""The page of the recipe has the defaults of the code."""

from __future__ import annotations

import re

import yaml

from documents import text
from extrapo.config import RunConfig
from extrapo.config.model import ShapeSettings
from extrapo.config.training import TrainingSettings

#: Of how a run goes on, not of what it comes to; and those that are off, or follow from others.
NOT_TOLD = {"kv_heads", "logit_scale", "micro_batch", "pack", "val_every", "val_tokens", "log_every", "on_nan"}


def test_the_table_of_the_recipe_is_the_default_run() -> None:
    rows = re.findall(r"^\|[^|]*\| `(\w+)` \|[^|]*\| ([^|]*) \|$", text("docs/recipe.md"), flags=re.MULTILINE)
    told = {name: yaml.safe_load(value) for name, value in rows}
    run = RunConfig().resolved()
    assert told == {name: getattr(run, name) for name in told}
    settings = {*ShapeSettings.model_fields, *TrainingSettings.model_fields}
    assert set(told) - {"tokenizer", "vocab_size"} == settings - NOT_TOLD
