"""What encodings are made of: a scheme imports from here, and never another scheme. Read it in this order:

spec.py         LayerSpec, all that a layer's encoding is built from
encoding.py     Encoding and its one final step, `encode`; what it hands to attention and to the next token
logit.py        the formula of one logit
bias.py         the two kinds of bias, elementwise and rowwise
context.py      what a layer knows of its tokens; positions.py where they stand, by index or contextual
visibility.py   which keys a query sees
relative.py     biases of positions; distance.py a kernel of their distance; contextual.py on contextual positions
frequencies.py  how fast planes turn; rotation.py turns them, turned.py by the pair's distance;
                angles.py, random_angles.py, noise.py accumulated ones
normed.py       RMS-normalised queries and keys; visible.py how many keys a query sees, and a factor that grows with it
householder.py  products of Householder steps; curves.py one curve over the distance per query
hosted.py       biases made of another one; compose.py several schemes in one layer
cache.py        what decoding keeps of keys and values; decoding.py of positions
checkpoints.py  weights of a checkpoint that a module of today has no more
"""

from __future__ import annotations

from extrapo.encodings.core.bias import AddedBias, Bias, Elementwise, NoBias, Rowwise
from extrapo.encodings.core.compose import Composed
from extrapo.encodings.core.context import Context, Positions
from extrapo.encodings.core.distance import DistanceBias, distance_bias
from extrapo.encodings.core.encoding import Encoded, Encoding, LayerState, Paper, Transformed, encodings
from extrapo.encodings.core.logit import Additive, Affine, Logit
from extrapo.encodings.core.relative import Relative, index_positions, wide_enough, with_past
from extrapo.encodings.core.spec import LayerSpec
from extrapo.encodings.core.visibility import Visibility

__all__ = [
    "AddedBias",
    "Additive",
    "Affine",
    "Bias",
    "Composed",
    "Context",
    "DistanceBias",
    "Elementwise",
    "Encoded",
    "Encoding",
    "LayerSpec",
    "LayerState",
    "Logit",
    "NoBias",
    "Paper",
    "Positions",
    "Relative",
    "Rowwise",
    "Transformed",
    "Visibility",
    "distance_bias",
    "encodings",
    "index_positions",
    "register",
    "wide_enough",
    "with_past",
]

register = encodings.register
