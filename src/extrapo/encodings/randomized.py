"""Randomized positional encodings (Ruoss et al., 2305.16843; code google-deepmind/randomized_positional_encodings).

    positions   t -> p_t, T of 0..L-1, sorted                       distances p_i - p_j
    distances   n -> d_n, d_0 = 0, the others of 1..L-1, sorted     distances d_(i-j), the same along each diagonal

Training draws from a range that is longer than any text: the same for the batch, for each layer another (or one for
all), new at every pass. So each distance up to L has been seen before a long text comes. `randomized-rope` is
`randomized+rope`, and so for any encoding of index positions. The authors draw distances for ALiBi and Transformer-XL,
positions for RoPE and what is added to the embeddings.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from extrapo.config.values import Count
from extrapo.encodings.core.bias import Bias, NoBias
from extrapo.encodings.core.context import Context, Positions
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.noise import Draws, uniform
from extrapo.encodings.core.positions import wide
from extrapo.encodings.core.relative import Relative
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import NotApplicable, UserError

Mode = Literal["sample", "offset"]
Evaluation = Literal["stratified", "sampled"]
Sampling = Literal["positions", "distances"]
Draw = Literal["layer", "model"]

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
        layer: whose draws they are; None where all layers have the same.

    Raises:
        UserError: a range too short for the training length or for the capacity.
    """

    def __init__(
        self,
        train_length: int,
        *,
        max_length: Count | None = None,
        capacity: Count | None = None,
        mode: Mode = "sample",
        evaluation: Evaluation = "stratified",
        seed: int = 0,
        layer: int | None = None,
    ) -> None:
        super().__init__()
        wanted = capacity or CAPACITY * train_length
        self.max_length = max_length or SPREAD * wanted
        self.capacity = capacity or min(wanted, self.max_length)
        self.mode, self.evaluation, self.seed = mode, evaluation, seed
        # A key more for `uniform`, and none where there is one draw for all, as it was before layers had theirs.
        self.keys = (seed,) if layer is None else (seed, layer + 1)
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

    def distances(self, start: int, stop: int, x: Tensor) -> Tensor:
        """(S,) what distances of n = 0..stop-1 tokens count as, d_0 = 0, in the wide dtype on the device of `x`."""
        draw, most = self.draws(), self.max_length - 1
        if self.training or self.evaluation == "sampled":
            drawn = self.lowest(start, stop - 1, draw, most)
        else:
            self.require(stop, self.capacity, "capacity")
            drawn = self.strata(torch.arange(stop - 1, device=draw.device), most, max(1, self.capacity - 1))
        return torch.cat([drawn.new_zeros(1), drawn + 1]).to(x.device, wide(x))

    def sampled(self, start: int, stop: int, draw: Tensor) -> Tensor:
        """(T,) positions drawn without replacement, sorted: those of the T smallest of L random numbers."""
        return self.lowest(start, stop, draw, self.max_length)

    def lowest(self, start: int, count: int, draw: Tensor, most: int) -> Tensor:
        """(count,) of the numbers 0..most-1, drawn without replacement, sorted."""
        if start:
            raise UserError(
                "encoding 'randomized' draws the positions of a whole text at once in training and with "
                "evaluation = sampled; decode in evaluation mode with evaluation = stratified"
            )
        self.require(count, most, "max_length")
        numbers = uniform(*self.keys, draw, torch.arange(most, device=draw.device))
        return numbers.topk(count, largest=False).indices.sort().values

    def stratified(self, order: Tensor, stop: int) -> Tensor:
        """(T,) positions, token t's from the t-th of `capacity` equal parts of the range, whatever comes after it."""
        self.require(stop, self.capacity, "capacity")
        return self.strata(order, self.max_length, self.capacity)

    def strata(self, order: Tensor, most: int, parts: int) -> Tensor:
        """A number of each of the parts `order`, of equal parts of 0..most-1."""
        first, after = (rank * most // parts for rank in (order, order + 1))
        return first + (uniform(*self.keys, order) * (after - first)).long()

    def shifted(self, order: Tensor, stop: int, draw: Tensor) -> Tensor:
        """(T,) positions o, o + 1, ..., the offset o drawn in training so that they stay in the range, else 0."""
        if not self.training:
            return order
        self.require(stop, self.max_length, "max_length")
        return order + (uniform(*self.keys, draw) * (self.max_length - stop + 1)).long()

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

    With `sampling` = `distances` it is not positions that are drawn but what distances count as, d_1 < d_2 < ... of
    1..L-1: each distance of n tokens is d_n, wherever its two tokens stand. That needs a bias of the distance alone.

    In mode `offset`, training shifts all positions by one random offset (SHAPE, Kiyono et al., 2109.05644; TAPE's code,
    2501.00712), evaluation starts at 0.

    Args:
        max_length: L; by default 4 times the capacity, as the paper's 2,048 for texts of up to 500 tokens.
        capacity: tokens of the longest text at evaluation; by default 16 times the training length, at most L.
        mode: `sample` or `offset`.
        evaluation: `stratified` or `sampled`.
        seed: of the draws.
        sampling: `positions`, or `distances` as the authors do for ALiBi and Transformer-XL; in mode `sample` alone.
        draw: another one for each `layer`, as the authors for all that acts in layers, or one for the `model`.
    """

    paper = Paper(
        "Ruoss et al., 2305.16843",
        "index",
        summary="positions drawn from a longer range, for any encoding of the index: randomized-rope",
        year=2023,
    )

    wraps_first = True

    def __init__(
        self,
        spec: LayerSpec,
        *,
        max_length: Count | None = None,
        capacity: Count | None = None,
        mode: Mode = "sample",
        evaluation: Evaluation = "stratified",
        seed: int = 0,
        sampling: Sampling = "positions",
        draw: Draw = "model",
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
        self.of_distances = mode == "sample" and sampling == "distances"
        #: what this layer draws for itself; None where the model's source says where tokens stand.
        self.own: RandomPositions | None = None
        if mode == "sample" and (self.of_distances or draw == "layer"):
            layer = spec.layer if draw == "layer" else None
            self.own = RandomPositions(spec.train_length, **self.options, layer=layer)
            # Weights that were saved when all layers had the model's draw.
            self.register_load_state_dict_pre_hook(begin_at_the_first_draw)  # type: ignore[no-untyped-call]

    def exemptions(self) -> dict[str, str]:
        why = "positions are drawn for a whole text at once, and depend on its length"
        clauses = dict.fromkeys(("decoding", "packing"), why) if self.whole else {}
        if self.own is not None and not self.of_distances:
            clauses["translation"] = "each layer draws its positions by the places of the tokens in the text"
        return clauses

    def source(self) -> nn.Module:
        return RandomPositions(self.spec.train_length, **self.options)

    def place(self, context: Context) -> Context:
        if self.own is None:
            return context
        start, count = context.start, context.index.size(-1)
        order = torch.arange(start, start + count, device=context.index.device)
        if self.of_distances:
            places = order.to(context.index.dtype).view(1, 1, -1)
            return replace(context, index=places, counted=places)
        return replace(context, index=self.own(order.unsqueeze(0), start, None).index.to(context.index.dtype))

    def wrap(self, bias: Bias, x: Tensor, context: Context | None) -> Bias:
        if self.own is None or not self.of_distances or isinstance(bias, NoBias):
            return bias
        if not isinstance(bias, Relative):
            raise UserError("encoding 'randomized': sampling = distances needs a bias of the distance alone beside it")
        queries, keys = bias.shape[2:]
        return bias.at_distances(self.own.distances(keys - queries, keys, x))


def begin_at_the_first_draw(module: nn.Module, state: dict[str, Any], prefix: str, *rest: object) -> None:
    """A checkpoint without the layer's own count of draws has it at 0."""
    state.setdefault(f"{prefix}own.draws.count", torch.zeros((), dtype=torch.int64))
