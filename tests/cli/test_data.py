"""extrapo data: what it prints for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from extrapo import cli


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EXTRAPO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def letters(tmp_path: Path) -> str:
    folder = tmp_path / "my letters"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}.txt").write_text(f"Dear {number}, " + "all is well. " * (1 + number))
    return f"text:{folder}"


def document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert cli.run(["data", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def prepare(capsys: pytest.CaptureFixture[str], spec: str, *more: str) -> Any:
    return document(capsys, "prepare", spec, "--tokenizer", "byte", "--workers", "1", *more)


def test_prepare_list_show_verify(letters: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = prepare(capsys, letters)
    assert made["name"] == "my-letters"
    assert (made["documents"], made["shards"]) == (30, 2)
    assert made["tokens"] == made["splits"]["train"]["tokens"] + made["splits"]["validation"]["tokens"]
    assert [row["name"] for row in document(capsys, "list")] == ["my-letters"]
    shown = document(capsys, "show", "my-letters")
    assert {key: shown[key] for key in ("tokens", "documents", "sha256")} == {
        key: made[key] for key in ("tokens", "documents", "sha256")
    }
    assert shown["excerpt"].startswith("Dear ")
    assert document(capsys, "verify")["corpora"][0]["sound"] is True


def test_for_people(letters: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["data", "list"]) == 0
    assert "no corpus is prepared yet" in capsys.readouterr().out
    prepare(capsys, letters, "--output", "letters")
    for arguments, words in (
        (["list"], ("letters", "byte", "257")),
        (["show", "letters"], ("30 documents", "█", "tokens of a document", "Dear ")),
        (["verify", "letters"], ("letters: sound",)),
    ):
        assert cli.run(["data", *arguments]) == 0
        out = capsys.readouterr().out
        assert all(word in out for word in words), out


def test_a_changed_shard_is_exit_code_2(letters: str, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(capsys, letters)
    (shard,) = cache.glob("corpora/*/validation.bin")
    shard.write_bytes(bytes(reversed(shard.read_bytes())))
    assert cli.run(["data", "verify", "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["corpora"][0]["sound"] is False
    assert said.err.rstrip().splitlines()[-1].startswith("extrapo: error:")
    assert prepare(capsys, letters)["name"] == "my-letters"
    assert document(capsys, "verify", "my-letters")["corpora"][0]["sound"] is True


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}'])
def test_a_damaged_manifest_is_told(
    letters: str, content: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside a sound corpus: `list` says in a line what it leaves out, `verify` finds it."""
    prepare(capsys, letters)
    prepare(capsys, letters, "--output", "other", "--limit-tokens", "500")
    damaged = Path(next(row for row in document(capsys, "list") if row["name"] == "other")["folder"])
    (damaged / "manifest.json").write_text(content)
    assert cli.run(["data", "list", "--json"]) == 0
    said = capsys.readouterr()
    assert [row["name"] for row in json.loads(said.out)] == ["my-letters"]
    (line,) = said.err.splitlines()
    assert line.startswith(f"left out, other: the manifest is missing, damaged or of another version in {damaged}")
    assert cli.run(["data", "verify", "--json"]) == 2
    said = capsys.readouterr()
    assert {row["name"]: row["sound"] for row in json.loads(said.out)["corpora"]} == {
        "my-letters": True,
        "other": False,
    }
    assert str(damaged) in said.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nothing"], "unknown corpus 'nothing'"),
        (["verify", "nothing"], "unknown prepared corpus 'nothing'"),
        (["prepare", "text:nowhere"], "there is no file or folder nowhere"),
        (["prepare", "stdlib", "--workers", "0"], "--workers: must be greater than or equal to 1"),
        (["prepare", "stdlib", "--limit-tokens", "0"], "--limit-tokens: must be greater than or equal to 1"),
        (["prepare", "stdlib", "--output", "stdlib"], "give what you prepare another name"),
        (["prepare", "bin:.", "--tokenizer", "bpe"], "--tokenizer gpt2:FOLDER"),
    ],
)
def test_mistakes(arguments: list[str], message: str, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["data", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert not list(cache.glob("corpora/*"))


@pytest.mark.slow
def test_several_processes_and_a_bar(letters: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = document(capsys, "prepare", letters, "--vocab-size", "300", "--workers", "2", "--limit-tokens", "400")
    assert 400 <= made["tokens"] < 800
