"""extrapo generate: a small run writes text, and says so in JSON."""

from __future__ import annotations

import json

import pytest

from extrapo.cli import run
from extrapo.config import RunConfig
from extrapo.run.fit import fit


def test_writes_what_its_seed_says(small: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    result = fit(small)
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
    assert run(["generate", str(result.checkpoint), "--prompt="]) == 2
    assert "--prompt must not be empty" in capsys.readouterr().err


def test_mistakes(small: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "none", "--root", small.root, "--top-p", "2"]) == 2
    assert "--top-p must be" in capsys.readouterr().err
