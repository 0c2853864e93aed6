"""The family of an encoding: what it does to attention, and whether that depends on the tokens."""

from __future__ import annotations

from extrapo.encodings import get, paper, split


def family(encoding: str) -> str:
    """One of `known.FAMILIES`, by what its class says of itself: of a composition, that of a part that says where
    tokens stand, else of the first that adds a bias, or of the first.

    Raises:
        UserError: there is no such encoding.
    """
    parts = split(encoding)
    steps = {part: get(part).own_steps for part in parts}
    if any("source" in own for own in steps.values()):
        return "sampled or segmented"
    part = next((part for part in parts if paper(part).kernel != "-"), parts[0])
    cls, one = get(part), paper(part)
    if "embedding" in steps[part]:
        return "added to the embeddings"
    if cls.bias_kind == "owns" and (cls.query_key == "read" or one.kernel != "-"):
        return "own logits"
    if cls.bias_kind == "adds":
        return "contextual bias" if one.is_contextual else "static bias"
    if one.transform != "-":
        return "contextual transform" if one.is_contextual else "rotation"
    return "own logits" if one.is_contextual else "no position" if one.positions == "-" else "static bias"
