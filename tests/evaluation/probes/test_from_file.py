"""HellaSwag and LAMBADA: what a file holds, and that models built to know the answer score as they must."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from extrapo.config import ProbeSettings
from extrapo.data.tokenizer import ByteTokenizer, Tokenizer
from extrapo.data.vocabularies import make_tokenizer
from extrapo.errors import UserError
from extrapo.evaluation.probes import PROBES, FileTask, NextTokens, Result, run_probe
from extrapo.evaluation.probes.hellaswag import from_jsonl, from_text, harness_text

#: Real text, where somebody has it.
DATA = Path(os.environ.get("EXTRAPO_SHARED_DATA") or Path(__file__).parents[4] / "shared" / "data")
TEXT = """Clean and jerk: A lady walks to a barbell. the lady
3
swings and lands in her arms.
pulls the barbell forward.
pulls a rope.
stands and lifts the weight over her head.
Canoeing: Two women: in a canoe. they
1
paddle — slowly.
sing.
are driving the canoe, and it goes round and round.
go down the rapids.
"""
PASSAGES = [
    {"context": "He gave the ring to Anna. It was for", "continuation": "Anna"},
    {"context": "They took the boat over the river, and left the", "continuation": "boat"},
    {"text": "The cat looked at the dog, and the dog barked at the cat"},
]
BPE = make_tokenizer("bpe", 400, [TEXT, json.dumps(PASSAGES)])
TOKENIZERS = {"byte": ByteTokenizer(), "bpe": BPE}


@pytest.fixture
def hellaswag(tmp_path: Path) -> Path:
    path = tmp_path / "hellaswag.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def lambada(tmp_path: Path) -> Path:
    path = tmp_path / "lambada.jsonl"
    path.write_text("\n".join(map(json.dumps, PASSAGES)) + "\n")
    return path


def ask(name: str, path: Path, tokenizer: Tokenizer, model: NextTokens, **settings: int) -> list[Result]:
    asked = ProbeSettings(items=str(path), **settings)
    tasks = PROBES.get(name).asked(tokenizer, asked)
    return run_probe(tasks, model, tasks[0].lengths([]), asked)


def by_score(results: Sequence[Result]) -> dict[str, float | None]:
    return {result.variant["score"]: result.accuracy for result in results}


def uniform(tokens: Tensor, last: int) -> Tensor:
    return torch.zeros(len(tokens), last, 400).log_softmax(-1)


def table(seed: int) -> NextTokens:
    """A model of the last token alone."""
    logits = 3 * torch.randn(400, 400, generator=torch.Generator().manual_seed(seed))
    return lambda tokens, last: logits[tokens[:, -last:]].log_softmax(-1)


def knows(tokenizer: Tokenizer, texts: Sequence[str]) -> NextTokens:
    """A model that has read these texts, and goes on as the one that begins like what it reads."""
    known = [tokenizer.encode(text) for text in texts]

    def model(tokens: Tensor, last: int) -> Tensor:
        likely = torch.zeros(len(tokens), last, 400)
        for row, read in enumerate(tokens.tolist()):
            for back in range(last):
                before = read[: len(read) - last + back + 1]
                for text in known:
                    if text[: len(before)] == before and len(text) > len(before):
                        likely[row, back, text[len(before)]] = 30.0
        return likely.log_softmax(-1)

    return model


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
def test_who_knows_nothing_comes_to_chance(hellaswag: Path, lambada: Path, tokenizer: Tokenizer) -> None:
    results = ask("hellaswag", hellaswag, tokenizer, uniform)
    assert by_score(results)["completion"] == results[0].chance == 0.25
    assert [result.n for result in results] == [2] * 4
    # The likeliest is the shortest, where all tokens are equally likely: which is right once of two times.
    assert by_score(results)["acc"] == 0.5
    (result,) = ask("lambada", lambada, ByteTokenizer(), lambda tokens, last: uniform(tokens, last)[..., :257] * 0)
    assert result.accuracy == pytest.approx(result.chance, rel=1e-9)
    assert result.chance == pytest.approx((257.0**-5 + 257.0**-5 + 257.0**-4) / 3)


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
def test_who_knows_the_texts_is_always_right(hellaswag: Path, lambada: Path, tokenizer: Tokenizer) -> None:
    texts = [
        "Clean and jerk: A lady walks to a barbell. the lady stands and lifts the weight over her head.",
        "A lady walks to a barbell. the lady stands and lifts the weight over her head.",
        "Canoeing: Two women: in a canoe. they sing.",
        "Two women: in a canoe. they sing.",
    ]
    results = ask("hellaswag", hellaswag, tokenizer, knows(tokenizer, texts))
    assert by_score(results) == {"completion": 1, "acc": 1, "acc_norm": 1, "acc_bytes": 1}
    passages = [one.get("text") or f"{one['context']} {one['continuation']}" for one in PASSAGES]
    (result,) = ask("lambada", lambada, tokenizer, knows(tokenizer, passages))
    assert result.accuracy == 1
    assert result.perplexity == pytest.approx(1, abs=1e-6)
    (result,) = ask("lambada", lambada, tokenizer, knows(tokenizer, passages[:2]))
    assert result.accuracy == pytest.approx(2 / 3, abs=0.01)  # all that is not known is equally likely


def test_scores_are_those_of_the_plain_formulas(hellaswag: Path, lambada: Path) -> None:
    for seed in range(8):
        model = table(seed)

        def losses(text: str, ending: str, model: NextTokens = model) -> list[float]:
            """Of each token of the ending, in nats."""
            tokens = torch.tensor(BPE.encode(f"{text} {ending}"))
            every = F.nll_loss(model(tokens[None, :-1], len(tokens) - 1)[0], tokens[1:], reduction="none")
            return every[len(BPE.encode(text)) - 1 :].tolist()

        wanted = dict.fromkeys(("completion", "acc", "acc_norm", "acc_bytes"), 0.0)
        for question in from_text(TEXT.rstrip("\n").split("\n")):
            text, endings = question.harness
            of_ending = [losses(text, ending) for ending in endings]
            divided = {
                "completion": [sum(one) / len(one) for one in (losses(question.plain[0], end) for end in endings)],
                "acc": [sum(one) for one in of_ending],
                "acc_norm": [sum(one) / len(end) for one, end in zip(of_ending, endings, strict=True)],
                "acc_bytes": [sum(one) / len(end.encode()) for one, end in zip(of_ending, endings, strict=True)],
            }
            for score, loss in divided.items():
                wanted[score] += (loss.index(min(loss)) == question.right) / 2
        assert by_score(ask("hellaswag", hellaswag, BPE, model)) == wanted
        passages = [one.get("text") or f"{one['context']} {one['continuation']}" for one in PASSAGES]
        nll = sum(sum(losses(*passage.rsplit(" ", 1))) for passage in passages) / 3
        (result,) = ask("lambada", lambada, BPE, model)
        assert result.perplexity == pytest.approx(math.exp(nll), rel=1e-5)


def test_results_do_not_depend_on_the_size_of_a_batch(hellaswag: Path, lambada: Path) -> None:
    for name, path in (("hellaswag", hellaswag), ("lambada", lambada)):
        results = [ask(name, path, BPE, table(1), batch_tokens=size) for size in (1, 300, 10**6)]
        assert results[0] == results[1] == results[2]


def test_the_authors_own_file_is_read_as_the_harness_reads_it(hellaswag: Path) -> None:
    record = {
        "activity_label": "Removing ice",
        "ctx_a": "[header] How to clear a car [title] Start early.",
        "ctx_b": "then, the man",
        "ctx": "[header] How to clear a car [title] Start early. then, the man",
        "label": "2",
        "endings": ["adds wax.", "sleeps [substeps] long.", "starts.", "sings."],
    }
    (question,) = from_jsonl([json.dumps(record)])
    assert question.plain == (record["ctx"], record["endings"])
    assert question.harness[0] == "Removing ice: How to clear a car. Start early. Then, the man"
    assert question.harness[1][1] == "sleeps long."
    assert question.right == 2
    assert harness_text(" a  b [x] ") == "a b "


def test_less_of_a_question_is_its_end(hellaswag: Path) -> None:
    settings = ProbeSettings(items=str(hellaswag), limit=1)
    (task,) = PROBES.get("hellaswag").asked(BPE, settings)
    whole, cut = (task.items(length, settings) for length in (10_000, 30))
    assert len(whole) == len(cut) == 2
    for one, other in zip(whole, cut, strict=True):
        for text, end in zip(one.texts, other.texts, strict=True):
            assert end.tolist() == text.tolist()[-31:]
    with pytest.raises(UserError, match=r"probe 'hellaswag' needs a length of at least \d+ tokens, its longest answer"):
        task.items(2, settings)


@pytest.mark.parametrize("name", ["hellaswag", "lambada"])
def test_another_file_is_refused_in_a_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "other"
    for content in ("", "\n\n", "a: b\n7\nc\nd\ne\nf\n", "{}\n", "3\n", '{"context": 3, "continuation": []}', "x" * 9):
        path.write_text(content)
        with pytest.raises(UserError, match=r"is not .*, or|is not lambada|has no questions"):
            PROBES.get(name).asked(BPE, ProbeSettings(items=str(path)))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is not a text in UTF-8"):
        PROBES.get(name).asked(BPE, ProbeSettings(items=str(path)))
    with pytest.raises(UserError, match=r"cannot read .*: No such file"):
        PROBES.get(name).asked(BPE, ProbeSettings(items=str(tmp_path / "none")))
    with pytest.raises(UserError, match=f"probe '{name}' needs `items`, the path of "):
        PROBES.get(name).asked(BPE, ProbeSettings(items=7))


@pytest.mark.parametrize(
    ("name", "file", "count"),
    [
        ("hellaswag", "hellaswag/hellaswag_val_full.txt", 10_042),
        ("lambada", "lambada/lambada_openai.jsonl", 5_153),
    ],
)
@pytest.mark.slow
def test_the_whole_files(name: str, file: str, count: int) -> None:
    if not (DATA / file).is_file():
        pytest.skip(f"no {file} in {DATA}; EXTRAPO_SHARED_DATA names the folder of the real text")
    (task,) = PROBES.get(name).asked(ByteTokenizer(), ProbeSettings(items=str(DATA / file)))
    assert isinstance(task, FileTask)
    assert len(task.whole) == count * (2 if name == "hellaswag" else 1)
