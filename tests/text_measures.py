"""How easy and how varied a text is: run it on presets and files, `python tests/text_measures.py NAME...`."""

from __future__ import annotations

import re
import sys
import time
import zlib
from pathlib import Path

from extrapo.data.stories import PRESETS, stories, story


def syllables(word: str) -> int:
    """Groups of vowels, without a silent e at the end; at least one."""
    groups = len(re.findall(r"[aeiouy]+", word))
    silent = groups > 1 and word.endswith("e") and not word.endswith(("le", "ee"))
    return max(1, groups - silent)


def flesch_ease(text: str) -> float:
    """206.835 - 1.015 words per sentence - 84.6 syllables per word (Flesch 1948)."""
    words = re.findall(r"[a-z']+", text.lower())
    sentences = len(re.findall(r"[.!?]+[\"”]?(?=\s|$)", text))
    return 206.835 - 1.015 * len(words) / sentences - 84.6 * sum(map(syllables, words)) / len(words)


def distinct_ngrams(text: str, n: int = 8) -> float:
    """Share of the runs of n words that are different."""
    words = re.findall(r"[a-z']+", text.lower())
    runs = [hash(tuple(words[i : i + n])) for i in range(len(words) - n + 1)]
    return len(set(runs)) / len(runs)


def zlib_bits(text: str) -> float:
    """Bits per byte of the text compressed with zlib at its best."""
    content = text.encode()
    return 8 * len(zlib.compress(content, 9)) / len(content)


def first_characters(preset: str, count: int, *, seed: int = 0) -> str:
    """The first characters of a preset: stories 0, 1 ... with blank lines between them."""
    texts: list[str] = []
    size = 0
    while size < count:
        texts.append(story(preset, len(texts), seed=seed).text)
        size += len(texts[-1]) + 2
    return "\n\n".join(texts)[:count]


def report(name: str, text: str) -> str:
    """One line of the figures of a text."""
    words = re.findall(r"[a-z']+", text.lower())
    figures = f"ease {flesch_ease(text):5.1f}, distinct 8-grams {distinct_ngrams(text):.3f}, zlib {zlib_bits(text):.3f}"
    return f"{name}: {len(text):,} characters, {len(words):,} words, {len(set(words)):,} different, {figures}"


def words_per_second(preset: str, count: int) -> float:
    """Of one core, `count` stories."""
    start = time.perf_counter()
    words = sum(made.words for made in stories(preset, count))
    return words / (time.perf_counter() - start)


def main(names: list[str]) -> None:
    """Figures of presets, by name, and of files, by path; of the first 196,614 characters and of a million."""
    for name in names or PRESETS:
        for size in (196_614, 1_000_000):
            text = first_characters(name, size) if name in PRESETS else Path(name).read_text()[:size]
            print(report(name, text))
        if name in PRESETS:
            print(f"{name}: {words_per_second(name, 100):,.0f} words/s")


if __name__ == "__main__":
    main(sys.argv[1:])
