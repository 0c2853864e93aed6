"""GPT-2's vocabulary by its name alone: from the hub's cache, else from the hub, else a line that says what to do."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from extrapo.data.gpt2 import NAMES, REPOSITORY, REVISION, SHA256
from extrapo.data.vocabularies import identity, make_tokenizer
from extrapo.errors import MachineError
from texts import shared


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's, and a hub that is not there: nothing listens on port 9."""
    url = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / f"models--{REPOSITORY.replace('/', '--')}" / "snapshots" / REVISION


@pytest.mark.parametrize("offline", [False, True])
def test_without_a_network_a_line_says_what_to_give(
    cache: Path, monkeypatch: pytest.MonkeyPatch, offline: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    began = time.monotonic()
    with pytest.raises(MachineError, match=r"cannot be fetched .* give its files: gpt2:FOLDER") as refusal:
        identity("gpt2", 4096, "")
    assert "\n" not in str(refusal.value)
    assert time.monotonic() - began < 15, "it does not try again and again"
    assert capfd.readouterr().err == ""


def test_what_is_cached_needs_no_network(cache: Path) -> None:
    cache.mkdir(parents=True)
    folder = shared("gpt2-bpe")
    for theirs, ours in zip(NAMES[0], SHA256, strict=True):
        (cache / ours).write_bytes((folder / theirs).read_bytes())
    assert identity("gpt2", 4096, "") == identity(f"gpt2:{folder}", 4096, "")
    assert make_tokenizer("gpt2", 4096, ()).sha256 == make_tokenizer(f"gpt2:{folder}", 4096, ()).sha256


def test_other_files_under_its_name_are_refused(cache: Path) -> None:
    cache.mkdir(parents=True)
    for name in SHA256:
        (cache / name).write_text("{}")
    with pytest.raises(MachineError, match=r"vocab\.json is not GPT-2's"):
        make_tokenizer("gpt2", 4096, ())
