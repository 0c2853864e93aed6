"""Somebody else's manifest: what it says cannot be outside of its folder, and what the files hold is what it says."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extrapo.data import prepare
from extrapo.data.manifest import NAME, fault, read_manifest
from extrapo.errors import UserError
from extrapo.files import write_text

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared corpus in a folder of its own."""
    folder = tmp_path_factory.mktemp("sound")
    for number in range(20):
        write_text(folder / "in" / f"{number}.txt", f"text {number} " * 50)
    prepare(f"text:{folder / 'in'}", tokenizer="byte", cache=folder / "cache", output=str(folder / "out"))
    return folder / "out"


@pytest.fixture
def spoilt(sound: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(sound, tmp_path / "spoilt"))


def train(**changes: Any) -> Edit:
    """Changes of the only shard of training."""

    def edit(manifest: dict[str, Any]) -> None:
        split = manifest["splits"]["train"]
        split["shards"][0] |= changes
        split["tokens"] = split["shards"][0]["tokens"]

    return edit


def twice(manifest: dict[str, Any]) -> None:
    one, other = manifest["splits"].values()
    other |= {"shards": one["shards"], "tokens": one["tokens"]}


def separator(manifest: dict[str, Any]) -> None:
    manifest["tokenizer"]["separator"] = 257


def of_token_files(manifest: dict[str, Any]) -> None:
    manifest["spec"] = "bin:x"
    train(file="/etc/passwd")(manifest)


def documents(manifest: dict[str, Any]) -> None:
    manifest["splits"]["train"]["documents_file"]["file"] = "../x"


EDITS: list[tuple[Edit, str]] = [
    (train(file="../../x.bin"), "a file outside of the folder"),
    (train(file="../x.bin"), "a file outside of the folder"),
    (train(file="/etc/passwd"), "a file outside of the folder"),
    (train(file="below/x.bin"), "a file outside of the folder"),
    (train(file="a\0b"), "a file outside of the folder"),
    (train(file=".."), "a file outside of the folder"),
    (of_token_files, "a file outside of the folder"),
    (documents, "a file outside of the folder"),
    (train(offset=1, tokens=5), "an id that begins within another"),
    (train(offset=-2), "offset"),
    (train(bytes=2), "more tokens than a shard has room for"),
    (twice, "the same tokens twice"),
    (separator, "a separator that is no id"),
]


@pytest.mark.parametrize(("edit", "says"), EDITS)
def test_what_a_manifest_cannot_say(spoilt: Path, edit: Edit, says: str) -> None:
    manifest = json.loads((spoilt / NAME).read_text())
    edit(manifest)
    (spoilt / NAME).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=rf"{NAME} is damaged.*{says}"):
        prepare(str(spoilt))


def ids(values: Any) -> Iterable[int]:
    values[7] = 60_000
    return values


FILES: list[tuple[str, str, Callable[[Any], Any], str]] = [
    ("train.bin", "<u2", ids, "holds the id 60,000, and its tokenizer has only 257"),
    ("train.documents", "<i8", lambda borders: -borders, "holds no borders of documents"),
    ("train.documents", "<i8", lambda borders: borders[::-1], "holds no borders of documents"),
    ("train.documents", "<i8", lambda borders: borders * 10**6, "holds no borders of documents"),
    ("validation.documents", "<i8", lambda borders: borders * 0 + 10**15, "holds no borders of documents"),
]


@pytest.mark.parametrize(("name", "dtype", "change", "says"), FILES)
def test_files_that_hold_what_cannot_be(
    spoilt: Path, name: str, dtype: str, change: Callable[[Any], Any], says: str
) -> None:
    """With hashes that are right: whoever can write the one can write the other."""
    path = spoilt / name
    path.write_bytes(np.asarray(change(np.fromfile(path, dtype)), dtype).tobytes())
    manifest = json.loads((spoilt / NAME).read_text())
    for split in manifest["splits"].values():
        for entry in (*split["shards"], split["documents_file"]):
            entry["sha256"] = sha256((spoilt / entry["file"]).read_bytes()).hexdigest()
    (spoilt / NAME).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=f"is damaged: .*{says}"):
        prepare(str(spoilt))


def test_a_pipe_in_the_place_of_a_shard_is_not_waited_for(spoilt: Path) -> None:
    (spoilt / "train.bin").unlink()
    os.mkfifo(spoilt / "train.bin")
    manifest = read_manifest(spoilt)
    assert manifest is not None
    with pytest.raises(UserError, match="is a pipe or a device"):
        fault(spoilt, manifest, hashes=False)


def test_a_tokenizer_with_fewer_ids_than_the_manifest_says(spoilt: Path) -> None:
    manifest = json.loads((spoilt / NAME).read_text())
    manifest["tokenizer"]["vocab_size"] = 10**12
    (spoilt / NAME).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="is not the one that the shards were made by"):
        prepare(str(spoilt))
