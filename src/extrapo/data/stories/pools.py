"""Words that are kept for facts: an answer occurs where a fact is told or asked for, and nowhere else."""

from __future__ import annotations

from extrapo.data.stories.texts import blocks, listed

#: Kind of fact -> the words that can be its answer.
POOLS: dict[str, tuple[str, ...]] = listed("pools", " ")

#: Hiding place -> what is said before it.
HIDING: dict[str, str] = {noun: phrase for phrase, lines in blocks("hiding") for noun in " ".join(lines).split()}

#: Kind -> what a fact can be about, where it needs a thing of the character's, or one of the world's.
THINGS: dict[str, tuple[str, ...]] = listed("things")
