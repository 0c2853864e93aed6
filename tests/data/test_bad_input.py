"""Bad input: one clear line, nothing lost, nothing half-written."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from extrapo.data import prepare
from extrapo.errors import MachineError, UserError
from extrapo.files import write_text


def write(name: str, content: bytes | str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def link_loop(folder: Path) -> None:
    (folder / "loop.txt").symlink_to(folder / "loop.txt")


def rows(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def header(version: int, tokens: int) -> bytes:
    return struct.pack("<256i", 20240520, version, tokens, *[0] * 253)


NOTHING = write("unrelated.dat", b"")
NO_UTF8, BINARY = b"caf\xe9 " * 99, bytes(range(256)) * 40
OUTSIDE = {"text": "short", "annotations": [{"start": 3, "end": 99}]}
ENDLESS = {"text": "a text", "annotations": [{"start": float("inf"), "end": 2}]}
LATER = {"text": "a text", "annotations": [{"start": 0, "end": 1, "since": 3}]}

#: What is in the folder, the spec with the folder as {}, the tokenizer, and what is said.
TABLE: list[tuple[Callable[[Path], None], str, str, str]] = [
    (write("a.txt", NO_UTF8), "text:{}/a.txt", "byte", "a.txt is not UTF-8 text"),
    (write("a.txt", BINARY), "text:{}", "byte", "a.txt is not UTF-8 text"),
    (write("a.txt", b"x" * 5_000_000 + b"\xff"), "text:{}", "byte", "a.txt is not UTF-8 text"),
    (write("a.txt", " \n\n "), "text:{}", "byte", "holds no text"),
    (NOTHING, "text:{}", "byte", "holds no text"),
    (NOTHING, "text:{}/none.txt", "byte", "there is no file or folder"),
    (link_loop, "text:{}", "byte", "Too many levels of symbolic links"),
    (link_loop, "text:{}/loop.txt", "byte", "Too many levels of symbolic links"),
    (write("a.jsonl", rows({"text": "a"}) + "{"), "jsonl:{}", "byte", "a.jsonl, line 2: not JSON"),
    (write("a.jsonl", rows(["text"])), "jsonl:{}", "byte", "line 1: an object with a key 'text'"),
    (write("a.jsonl", rows({"story": "a"})), "jsonl:{}", "byte", "line 1: unknown column 'text'; .*known: story"),
    (write("a.jsonl", rows({"text": 3})), "jsonl:{}", "byte", "the column 'text' holds int, not text"),
    (write("a.jsonl", '{"text": "\\ud800"}\n'), "jsonl:{}", "byte", "half of a surrogate pair"),
    (write("a.jsonl", b'{"text": "\xe9"}\n'), "jsonl:{}", "byte", "line 1: not UTF-8"),
    (write("a.jsonl", "[" * 100_000), "jsonl:{}", "byte", "line 1: .*(too deep|not JSON)"),
    (write("a.jsonl", rows(OUTSIDE)), "jsonl:{}", "byte", "an annotation outside of the text"),
    (write("a.jsonl", rows(LATER)), "jsonl:{}", "byte", "an annotation outside of the text, or since a later place"),
    (write("a.jsonl", rows({"text": "a", "annotations": 5})), "jsonl:{}", "byte", "a list of annotations .*, not int"),
    (
        write("a.jsonl", rows({"text": "a", "annotations": True})),
        "jsonl:{}",
        "byte",
        "a list of annotations .*, not bool",
    ),
    (write("a.jsonl", rows({"text": "a", "annotations": [5]})), "jsonl:{}", "byte", "needs a start and an end: 5"),
    (write("a.jsonl", rows(ENDLESS)), "jsonl:{}", "byte", "needs a start and an end"),
    (write("a.jsonl", "null"), "jsonl:{}", "byte", "line 1: an object with a key 'text'.*, not NoneType"),
    (write("a.jsonl", '{"text": ' + "9" * 5000 + "}"), "jsonl:{}", "byte", "line 1: not JSON"),
    (write("a.jsonl", "".join(rows({"text": ""}) * 5)), "jsonl:{}", "byte", "holds no text"),
    (write("a.jsonl", rows({"text": "abc"}).encode("utf-16")), "jsonl:{}", "byte", "line 1: not UTF-8"),
    (write("a.jsonl", gzip.compress(b"{}" * 99)[:40]), "jsonl:{}", "byte", "line 1: not UTF-8"),
    (write("a.jsonl", rows({"te\x1bxt": "a"})), "jsonl:{}", "byte", "unknown column 'text'"),
    (write("a.txt", b"\xed\xa0\x80" * 50), "text:{}", "byte", "is not UTF-8 text"),
    (write("a.txt", "text".encode("utf-16")), "text:{}", "byte", "is not UTF-8 text"),
    (write("a.txt", "\u2028\x0b\x85" * 50), "text:{}", "byte", "holds no text"),
    (write("a.jsonl", ""), "jsonl:{}", "byte", "holds no text"),
    (write("a.txt", "a"), "jsonl:{}", "byte", "holds no jsonl: no file ends in .jsonl"),
    (write("a.jsonl", rows({"text": "a"})), "jsonl:{}?colum=b", "byte", "unknown option .*did you mean 'column'"),
    (write("a.jsonl", rows({"text": "a"})), "jsonl:{}?column", "byte", "write OPTION=VALUE"),
    (write("a.parquet", "no table"), "parquet:{}", "byte", "a.parquet is not a parquet table"),
    (NOTHING, "parquet:{}/none.parquet", "byte", "there is no file or folder"),
    (NOTHING, "hf:{}/none", "byte", "there is no folder"),
    (NOTHING, "hf:owner/name", "byte", "pin it, as hf:owner/name.revision=COMMIT"),
    (write("a.bin", b"\1"), "bin:{}", "byte", "a.bin has 1 bytes"),
    (write("a.bin", header(1, 100) + bytes(100)), "bin:{}", "byte", "50 tokens behind its header, which says 100"),
    (write("a.bin", header(7, 1) + bytes(4)), "bin:{}", "byte", "version 7"),
    (write("a.bin", np.full(99, 300, "<u2").tobytes()), "bin:{}", "byte", "holds the id 300, .* has only 257"),
    (write("a.bin", bytes(100)), "bin:{}", "bpe", "name the tokenizer that made them"),
    (NOTHING, "bin:{}", "byte", "holds no token files"),
    (write("a.txt", "a"), "text:{}", "file:{}/none.json", "cannot read the tokenizer"),
    (write("a.txt", "a"), "text:{}", "gpt2:{}", "are not in"),
    (write("manifest.json", "{}"), "{}", "byte", "manifest.json is damaged, or of another version"),
    (write("a.txt", "a"), "text:{}:1,text:{}:0", "byte", "must be positive, not 0"),
    (write("a.txt", "a"), "text:{}:1,text:{}:2", "byte", "names a corpus twice"),
    (NOTHING, "finweb-edu-10b", "byte", "unknown corpus .*did you mean 'fineweb-edu-10b'"),
]


@pytest.mark.parametrize(("make", "spec", "tokenizer", "message"), TABLE, ids=lambda value: str(value)[:24])
def test_one_clear_line(make: Callable[[Path], None], spec: str, tokenizer: str, message: str, tmp_path: Path) -> None:
    folder, cache = tmp_path / "in", tmp_path / "cache"
    folder.mkdir()
    make(folder)
    before = sorted(path.name for path in folder.rglob("*"))
    if spec.startswith("parquet") and "none" not in spec:
        pytest.importorskip("pyarrow", reason="needs pip install 'extrapo[data]'")
    with pytest.raises((UserError, MachineError), match=message) as error:
        prepare(spec.replace("{}", str(folder)), tokenizer=tokenizer.replace("{}", str(folder)), cache=cache)
    assert "\n" not in str(error.value)
    assert not list(cache.glob("corpora/*"))
    assert sorted(path.name for path in folder.rglob("*")) == before


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A cache with a prepared corpus called `mine`."""
    for number in range(20):
        write_text(tmp_path / "in" / f"{number}.txt", f"text {number} " * 50)
    prepare(f"text:{tmp_path / 'in'}", tokenizer="byte", cache=tmp_path / "cache", output="mine")
    return tmp_path / "cache"


