"""Randomized positional encodings (Ruoss et al., 2305.16843; code google-deepmind/randomized_positional_encodings).

Training draws its T positions from a range that is longer than any text, 0..L-1: sorted, the same for the batch and all
layers, new at every pass. So each distance up to L has been seen before a long text comes. `randomized-rope` is
`randomized+rope`, and so for any encoding of index positions.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from extrapo.encodings.core.context import Positions
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.noise import Draws, uniform
from extrapo.encodings.core.positions import wide
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import NotApplicable, UserError

Mode = Literal["sample", "offset"]
Evaluation = Literal["stratified", "sampled"]

#: Evaluation goes to 16 times the training length.
CAPACITY = 16
#: The paper's range, 2048 for texts of up to 500 tokens, is 4 times its longest text.
SPREAD = 4


class RandomPositions(nn.Module):
    """Where tokens stand: at random, increasing positions. The arguments are Randomized's.

    Args:
        train_length: T.
        max_length: L.
        capacity: tokens of the longest text at evaluation.
        mode: what training draws.
        evaluation: what evaluation draws, in mode `sample`.
        seed: of the draws.

    Raises:
        UserError: a range too short for the training length or for the capacity.
    """

    def __init__(
        self,
        train_length: int,
        *,
        max_length: int | None = None,
        capacity: int | None = None,
        mode: Mode = "sample",
        evaluation: Evaluation = "stratified",
        seed: int = 0,
    ) -> None:
        super().__init__()
        wanted = capacity or CAPACITY * train_length
        self.max_length = max_length or SPREAD * wanted
        self.capacity = capacity or min(wanted, self.max_length)
        self.mode, self.evaluation, self.seed = mode, evaluation, seed
        self.draws = Draws()
        for name, least in (("the training length", train_length), ("capacity", self.capacity)):
            if self.max_length < least:
                raise UserError(
                    f"encoding 'randomized': max_length must be at least {name} {least}, not {self.max_length}"
                )

    def forward(self, tokens: Tensor, start: int, state: Any) -> Positions:
        """(B, T) tokens after `start` others -> positions (1, 1, T).

        Raises:
            NotApplicable: a text longer than the range.
        """
        stop, draw = start + tokens.size(1), self.draws()
        order = torch.arange(start, stop, device=tokens.device)
        if self.mode == "offset":
            positions = self.shifted(order, stop, draw)
        elif self.training or self.evaluation == "sampled":
            positions = self.sampled(start, stop, draw)
        else:
            positions = self.stratified(order, stop)
        return Positions(positions.to(wide(positions)).view(1, 1, -1), None, None)

    def sampled(self, start: int, stop: int, draw: Tensor) -> Tensor:
        """(T,) positions drawn without replacement, sorted: those of the T smallest of L random numbers."""
        if start:
            raise UserError(
                "encoding 'randomized' draws the positions of a whole text at once in training and with "
                "evaluation = sampled; decode in evaluation mode with evaluation = stratified"
            )
        self.require(stop, self.max_length, "max_length")
        numbers = uniform(self.seed, draw, torch.arange(self.max_length, device=draw.device))
        return numbers.topk(stop, largest=False).indices.sort().values

    def stratified(self, order: Tensor, stop: int) -> Tensor:
        """(T,) positions, token t's from the t-th of `capacity` equal parts of the range, whatever comes after it."""
        self.require(stop, self.capacity, "capacity")
        first, after = (rank * self.max_length // self.capacity for rank in (order, order + 1))
        return first + (uniform(self.seed, order) * (after - first)).long()

    def shifted(self, order: Tensor, stop: int, draw: Tensor) -> Tensor:
        """(T,) positions o, o + 1, ..., the offset o drawn in training so that they stay in the range, else 0."""
        if not self.training:
            return order
        self.require(stop, self.max_length, "max_length")
        return order + (uniform(self.seed, draw) * (self.max_length - stop + 1)).long()

    def require(self, stop: int, limit: int, option: str) -> None:
        """Raise NotApplicable where the text is longer than `limit` tokens."""
        if stop > limit:
            raise NotApplicable(
                f"not applicable: encoding 'randomized' has positions for {limit} tokens ({option}), "
                f"and the text has {stop}"
            )


@encodings.register("randomized")
class Randomized(Encoding):
    """Random increasing positions for the encoding that it is joined to; by itself it does nothing.

    In mode `sample`, training draws T of the L positions without replacement. At evaluation, `stratified` (default)
    draws the position of token t from the t-th of `capacity` equal parts of the range: near the authors' draw for a
    text of `capacity` tokens, and for a shorter text the beginning of that, so that decoding equals the parallel pass.
    `sampled` is the authors': T positions spread over the whole range, however short the text; it cannot decode step
    by step. Draws at evaluation repeat themselves; another `seed` gives others.

    In mode `offset`, training shifts all positions by one random offset (SHAPE, Kiyono et al., 2109.05644; TAPE's code,
    2501.00712), evaluation starts at 0.

    Args:
        max_length: L; by default 4 times the capacity, as the paper's 2,048 for texts of up to 500 tokens.
        capacity: tokens of the longest text at evaluation; by default 16 times the training length, at most L.
        mode: `sample` or `offset`.
        evaluation: `stratified` or `sampled`.
        seed: of the draws.
    """

    paper = Paper(
        "Ruoss et al., 2305.16843",
        "index",
        summary="positions drawn from a longer range, for any encoding of the index: randomized-rope",
        year=2023,
    )

    def __init__(
        self,
        spec: LayerSpec,
        *,
        max_length: int | None = None,
        capacity: int | None = None,
        mode: Mode = "sample",
        evaluation: Evaluation = "stratified",
        seed: int = 0,
    ) -> None:
        super().__init__(spec)
        self.options: dict[str, Any] = {
            "max_length": max_length,
            "capacity": capacity,
            "mode": mode,
            "evaluation": evaluation,
            "seed": seed,
        }
        self.whole = mode == "sample" and evaluation == "sampled"

    def exemptions(self) -> dict[str, str]:
        why = "positions are drawn for a whole text at once, and depend on its length"
        return dict.fromkeys(("decoding", "packing"), why) if self.whole else {}

    def source(self) -> nn.Module:
        return RandomPositions(self.spec.train_length, **self.options)
