"""Multi-key associative recall (Arora et al., 2312.04927; RULER's needles of many keys, Hsieh et al., 2404.06654).

Several keys, each with a value that is stated once, in filler; one of them is asked for. Where passkey asks whether a
model can see that far at all, here it has to tell what it sees apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from extrapo.config import ProbeSettings
from extrapo.errors import UserError
from extrapo.evaluation.probes.base import PROBES, Probe
from extrapo.evaluation.probes.hidden import Filler, Numbers
from extrapo.evaluation.probes.item import Item, Vocabulary

STATED = " The number of the {key} is {value}."
QUESTION = " What is the number of the {key}? The number of the {key} is"
#: Answers to choose from, at most.
ANSWERS = 10
#: First and second words of a key: each goes with each.
KEYS = (
    "amber bitter calm dusty early frozen golden hollow iron jolly kind lonely merry narrow old proud quiet rusty "
    "silver tall upper velvet warm young",
    "anchor bridge candle dragon engine forest garden hammer island jacket kettle ladder mirror needle orchard pillow "
    "quarry ribbon saddle temple umbrella valley window yard",
)


@PROBES.register("recall")
class Recall(Probe):
    """The choice is between the values of ten of the keys, or of all if there are fewer: that a number stands in the
    text tells nothing.

    The place is that of the sentence which is asked for, among the others and in the filler: 0 at the beginning of the
    text, 1 before the question.

    Args:
        tokenizer: the model's.
        keys: how many are stated, from 2 on.
    """

    def __init__(self, tokenizer: Vocabulary, keys: int = 10) -> None:
        super().__init__(tokenizer)
        first, second = (words.split() for words in KEYS)
        self._names = [f"{one} {other}" for one in first for other in second]
        if not 2 <= keys <= len(self._names):
            raise UserError(f"`keys` must be from 2 to {len(self._names)}, not {keys}")
        self.variant = {"keys": keys}
        self.keys = keys
        self.numbers, self.filler = Numbers(tokenizer), Filler(tokenizer)

    @classmethod
    def asked(cls, tokenizer: Vocabulary, settings: ProbeSettings) -> Sequence[Self]:
        return [cls(tokenizer, keys) for keys in dict.fromkeys(settings.keys)]

    def item(self, length: int, place: float, generator: np.random.Generator) -> Item:
        names = [str(name) for name in generator.choice(self._names, size=self.keys, replace=False)]
        values = self.numbers.draw(self.keys, generator)
        # The first one is asked for; the others stand anywhere.
        places = [place, *generator.random(self.keys - 1)]
        stated = [
            self.tokenizer.encode(STATED.format(key=key, value=value)) for key, value in zip(names, values, strict=True)
        ]
        question = self.tokenizer.encode(QUESTION.format(key=names[0]))
        room = length + 1 - sum(map(len, stated)) - len(question) - self.numbers.size
        if room < 0:
            raise UserError(
                f"probe 'recall' with {self.keys} keys needs {length - room} tokens with this tokenizer, more than "
                f"{length}"
            )
        asked = np.concatenate([self.filler.around(list(zip(places, stated, strict=True)), room), question])
        order = generator.permutation(min(ANSWERS, self.keys))
        choice = [values[i] for i in order]
        return Item(self.numbers.after(asked, choice), [self.numbers.size] * len(choice), int(np.argmin(order)), place)