@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_a_damaged_shard_of_a_named_corpus(named: Path, damage: str) -> None:
    (shard,) = named.glob("corpora/*/train.bin")
    content = bytearray(shard.read_bytes())
    if damage == "remove":
        shard.unlink()
    else:
        content[100] ^= 1
        shard.write_bytes(content[:-2] if damage == "cut" else content)
    says = {"cut": "it was cut or written to", "flip": "was changed: its sha256", "remove": "is missing"}[damage]
    with pytest.raises(UserError, match=says):
        prepare("mine", cache=named)


@pytest.mark.parametrize(("damage", "says"), [("cut", "manifest.json is damaged"), ("gone", "no prepared corpus in")])
def test_a_damaged_manifest_of_a_named_corpus(named: Path, damage: str, says: str) -> None:
    (path,) = named.glob("corpora/*/manifest.json")
    if damage == "gone":
        shutil.rmtree(path.parent)
    else:
        path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match=says):
        prepare("mine", cache=named)


def test_another_tokenizer_than_the_manifests(named: Path) -> None:
    assert prepare("mine", cache=named).tokenizer.name == "byte"
    assert prepare("mine", tokenizer="byte", cache=named).tokenizer.name == "byte"
    (path,) = named.glob("corpora/*/tokenizer.json")
    other = prepare(f"text:{named.parent / 'in'}", vocab_size=300, cache=named).tokenizer
    write_text(named / "other.json", other.to_json())
    with pytest.raises(UserError, match="was prepared by the tokenizer byte"):
        prepare("mine", tokenizer=f"file:{named / 'other.json'}", cache=named)
    write_text(path, other.to_json())
    with pytest.raises(UserError, match="is not the one that the shards were made by"):
        prepare("mine", cache=named)


def test_a_folder_that_holds_something_else_is_left_alone(named: Path, tmp_path: Path) -> None:
    write_text(tmp_path / "taken" / "thesis.txt", "mine")
    with pytest.raises(UserError, match="is there already"):
        prepare(f"text:{tmp_path / 'in'}", tokenizer="byte", cache=named, output=str(tmp_path / "taken"))
    assert os.listdir(tmp_path / "taken") == ["thesis.txt"]


@pytest.mark.parametrize("name", ["stdlib", "a b", "-x", "bin"])
def test_names_that_no_corpus_can_have(named: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"another name|cannot name"):
        prepare(f"text:{tmp_path / 'in'}", tokenizer="byte", cache=named, output=name)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"pip install 'extrapo\[data\]'"):
        prepare(f"parquet:{tmp_path}", tokenizer="byte", cache=tmp_path / "cache")
