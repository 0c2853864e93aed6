"""YAML with anything in it: a configuration, or exit code 2; never a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extrapo.cli import run
from extrapo.config import RunConfig

FEW = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
KEYS = st.sampled_from([*RunConfig.model_fields, "swap_to", "encoding_options"])
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6)
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(SCALARS, v, max_size=3), max_leaves=5
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed") / "run.yaml"


@FEW
@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=3))
def test_any_value_of_any_setting(file: Path, values: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(values))
    assert run(["fit", "--config", str(file), "--print-config"]) in (0, 2)


@FEW
@given(st.binary(max_size=60) | st.text("{}[]&*!|>:-#'\"ab \n\t%@,?", max_size=60).map(str.encode))
def test_any_file(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert run(["fit", "--config", str(file), "--print-config"]) in (0, 2)
