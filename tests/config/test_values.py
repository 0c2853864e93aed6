"""The spellings of values that are understood."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from extrapo.config import GPTConfig, RunConfig


@pytest.mark.parametrize("schema", [RunConfig, GPTConfig])
@pytest.mark.parametrize(
    "written",
    [
        "encoding: rope+window:3,nope:1",
        "encoding: [rope+window:3, nope:1]",
        "encoding:\n- rope+window:3\n- nope:1",
        "encoding: ['rope+window:3,nope:1']",
    ],
)
def test_encodings_of_layers(schema: type[RunConfig] | type[GPTConfig], written: str) -> None:
    assert schema(**yaml.safe_load(written)).encoding == "rope+window:3,nope:1"
    assert schema(**yaml.safe_load(written.replace("encoding", "swap_to"))).swap_to == "rope+window:3,nope:1"


@pytest.mark.parametrize("wrong", [3, ["rope", 3], {"rope": 3}, None])
def test_what_is_no_encoding(wrong: Any) -> None:
    with pytest.raises(ValidationError, match="encoding"):
        RunConfig(encoding=wrong)


@pytest.mark.parametrize("written", ["128,256", ["128,256"], ["128", "256"], [128, 256], (128, "256")])
def test_lengths(written: Any) -> None:
    assert RunConfig(lengths=written).lengths == (128, 256)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("5e5", 5e5),
        ("true", True),
        ("none", None),
        ("[13, 198]", [13, 198]),
        ("half", "half"),
    ],
)
def test_options_given_as_text(text: str, value: Any) -> None:
    assert RunConfig(encoding_options={"some-part": {"an-option": text}}).encoding_options == {
        "some-part": {"an_option": value}
    }
