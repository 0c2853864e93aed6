"""extrapo generate: a small run writes text, and says so in JSON."""

from __future__ import annotations

import json

import pytest

from extrapo.cli import run
from extrapo.config import RunConfig
from extrapo.data.tokenizer import ByteTokenizer
from extrapo.fitting import fit
from extrapo.fitting.text import pieces
from extrapo.terminal import Output


def test_characters_come_whole() -> None:
    found = list(pieces(ByteTokenizer(), iter("aé€".encode())))
    assert found == [("a", 1), ("é", 3), ("€", 6)]
    assert list(pieces(ByteTokenizer(), iter("é".encode()[:1]))) == [("\ufffd", 1)]


def test_writes_what_its_seed_says(small: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    result = fit(small, Output(json=True))
    flags = ["generate", str(result.checkpoint), "--prompt", "def ", "--tokens", "50", "--top-k", "20"]
    capsys.readouterr()
    texts = []
    for seed in ("1", "1", "2"):
        assert run([*flags, "--seed", seed, "--json"]) == 0
        said = capsys.readouterr()
        document = json.loads(said.out)
        assert set(document) == {"text", "tokens_per_second"}
        assert document["text"].startswith("def ")
        assert said.err.strip() == document["text"].strip()
        texts.append(document["text"])
    assert texts[0] == texts[1] != texts[2]
    assert run([*flags, "--seed", "1"]) == 0
    assert capsys.readouterr().out == texts[0] + "\n"


@pytest.mark.parametrize(("flags", "cause"), [("--top-p 2", "--top-p must be"), ("--prompt=", "--prompt")])
def test_mistakes(flags: str, cause: str, small: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "none", "--root", small.root, *flags.split()]) == 2
    assert cause in capsys.readouterr().err
