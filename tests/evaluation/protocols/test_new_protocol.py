"""A protocol of somebody else's: one class and one registration, and all that says what a curve means knows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from documents import example
from extrapo import figures
from extrapo.config import RunConfig
from extrapo.errors import UserError
from extrapo.evaluation import PROTOCOLS, Protocol, ScoredWindow, extrapolation_curve, protocol
from extrapo.sweep.cost import operations
from extrapo.terminal import Output

TEXT = np.random.default_rng(0).integers(0, 31, 1025).astype(np.uint16)
LENGTHS = [16, 32, 48, 64]


@PROTOCOLS.register("half-new")
@dataclass(frozen=True)
class HalfNew(Protocol):
    """Windows that move by half their length and score what is new; the first one scores all it has."""

    description = "overlapping windows, stride = length / 2"

    def stride(self, length: int) -> int:
        return max(1, length // 2)

    def targets(self, lengths: Sequence[int], available: int, wanted: int) -> range:
        return range(1, 1 + min(available - 1, max(wanted, *lengths)))

    def windows(self, length: int, targets: range) -> Iterator[ScoredWindow]:
        start, first = targets.start - 1, targets.start
        while first < targets.stop:
            stop = min(start + length, targets.stop - 1)
            yield ScoredWindow(start, stop, first)
            start, first = start + self.stride(length), stop + 1


def by_position(inputs: Tensor, targets: Tensor) -> Tensor:
    """A model that loses 1 / (1 + tokens of past) nats."""
    return (1 / torch.arange(1, inputs.size(1) + 1)).expand(targets.shape)


def test_the_curve_scores_what_the_windows_say() -> None:
    points = extrapolation_curve(by_position, TEXT, LENGTHS, tokens_wanted=1000, protocol_name="half-new")
    assert [point.tokens for point in points] == [1000] * 4
    for point in points:
        half = point.length // 2
        seen = [*range(1, point.length + 1), *(half + 1 + i % half for i in range(1000 - point.length))]
        assert point.nll == pytest.approx(sum(1 / past for past in seen) / 1000, rel=1e-6)
        assert (point.protocol, point.window, point.stride) == ("half-new", point.length, half)
        assert point.windows == 1 + -(-(1000 - point.length) // half)
        assert point.row()["description"] == "overlapping windows, stride = length / 2"


def test_ranks_share_its_windows_out() -> None:
    parts = [
        extrapolation_curve(by_position, TEXT, [48], tokens_wanted=1000, protocol_name="half-new", rank=i, ranks=3)[0]
        for i in range(3)
    ]
    assert sum(part.tokens for part in parts) == 1000


def test_the_model_sees_the_text_around_what_is_scored() -> None:
    seen: list[list[int]] = []

    def score(inputs: Tensor, targets: Tensor) -> Tensor:
        seen.extend(inputs.tolist())
        assert torch.equal(inputs[:, 1:], targets[:, :-1])
        return torch.zeros(targets.shape)

    extrapolation_curve(score, TEXT, [64], tokens_wanted=128, protocol_name="half-new")
    assert seen == [TEXT[start : start + 64].tolist() for start in (0, 32, 64)]


def test_terminal_and_figure_say_it(capsys: pytest.CaptureFixture[str]) -> None:
    points = extrapolation_curve(by_position, TEXT, LENGTHS, tokens_wanted=1000, protocol_name="half-new")
    rows = [point.row() for point in points]
    output = Output()
    output.console = Console(width=120)
    output.curve(rows, train_length=32)
    said = capsys.readouterr().out
    assert "protocol: overlapping windows, stride = length / 2, the same 1,000 tokens at every length" in said
    assert "disjoint" not in said
    figure = figures.curve_figure({"k-cable": rows}, train_length=32, title="")
    caption = figure.get_supxlabel()
    said = "protocol: overlapping windows, stride = length / 2 · 1,000 tokens scored per length"
    assert caption == f"{said} · bands: 95%, other texts of the kind"


def test_the_estimate_counts_what_it_reads() -> None:
    assert protocol("half-new").tokens_read([64], 640) == {64: 64 * 19}

    def cost(name: str) -> float:
        run = RunConfig(encoding="nope", layers=1, steps=1, val_tokens=1, lengths=(64,), eval_tokens=640, protocol=name)
        return operations(run)[1]

    run = RunConfig(layers=1).resolved()
    assert run.dim is not None
    a_token = 2 * (12 * run.dim**2 + run.vocab_size * run.dim) + 2 * run.dim * 64
    assert cost("half-new") - cost("disjoint") == pytest.approx((64 * 19 - 640) * a_token)


class AllScored(HalfNew):
    """The same windows, with every prediction scored."""

    def windows(self, length: int, targets: range) -> Iterator[ScoredWindow]:
        return (window._replace(first_target=window.start + 1) for window in super().windows(length, targets))


def test_one_that_scores_tokens_twice_is_refused() -> None:
    PROTOCOLS.register("half-new-all-scored")(AllScored)
    with pytest.raises(UserError, match="'half-new-all-scored' at length 16: token 9 is scored twice"):
        extrapolation_curve(by_position, TEXT, LENGTHS, tokens_wanted=1000, protocol_name="half-new-all-scored")


def test_the_one_that_the_guide_shows() -> None:
    if "three-quarters" not in PROTOCOLS:
        exec(compile(example("three_quarters.py"), "three_quarters.py", "exec"), {"__name__": "three-quarters"})
    points = extrapolation_curve(by_position, TEXT, LENGTHS, tokens_wanted=1000, protocol_name="three-quarters")
    assert [(point.tokens, point.stride) for point in points] == [(960, length // 4) for length in LENGTHS]
    for length, windows in protocol("three-quarters").cover(LENGTHS, 1025, 1000).items():
        assert all(window.size == length for window in windows)
        assert all(window.unscored >= 3 * length // 4 for window in windows[1:])
