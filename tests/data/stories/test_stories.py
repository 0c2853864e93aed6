"""Stories: the same everywhere, as long as asked, needing from far back what they annotate and nothing in between."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from extrapo.data import prepare
from extrapo.data.sources import open_source
from extrapo.data.stories import PRESETS, RecallPoint, Story, in_tokens, recall_points, stories, story
from extrapo.data.stories.corpus import of_words, splits
from extrapo.data.stories.facts import KINDS
from extrapo.data.stories.pools import HIDING, POOLS, THINGS
from extrapo.data.stories.presets import VALIDATION
from extrapo.data.stories.texts import blocks, sections
from extrapo.errors import UserError
from text_measures import distinct_ngrams, first_characters, flesch_ease, zlib_bits

#: Of the first million characters. A change of any word changes them: then `presets.VERSION` goes up by one.
PINNED = {
    "tiny-stories-like": "f59c5b11569793d4b55715f0f16492b853299952e9d317a0124ac0b1bf26c08d",
    "long-stories": "e18d178f885f30f6dd425d07dcce7516d77e05d0e8af9e4a207d1bb9867eb1e2",
    "long-stories-0-5k": "a8b416b0ca88c27cfb3275681ee283bf26e547ba2702beaa2fbb2dcb325f4dfb",
    "long-stories-5k-10k": "ebdae8a499c167da4448199f343d8104ea715ae91a3d169f3bed87369b930122",
}


#: What a careless template leaves behind: brackets, "a apple", blanks and marks in the wrong places.
SEAMS = re.compile(
    r"""[{}\[\]|] | \b[Aa][ ][aeiou] | [ ][,.!?\n] | [ ]{2} | [,!?][,.!?] | \.[,!?] | [a-z]\.[ ][a-z] | [ ]$""",
    re.VERBOSE,
)


@pytest.fixture(scope="module")
def tiny() -> list[Story]:
    return list(stories("tiny-stories-like", 300))


@pytest.fixture(scope="module")
def long() -> list[Story]:
    return list(stories("long-stories", 30))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_first_million_characters_are_pinned(preset: str) -> None:
    assert sha256(first_characters(preset, 1_000_000).encode()).hexdigest() == PINNED[preset]


def test_a_story_does_not_depend_on_those_before_it_or_on_the_order_of_sets() -> None:
    texts = [made.text for made in stories("tiny-stories-like", 5)]
    assert [made.text for made in stories("tiny-stories-like", 2, start=3)] == texts[3:]
    assert len({*texts, story("tiny-stories-like", 0, seed=1).text, story("long-stories", 0).text}) == 7


@pytest.mark.slow
def test_other_processes_tell_the_same_stories() -> None:
    code = (
        "from hashlib import sha256; from extrapo.data.stories import story;"
        "print(sha256(repr([story('long-stories', i) for i in range(5)]).encode()).hexdigest())"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_stories_are_as_long_as_the_preset_says(preset: str) -> None:
    settings = PRESETS[preset]
    lengths = [made.words for made in stories(preset, 30)]
    assert min(lengths) >= 0.8 * settings.shortest
    assert max(lengths) <= 1.1 * settings.longest + 100
    for made in stories(preset, 5):
        assert made.words == len(made.text.split())


def test_lengths_spread_over_the_octaves(long: list[Story]) -> None:
    assert len({made.words.bit_length() for made in long}) >= 5


def test_a_recall_point_is_where_it_says_and_its_answer_is_not_said_in_between(
    tiny: list[Story], long: list[Story]
) -> None:
    points = 0
    for made in (*tiny, *long):
        for point in recall_points(made):
            answer, statement = (made.text[slice(*span)] for span in (point.answer, point.statement))
            assert answer.lower() == statement.lower()
            assert answer.lower() in {word.lower() for word in POOLS[point.kind]}
            between = made.text[point.statement[1] : point.answer[0]]
            # Names begin with capitals: "Button" the kitten is not a button.
            flags = re.IGNORECASE if POOLS[point.kind][0].islower() else 0
            assert not re.search(rf"\b{answer}\b", between, flags), (answer, between[-300:])
            points += 1
    assert points > 1000


def test_the_answer_is_one_of_several_that_the_text_has_given(tiny: list[Story], long: list[Story]) -> None:
    """All are said before the answer, and the one said last is right less often than one of three by chance."""
    last_is_right = points = 0
    for made in (*tiny[:200], *long):
        for point in made.points:
            before = made.text[: point.answer[0]].lower()
            assert len(set(point.candidates)) == len(point.candidates) >= 3
            assert made.text[slice(*point.answer)] in point.candidates
            where = {candidate: before.rfind(candidate.lower()) for candidate in point.candidates}
            assert min(where.values()) >= 0
            last_is_right += max(where, key=lambda one: where[one]) == made.text[slice(*point.answer)]
            points += 1
    assert last_is_right / points < 1 / 3


def test_the_question_stands_before_the_answer() -> None:
    """Every recall names its character or its thing before {v}, so that the text so far asks the question."""
    for kind, lines in sections("facts").items():
        for line in lines:
            use, text = line.split(": ", 1)
            if use in ("near", "far", "both"):
                before = text[: text.index("{v")]
                assert "{t" in before or "{x" in before, (kind, text)


def test_distances_are_spread_up_to_the_length_of_the_story(long: list[Story]) -> None:
    """In the longest stories every octave from 256 to 65,536 characters has its share."""
    longest = [made for made in long if made.words > 10_000]
    assert len(longest) >= 4
    octaves = [(point.answer[0] - point.statement[0]).bit_length() for made in longest for point in made.points]
    for octave in range(9, 17):
        assert octaves.count(octave) >= 0.03 * len(octaves), octave


def test_every_kind_of_fact_is_needed_somewhere(tiny: list[Story]) -> None:
    assert {point.kind for made in tiny for point in made.points} == set(KINDS) == set(POOLS)


def test_long_stories_have_chapters_and_short_ones_none(tiny: list[Story], long: list[Story]) -> None:
    assert not any("Chapter" in made.text for made in tiny)
    for made in long:
        numbers = [int(number) for number in re.findall(r"^Chapter (\d+)\. .+$", made.text, re.MULTILINE)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert (len(numbers) > 1) == (made.words > 800) or 600 < made.words < 900


def test_the_prose_has_no_seams(tiny: list[Story], long: list[Story]) -> None:
    for made in (*tiny, *long):
        assert made.text.isascii()
        assert not (found := SEAMS.search(made.text)), made.text[found.start() - 60 : found.end() + 20]
        assert made.text.count('"') % 2 == 0


def test_nobody_has_two_of_what_one_has_once(long: list[Story]) -> None:
    """Who loves plums loves plums to the end: facts do not contradict one another."""
    says = re.compile(r"([A-Z][a-z]+) wanted to be a ([a-z]+)")
    for made in long:
        wishes: dict[str, set[str]] = {}
        for name, job in says.findall(made.text):
            wishes.setdefault(name, set()).add(job)
        assert all(len(jobs) == 1 for jobs in wishes.values())


def test_words_of_answers_are_kept_for_facts() -> None:
    """No text but that of facts has a word of a pool."""
    names = ("adventures", "arcs", "creatures", "frames", "games", "lists", "moments", "names", "places", "quarrels")
    prose = "\n".join(
        f"{head}\n" + "\n".join(lines)
        for file in (*names, "shorts", "tales", "tempers", "things", "works", "items")
        for head, lines in blocks(file)
    )
    for kind, pool in POOLS.items():
        flags = re.IGNORECASE if pool[0].islower() else 0
        kept = rf"(?<![\w{{])({'|'.join(pool)})(?!\w)"
        assert not (found := re.search(kept, prose, flags)), (kind, found)
    everything = [word.lower() for pool in POOLS.values() for word in pool]
    assert len(everything) == len(set(everything))
    assert set(HIDING) == set(POOLS["hidden"])
    assert all(len(set(things)) == len(things) for things in THINGS.values())


def test_stories_read_about_as_easily_as_tinystories_and_are_varied() -> None:
    for preset in ("tiny-stories-like", "long-stories"):
        text = first_characters(preset, 200_000)
        assert 88 <= flesch_ease(text) <= 105
        assert distinct_ngrams(text) > 0.85
        assert zlib_bits(text) > 2.0


def test_recall_points_in_tokens() -> None:
    made = story("tiny-stories-like", 7)
    starts = [0, *(space.start() for space in re.finditer(" ", made.text))]
    for point, token in zip(made.points, in_tokens(made.points, starts), strict=True):
        assert starts[token.first] <= point.answer[0] < starts[token.first + 1]
        assert token.first == token.last
        assert token.distance == made.text[point.statement[0] : point.answer[0]].count(" ") > 0
        assert token.kind == point.kind
    # A token per character.
    for point, token in zip(made.points, in_tokens(made.points, range(len(made.text))), strict=True):
        assert (token.first, token.last + 1) == point.answer


def test_a_recall_point_survives_json() -> None:
    for point in story("tiny-stories-like", 7).points:
        assert RecallPoint.from_dict(json.loads(json.dumps(point.as_dict()))) == point


def test_the_corpus_has_two_splits_that_share_no_story() -> None:
    parts = open_source("stories:tiny-stories-like,words=20000,seed=3").parts()
    train, validation = (["".join(one.pieces) for one in part.documents()] for part in parts)
    assert [part.split for part in parts] == ["train", "validation"]
    assert sum(len(text.split()) for text in train) >= 20_000
    assert validation
    assert not set(train) & set(validation)
    assert validation[0] == story("tiny-stories-like", VALIDATION, seed=3).text
    longer, _ = splits("tiny-stories-like,words=30000,seed=3")
    assert [made.text for made in longer][: len(train)] == train


def test_recall_points_survive_preparation(tmp_path: Path) -> None:
    """Of each, the tokens of the answer and how far back the fact was told."""
    corpus = prepare("stories:tiny-stories-like,words=3000,seed=3", tokenizer="byte", cache=tmp_path)
    text = np.asarray(corpus.validation).astype(np.uint8).tobytes().decode()
    points = [point for made in splits("tiny-stories-like,words=3000,seed=3")[1] for point in made.points]
    notes = list(corpus.annotations("validation"))
    assert len(notes) == len(points) > 0
    for note, point in zip(notes, points, strict=True):
        size = point.answer[1] - point.answer[0]
        assert text[note["token"] : note["token"] + size] in note["candidates"]
        assert note["kind"] == point.kind
        assert note["distance"] == point.answer[0] - point.statement[0]


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("tiny", "tiny-stories-like"),
        ("long-stories,wrods=3", "words"),
        ("long-stories,words=many", "words"),
        ("long-stories,words=0", "words"),
        (",seed=-1", "seed"),
    ],
)
def test_a_wrong_spec_is_one_line(spec: str, names: str) -> None:
    with pytest.raises(UserError, match=names) as caught:
        open_source(f"stories:{spec}")
    assert "\n" not in str(caught.value)


def test_four_times_the_words_repeat_little() -> None:
    """What a model sees in four times the text is largely new."""
    texts = [made.text for made in of_words("long-stories", 80_000)]
    words = re.findall(r"[a-z']+", " ".join(texts).lower())
    runs = [tuple(words[i : i + 8]) for i in range(len(words) - 7)]
    quarters = [len(set(runs[: len(runs) * part // 4])) for part in range(1, 5)]
    gained = [more - less for less, more in pairwise(quarters)]
    assert gained[-1] > 0.6 * quarters[0]


def test_lists_that_begin_sentences_stand_where_sentences_begin() -> None:
    begin = "|".join(name for name, lines in sections("lists").items() if lines[0][0].isupper() and name != "good")
    for file in (
        "adventures",
        "arcs",
        "creatures",
        "frames",
        "games",
        "moments",
        "quarrels",
        "shorts",
        "tales",
        "works",
    ):
        for _, lines in blocks(file):
            for line in lines:
                assert not re.search(rf"[a-z,] \{{#({begin})\}}", line), line


def test_every_list_of_words_is_used() -> None:
    files = ("adventures", "arcs", "creatures", "facts", "frames", "games", "lists", "moments", "places", "quarrels")
    told = [blocks(file) for file in (*files, "shorts", "tales", "tempers", "works")]
    texts = "\n".join(line for file in told for _, lines in file for line in lines)
    assert set(re.findall(r"\{#(\w+)\}", texts)) == set(sections("lists"))
