"""stories: long English stories in simple words, made from a seed, with what they need from far back annotated.

A world is simulated (who is where, who has what, what was promised) and told. Read in this order:

    dice.py          randomness that is the same on every machine
    grammar.py       templates: choices and gaps; texts.py reads them from texts/, where all words stand
    pools.py         the words that are kept for answers
    people.py        who there is; places.py where; world.py all that is true at the moment
    facts.py         kinds of facts, and how they are told; ledger.py when each is needed again
    annotations.py   recall points, as characters and as tokens
    writer.py        the text as it grows
    weave.py         facts at the pauses of a scene
    plots.py         what can happen; frames.py what stands around it
    scenes.py        a scene; arcs.py the thread of a long story; telling.py a whole one
    presets.py       lengths, and the story of each number
    questions.py     recall points as questions to a model; corpus.py the stories as documents in two splits
"""

from extrapo.data.stories.annotations import RecallPoint, TokenPoint, in_tokens
from extrapo.data.stories.presets import PRESETS, VALIDATION, Story, recall_points, stories, story
from extrapo.data.stories.questions import PlacedQuestion, Question, placed_questions, questions

__all__ = [
    "PRESETS",
    "VALIDATION",
    "PlacedQuestion",
    "Question",
    "RecallPoint",
    "Story",
    "TokenPoint",
    "in_tokens",
    "placed_questions",
    "questions",
    "recall_points",
    "stories",
    "story",
]
