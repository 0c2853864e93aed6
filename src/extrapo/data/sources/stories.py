"""Long stories told from a seed, with their recall points as annotations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from extrapo.data.document import Annotation, Document
from extrapo.data.sources.base import SOURCES, Part, Source
from extrapo.data.stories.annotations import RecallPoint
from extrapo.data.stories.corpus import HELD_OUT, of_words, read_spec
from extrapo.data.stories.presets import VERSION

#: Bytes of a word and the space behind it, about.
WORD = 5


@SOURCES.register("stories")
class Stories(Source):
    """`stories:PRESET,words=N,seed=N`."""

    summary = "stories:PRESET,words=N,seed=N, told here from a seed: tiny-stories-like, long-stories and others"
    name = "stories"

    def __init__(self, argument: str, options: Mapping[str, str]) -> None:
        super().__init__(argument, options)
        self.preset, self.words, self.seed = read_spec(argument)
        self.identity = f"stories {VERSION} {self.preset} {self.words} {self.seed}"

    def parts(self) -> Sequence[Part]:
        return [
            Part(partial(self._told, self.words, held_out=False), split="train", size=WORD * self.words),
            Part(
                partial(self._told, self.words // HELD_OUT, held_out=True),
                split="validation",
                size=WORD * self.words // HELD_OUT,
            ),
        ]

    def _told(self, words: int, *, held_out: bool) -> Iterator[Document]:
        for one in of_words(self.preset, words, seed=self.seed, validation=held_out):
            yield Document.of(one.text, annotations=tuple(map(annotation, one.points)))


def annotation(point: RecallPoint) -> Annotation:
    """A recall point as preparation takes it: the answer's place, counted from where the fact was told."""
    label = {"kind": point.kind, "candidates": list(point.candidates)}
    return Annotation(*point.answer, since=point.statement[0], label=label)
