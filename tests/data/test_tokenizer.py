"""Tokenizers: lossless, deterministic, and a separator that no text can spell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extrapo.data.tokenizer import ByteTokenizer, Tokenizer
from extrapo.data.vocabularies import identity, make_tokenizer, sample, stride
from extrapo.errors import UserError
from texts import shared

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
    assert [list(one) for one in made.encode_batch([text, ""])] == [ids, []]
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


@pytest.mark.slow
def test_bpe_is_the_same_in_every_process() -> None:
    code = (
        "import json, sys; from extrapo.data.vocabularies import make_tokenizer\n"
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


def test_training_text_is_bounded_and_spread() -> None:
    texts = [f"{i:02d}" * 10 for i in range(50)]
    used = list(sample(texts, every=10, room=100))
    assert sum(map(len, used)) == 100
    assert used == texts[::10]
    assert list(sample(["x" * 1000], every=1, room=100)) == ["x" * 100]
    assert [stride(n) for n in (0, 32_000_000, 32_000_001, 320_000_000)] == [1, 1, 2, 10]


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


def word_level(document: dict[str, Any]) -> None:
    document["model"]["model"] = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "nosuch"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda document: document.update(padded=-1), "'padded' is a number from"),
        (lambda document: document.update(padded=3), "'padded' is a number from"),
        (lambda document: document.update(padded=1e9), "'padded' is a number from"),
        (lambda document: document.update(padded=2**40), "'padded' is a number from"),
        (lambda document: document.update(padded=[1]), "'padded' is a number from"),
        (lambda document: document.update(separator=-1), "'separator' is an id"),
        (lambda document: document.update(separator=2**40), "'separator' is an id"),
        (lambda document: document.update(separator="x"), "'separator' is an id"),
        (lambda document: document.update(separator=True), "'separator' is an id"),
        (lambda document: document.update(name=7), "'name' is a text of one line"),
        (lambda document: document.update(name="\x1b[2J"), "'name' is a text of one line"),
        (lambda document: document.update(model=None), "is not a tokenizer file"),
        (word_level, "Missing .UNK."),
    ],
)
def test_load_refuses_what_a_tokenizer_cannot_say(
    change: Callable[[dict[str, Any]], None], says: str, tmp_path: Path
) -> None:
    document = json.loads(BPE.to_json())
    change(document)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=says):
        Tokenizer.load(path)


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
    made = make_tokenizer(f"gpt2:{shared('gpt2-bpe')}", 4096, [])
    assert made.encode("Hello world") == [15496, 995]
    assert (made.vocab_size, made.separator, made.whole_at_spaces) == (50_257, 50_256, True)
    assert made.padded(64).vocab_size == 50_304


class PlainGPT2:
    """GPT-2's encoder as its paper says it (Radford et al., 2019), character by character, without a library."""

    def __init__(self, folder: Path) -> None:
        self.ids = json.loads((folder / "encoder.json").read_text())
        merges = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
        self.ranks = {tuple(line.split()): rank for rank, line in enumerate(merges)}
        visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
        spelled = [*visible, *(256 + i for i in range(256 - len(visible)))]
        codes = [*visible, *(code for code in range(256) if code not in set(visible))]
        self.letters = {code: chr(letter) for code, letter in zip(codes, spelled, strict=True)}
        self.known: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        return [i for word in self.words(text) for i in self.merged(word)]

    def merged(self, word: str) -> list[int]:
        if word not in self.known:
            pieces = [self.letters[byte] for byte in word.encode()]
            while len(pieces) > 1:
                pairs = list(pairwise(pieces))
                best = min(pairs, key=lambda pair: self.ranks.get(pair, 10**9))
                if best not in self.ranks:
                    break
                at, joined = 0, []
                while at < len(pieces):
                    step = 2 if tuple(pieces[at : at + 2]) == best else 1
                    joined.append("".join(pieces[at : at + step]))
                    at += step
                pieces = joined
            self.known[word] = [self.ids[piece] for piece in pieces]
        return self.known[word]

    @staticmethod
    def kind(character: str) -> str:
        if character.isspace() and character not in "\x1c\x1d\x1e\x1f":
            return "space"
        category = unicodedata.category(character)[0]
        return category if category in "LN" else "other"

    def words(self, text: str) -> list[str]:
        found, at = [], 0
        while at < len(text):
            short = next((end for end in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d") if text.startswith(end, at)), "")
            stop = at + len(short)
            if not short:
                begin = at + (text[at] == " " and at + 1 < len(text) and self.kind(text[at + 1]) != "space")
                kind, stop = self.kind(text[begin]), begin
                while stop < len(text) and self.kind(text[stop]) == kind:
                    stop += 1
                # Of spaces before a word, the last one is the word's.
                if kind == "space" and stop < len(text) and stop - at > 1:
                    stop -= 1
            found.append(text[at:stop])
            at = stop
        return found


@pytest.fixture(scope="module")
def encoders() -> tuple[PlainGPT2, Tokenizer]:
    folder = shared("gpt2-bpe")
    return PlainGPT2(folder), make_tokenizer(f"gpt2:{folder}", 4096, [])


@pytest.mark.parametrize("folder", ["books", "tinyshakespeare", "tinystories", "wikitext-2", "hellaswag", "lambada"])
def test_the_ids_of_real_text_are_those_of_a_plain_encoder(encoders: tuple[PlainGPT2, Tokenizer], folder: str) -> None:
    plain, made = encoders
    limit = int(os.environ.get("EXTRAPO_ENCODED_CHARACTERS", "8000"))
    for path in sorted(shared(folder).iterdir()):
        text = path.read_text(encoding="utf-8")[:limit]
        assert made.encode(text) == plain.encode(text), path.name


@pytest.mark.parametrize(
    ("spec", "size", "message"),
    [
        ("bep", 4096, "did you mean 'bpe'"),
        ("bpe", 256, "at least 257"),
        ("file", 4096, "file:PATH"),
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


def library(**parts: object) -> str:
    """A tokenizer.json of the library's, trained on the texts here."""
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

    model = tokenizers.Tokenizer(models.BPE(unk_token="<unk>" if parts.get("metaspace") else None))
    if parts.get("metaspace"):
        model.pre_tokenizer, model.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    else:
        model.pre_tokenizer, model.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    if parts.get("lowercase"):
        model.normalizer = normalizers.Lowercase()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(TEXTS, trainer)
    model.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    model.enable_truncation(10)
    model.enable_padding()
    return model.to_str()


def test_any_tokenizer_json(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(library())
    made = make_tokenizer(f"file:{path}", 4096, [])
    assert (made.name, made.separator, made.whole_at_spaces) == ("file", 1, True)
    for text in (TEXTS[3], "<s> and </s> are text", "naïve ☃", ""):
        ids = made.encode(text)
        assert made.decode(ids) == text
        assert not {0, 1} & set(ids)
        assert [list(one) for one in made.encode_batch([text])] == [ids]
        assert int(made.token_bytes()[ids].sum()) == len(text.encode())
    again = Tokenizer.from_json(made.to_json())
    assert (again.sha256, again.separator, again.encode(TEXTS[3])) == (made.sha256, 1, made.encode(TEXTS[3]))


def test_a_tokenizer_of_other_words_has_to_see_a_text_whole(tmp_path: Path) -> None:
    for number, parts in enumerate(({"metaspace": True}, {"lowercase": True})):
        path = tmp_path / f"{number}.json"
        path.write_text(library(**parts))
        assert not make_tokenizer(f"file:{path}", 4096, []).whole_at_spaces
    assert not make_tokenizer(f"file:{tmp_path / '0.json'}", 4096, []).token_bytes().any()


@pytest.mark.parametrize("made", [BPE, ByteTokenizer()], ids=["bpe", "byte"])
@given(text=st.text())
def test_tokens_have_places(made: Tokenizer, text: str) -> None:
    ids, places = made.encode_with_places(text)
    assert ids == made.encode(text)
    assert places.shape == (len(ids) + 1,)
    assert places[-1] == len(text)
    assert (places[:1] == 0).all()
    assert (places[1:] >= places[:-1]).all()
    for at in range(len(ids)):
        inside = made.decode(ids[at : at + 1])
        if "\ufffd" not in inside:
            assert text[places[at] : places[at + 1]] == inside


@pytest.mark.parametrize("made", [BPE, ByteTokenizer()], ids=["bpe", "byte"])
@given(multiple=st.integers(1, 512))
def test_padding_adds_ids_of_nothing(made: Tokenizer, multiple: int) -> None:
    padded = made.padded(multiple)
    assert padded.vocab_size % multiple == 0
    assert 0 <= padded.vocab_size - made.vocab_size < multiple
    assert padded.sha256 == made.sha256
    assert padded.encode(TEXTS[0]) == made.encode(TEXTS[0])
    assert padded.token_bytes().sum() == made.token_bytes().sum()
    assert padded.token_bytes().shape == (padded.vocab_size,)
    behind = range(made.vocab_size, padded.vocab_size)
    assert padded.decode([*behind, *made.encode("one"), *behind]) == "one"
    again = Tokenizer.from_json(padded.to_json())
    assert (again.vocab_size, again.sha256) == (padded.vocab_size, made.sha256)
