"""The pictures of a run that are drawn when asked for: what they show, and what they say of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from extrapo.figures.gain import gain_figure
from extrapo.figures.kernel_forms import kernel_figure
from extrapo.figures.mean_bias import mean_bias_figure, normalised
from extrapo.figures.passage import WIDTH, layout, passage_figure
from extrapo.figures.sentence_bias import even, sentence_figure
from extrapo.figures.shades import bias_shade

Texts = Callable[[Any], str]


def causal(heads: int, length: int, slope: float = -1.0) -> np.ndarray[Any, Any]:
    distance = np.arange(length)[:, None] - np.arange(length)[None]
    bias = np.stack([slope * (head + 1) * distance for head in range(heads)]).astype(np.float32)
    bias[:, distance < 0] = -np.inf
    return bias


def test_the_mean_over_heads_is_over_its_largest_size() -> None:
    one = normalised(causal(2, 8, slope=-3.0))
    assert np.nanmin(one) == pytest.approx(-1.0)
    assert one[7, 3] == pytest.approx(-4 / 7)
    assert np.isnan(one[0, 1])


def test_two_matrices_and_their_lines(texts: Texts) -> None:
    figure = mean_bias_figure(causal(2, 8), causal(2, 8), name="cable", caption="on a text", train_length=4)
    line, ours, alibi, *_ = figure.axes
    np.testing.assert_allclose(line.lines[0].get_ydata(), -np.arange(8) / 7, atol=1e-12)
    assert [ours.get_title(loc="left"), alibi.get_title(loc="left")] == ["cable", "ALiBi"]
    assert "T = 4" in texts(figure)


def test_a_sentence_has_its_tokens_on_the_axes_and_its_values_in_the_cells(texts: Texts) -> None:
    figure = sentence_figure([causal(3, 4), causal(3, 4, -2.0)], [" a", "$b", "\n", ""], title="it", caption="why")
    said = texts(figure)
    assert all(token in said for token in ("·a", r"\$b", "⏎", "∅", "-9", "layer 1", "head 2"))
    assert "-0" not in said.split("\n")


def test_of_many_heads_some_are_chosen_and_named() -> None:
    figure = sentence_figure([causal(20, 2)], ["a", "b"], title="it", caption="why")
    assert figure.get_supxlabel() == "why; heads 0, 3, 5, 8, 11, 14, 16, 19 of 20"
    assert even(9, 6) == [0, 2, 3, 5, 6, 8]


def test_a_passage_is_coloured_by_increments(texts: Texts) -> None:
    clock = np.array([[0.0, 1.0, 5.0], [0.0, 2.0, 3.0]])
    figure = passage_figure(clock, ["one", " two", " three"], title="it", caption="why")
    first = figure.axes[0]
    _, slow, fast = (patch.get_facecolor() for patch in first.patches)
    assert sum(slow[:3]) < sum(fast[:3])
    assert "·three" in texts(figure)


def test_words_are_laid_out_in_lines() -> None:
    places = layout(["x" * 60, "y" * 60, "z" * 10])
    assert places == [(0, 0), (1, 0), (1, 60)]
    assert layout(["w" * (WIDTH + 9)]) == [(0, 0)]


def test_context_gain_is_the_loss_at_the_shortest_less_the_loss_at_each() -> None:
    rows = [{"length": n, "nll": loss, "spread": 0.1} for n, loss in ((8, 3.0), (16, 2.5), (32, 2.75), (64, None))]
    (axes,) = gain_figure({"rope": rows, "nope": rows[:1]}, train_length=16, title="").axes
    assert list(axes.lines[0].get_xdata()) == [8, 16, 32]
    assert list(axes.lines[0].get_ydata()) == [0.0, 0.5, 0.25]
    assert any("T = 16" in text.get_text() for text in axes.texts)


def test_kernels_stand_side_by_side(texts: Texts) -> None:
    figure = kernel_figure(("linear", "log"))
    linear, log = figure.axes
    assert "linear ↓" in texts(figure)
    assert min(y for y in linear.lines[0].get_ydata() if np.isfinite(y)) >= -30
    assert log.lines[0].get_ydata()[0] == pytest.approx(-np.log(2.0), rel=1e-5)


def test_signed_biases_have_white_at_zero_and_say_where_they_are_cut() -> None:
    values = np.concatenate([np.linspace(-1, 1, 1000), [9.0, -4.0]])
    shade = bias_shade(values)
    assert shade.cmap == "RdBu_r"
    assert shade.low == -shade.high
    assert shade.extend == "both"
    assert "clipped" in shade.label
    assert bias_shade(-np.abs(values)).cmap == "viridis"
    assert bias_shade(np.array([-np.inf, np.nan])).extend == "neither"
