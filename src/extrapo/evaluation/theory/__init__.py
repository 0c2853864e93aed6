"""What the papers prove of an encoding, as numbers: `extrapo.theory`. Read it in this order:

normalisation.py    ln Z, entropy and mass window of a line of logits; tails.py whether the sum of all is finite
ldcp.py             how far the mean logit and the content reach
coherence.py        coherence and mixing window of turns that add up
far_mass.py         the attention beyond the near keys: its gaps, its bound
receptive_field.py  of biases, and by gradients
built.py            an encoding as theory looks at it; weights.py what a row's values count
content.py          what a transform leaves of the content; sensitivity.py of the gradient
verdicts.py         where the claims hold; table.py for the whole catalogue
of_encoding.py      all of it for an encoding by its name; summary.py the means over heads
passes.py           what a trained model's attention has before it, a row at a time
attention_statistics.py, contextual.py
                    what can be measured of it: per head, and of the positions that tokens drive
of_model.py         all of it for a trained model at one length; measured_verdicts.py what follows over lengths
"""

from __future__ import annotations

from extrapo.evaluation.theory.far_mass import FarMass, far_coherence, far_mass
from extrapo.evaluation.theory.ldcp import correlation_length, local_distance
from extrapo.evaluation.theory.normalisation import entropy, line, ln_z, of_bias, slopes, window
from extrapo.evaluation.theory.of_encoding import of_encoding
from extrapo.evaluation.theory.of_model import of_model

__all__ = [
    "FarMass",
    "correlation_length",
    "entropy",
    "far_coherence",
    "far_mass",
    "line",
    "ln_z",
    "local_distance",
    "of_bias",
    "of_encoding",
    "of_model",
    "slopes",
    "window",
]
