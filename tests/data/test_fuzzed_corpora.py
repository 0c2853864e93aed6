"""Manifests and headers with anything in them: a corpus, or one line that says what is wrong; nothing else."""

from __future__ import annotations

import copy
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extrapo.data import prepare
from extrapo.data.manifest import NAME
from extrapo.errors import MachineError, UserError

SLOW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["", "../../x", "/dev/zero", "<u2", "<u8", "O", "train.bin", "ü\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["file", "train", "x"]), inner),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared one; its folder."""
    folder = tmp_path_factory.mktemp("fuzzed")
    (folder / "text.txt").write_text("\n\n".join(f"{i} squared is {i * i}." for i in range(80)))
    return prepare(f"text:{folder / 'text.txt'}", tokenizer="byte", cache=folder / "cache").folder


def places(value: Any) -> list[tuple[Any, ...]]:
    """The way to every node below a value."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [way for key in keys for way in [(key,), *((key, *rest) for rest in places(value[key]))]]


def opened(spec: str, **options: Any) -> bool:
    """Whether a corpus opens and reads; else it was told why not."""
    try:
        found = prepare(spec, **options)
        for tokens in (found.train, found.validation):
            assert len(tokens[:].tolist()) == len(tokens)
        assert len(found.train_documents) > 0
    except (UserError, MachineError):
        return False
    return True


@SLOW
@given(st.data())
def test_a_manifest_with_anything_in_one_place(corpus: Path, data: st.DataObject) -> None:
    path, good = corpus / NAME, (corpus / NAME).read_text()
    manifest = copy.deepcopy(json.loads(good))
    *way, last = data.draw(st.sampled_from(places(manifest)))
    holder = manifest
    for key in way:
        holder = holder[key]
    if data.draw(st.booleans()):
        holder[last] = data.draw(VALUES)
    else:
        del holder[last]
    try:
        path.write_text(json.dumps(manifest))
        opened(str(corpus))
    finally:
        path.write_text(good)
    assert opened(str(corpus))


@SLOW
@given(st.binary(max_size=300) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_a_manifest_of_anything(corpus: Path, content: bytes) -> None:
    path, good = corpus / NAME, (corpus / NAME).read_text()
    try:
        path.write_bytes(content)
        assert not opened(str(corpus))
    finally:
        path.write_text(good)


@SLOW
@given(
    header=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=256),
    magic=st.booleans(),
    ids=st.lists(st.integers(0, 300), max_size=60),
    odd=st.booleans(),
)
def test_a_token_file_with_any_header(
    tmp_path_factory: pytest.TempPathFactory, header: list[int], magic: bool, ids: list[int], odd: bool
) -> None:
    folder = tmp_path_factory.mktemp("tokens")
    first = [20240520, 1, len(ids)] if magic else []
    content = struct.pack(f"<{len(first) + len(header)}i", *first, *header)
    content += np.array(ids, "<u2").tobytes() + b"x" * odd
    (folder / "some.bin").write_bytes(content)
    opened(f"bin:{folder / 'some.bin'}", tokenizer="byte", cache=folder / "cache")
