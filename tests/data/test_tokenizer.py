"""Tokenizers: lossless, deterministic, and a separator that no text can spell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extrapo.data import tokenizer
from extrapo.data.tokenizer import ByteTokenizer, Tokenizer, identity, make_tokenizer
from extrapo.errors import UserError

TEXTS = [f"def function{i}(value): return value * {i} + {i}  # naïve\n" * 5 for i in range(200)]
BPE = make_tokenizer("bpe", 400, TEXTS)


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    """A folder in GPT-2's format, with the 256 bytes, one merge and the separator."""
    from tokenizers.pre_tokenizers import ByteLevel

    pieces = [*sorted(ByteLevel.alphabet()), "ab", "<|endoftext|>"]
    (tmp_path / "encoder.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\na b\n")
    return tmp_path


@pytest.mark.parametrize("made", [BPE, ByteTokenizer()], ids=["bpe", "byte"])
@given(text=st.text())
def test_round_trip(made: Tokenizer, text: str) -> None:
    ids = made.encode(text)
    assert made.decode(ids) == text
    assert made.encode_batch([text, ""]) == [ids, []]
    assert all(0 <= i < made.vocab_size and i != made.separator for i in ids)


@pytest.mark.parametrize("made", [BPE, ByteTokenizer()], ids=["bpe", "byte"])
@given(text=st.text())
def test_tokens_have_the_bytes_of_the_text(made: Tokenizer, text: str) -> None:
    sizes = made.token_bytes()
    assert sizes.shape == (made.vocab_size,)
    assert sizes[made.separator] == 0
    assert sizes[[*made.encode(text), made.separator]].sum() == len(text.encode())


@pytest.mark.parametrize("made", [BPE, ByteTokenizer()], ids=["bpe", "byte"])
def test_the_separator_is_not_text(made: Tokenizer) -> None:
    assert made.separator < made.vocab_size
    assert made.separator not in made.encode("<|endoftext|> [SEP] </s>")
    assert made.decode([made.separator, *made.encode("one"), made.separator, *made.encode("two")]) == "onetwo"


def test_byte_counts() -> None:
    made = make_tokenizer("byte", 4096, [])
    assert (made.name, made.vocab_size, made.separator) == ("byte", 257, 256)
    assert made.encode("é") == [0xC3, 0xA9]
    assert made.decode([0xC3]) == "\ufffd"


def test_bpe_compresses_to_the_size_asked_for() -> None:
    assert BPE.vocab_size == 400
    assert len(BPE.encode(TEXTS[0])) < len(TEXTS[0]) / 2


def test_a_small_text_gives_a_small_vocabulary() -> None:
    made = make_tokenizer("bpe", 4096, ["abab"])
    assert made.vocab_size < 270
    assert made.separator == made.vocab_size - 1
    assert made.decode(made.encode("snow ☃")) == "snow ☃"


def test_bpe_is_the_same_in_every_process() -> None:
    code = (
        "import json, sys; from extrapo.data.tokenizer import make_tokenizer\n"
        "print(make_tokenizer('bpe', 400, json.load(sys.stdin)).sha256)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(TEXTS),
        env={**os.environ, "PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == BPE.sha256


def test_training_text_is_bounded_and_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "TRAINING_CHARACTERS", 100)
    texts = [f"{i:02d}" * 10 for i in range(50)]
    used = list(tokenizer._sample(texts))
    assert sum(map(len, used)) == 100
    assert used == texts[::10]
    assert list(tokenizer._sample(["x" * 1000])) == ["x" * 100]


@pytest.mark.parametrize("made", [BPE, ByteTokenizer()], ids=["bpe", "byte"])
def test_load_gives_the_same_tokenizer(made: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(made.to_json(), encoding="utf-8")
    again = Tokenizer.load(path)
    assert (again.name, again.vocab_size, again.separator) == (made.name, made.vocab_size, made.separator)
    assert again.sha256 == made.sha256
    assert again.encode(TEXTS[3]) == made.encode(TEXTS[3])


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "bpe"}', '{"name": "bpe", "separator": 1, "model": {}}'])
def test_load_refuses_what_is_no_tokenizer(content: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(UserError, match="is not a tokenizer file"):
        Tokenizer.load(path)
    with pytest.raises(UserError, match="No such file"):
        Tokenizer.load(tmp_path / "missing.json")


def test_gpt2_from_its_files(gpt2: Path) -> None:
    made = make_tokenizer(f"gpt2:{gpt2}", 4096, [])
    assert (made.vocab_size, made.separator) == (258, 257)
    assert made.encode("ab") == [256]
    assert made.decode(made.encode("<|endoftext|> naïve")) == "<|endoftext|> naïve"
    assert made.separator not in made.encode("<|endoftext|>")


def test_gpt2_without_its_separator_is_refused(gpt2: Path) -> None:
    vocabulary = json.loads((gpt2 / "encoder.json").read_text())
    del vocabulary["<|endoftext|>"]
    (gpt2 / "encoder.json").write_text(json.dumps(vocabulary))
    with pytest.raises(UserError, match="endoftext"):
        make_tokenizer(f"gpt2:{gpt2}", 4096, [])


def test_damaged_gpt2_files_are_refused(gpt2: Path) -> None:
    (gpt2 / "encoder.json").write_text("{")
    with pytest.raises(UserError, match="does not hold a byte-pair encoding"):
        make_tokenizer(f"gpt2:{gpt2}", 4096, [])


def test_the_real_gpt2() -> None:
    home = Path(os.environ.get("EXTRAPO_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not (home / "gpt2-bpe").is_dir():
        pytest.skip(f"no gpt2-bpe in {home}; EXTRAPO_SHARED_DATA names the folder of the real files")
    made = make_tokenizer(f"gpt2:{home / 'gpt2-bpe'}", 4096, [])
    assert made.encode("Hello world") == [15496, 995]
    assert (made.vocab_size, made.separator) == (50_257, 50_256)


@pytest.mark.parametrize(
    ("spec", "size", "message"),
    [
        ("bep", 4096, "did you mean 'bpe'"),
        ("bpe", 256, "at least 257"),
        ("gpt2", 4096, "gpt2:FOLDER"),
        ("byte:path", 4096, "not complete|write bpe"),
        ("gpt2:nowhere", 4096, "are not in nowhere"),
    ],
)
def test_mistakes(spec: str, size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        identity(spec, size, "")
    with pytest.raises(UserError, match=message):
        make_tokenizer(spec, size, TEXTS)


def test_identity_holds_what_decides_the_tokenizer() -> None:
    assert identity("bpe", 400, "text") != identity("bpe", 401, "text")
    assert identity("bpe", 400, "text") != identity("bpe", 400, "other text")
    assert identity("byte", 400, "text") == identity("byte", 401, "other text")
