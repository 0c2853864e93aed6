"""A trained model measured again, and its biases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_runs import change

from extrapo.config import MeasurementSettings, RunConfig
from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.run.evaluate import evaluate, trained_biases
from extrapo.run.fit import Result, fit
from extrapo.tracking import runs


def test_evaluating_again_gives_the_same_curve(finished: Result) -> None:
    location = Location.of(finished.config)
    points, train_length = evaluate("last", location, settings=MeasurementSettings(eval_tokens=1024))
    assert train_length == 32
    assert [p.length for p in points] == [p.length for p in finished.points]
    assert [p.nll for p in points] == pytest.approx([p.nll for p in finished.points], rel=1e-9)
    at_48 = MeasurementSettings(lengths=(48,), eval_tokens=480, impl="reference")
    by_path, _ = evaluate(str(finished.checkpoint), location, settings=at_48)
    assert [(p.length, p.tokens) for p in by_path] == [(48, 480)]


def test_other_text_is_cut_by_the_model_s_own_tokenizer(small: RunConfig, tmp_path: Path) -> None:
    result = fit(change(small, tokenizer="bpe", vocab_size=300, steps=1, heatmaps=0))
    other = tmp_path / "other.txt"
    other.write_text("\n\n".join(f"Paragraph {i}: nothing like Python at all." for i in range(400)))
    at_32 = MeasurementSettings(lengths=(32,), eval_tokens=64)
    points, _ = evaluate(str(result.checkpoint), Location.of(small), settings=at_32, data=f"text:{other}")
    assert points[0].tokens == 64


def test_the_heatmap_is_the_bias_of_the_checkpoint(finished: Result) -> None:
    (run,) = runs(finished.config.root)
    title, biases = trained_biases(finished.checkpoint, 32)
    assert title == "k-cable after 6 steps"
    np.testing.assert_allclose(run.heatmaps()[6][0], biases[0], rtol=2e-3, atol=2e-3)
    with pytest.raises(UserError, match=r"not 10,000,000"):
        trained_biases(finished.checkpoint, 10_000_000)


def test_a_device_that_does_not_exist(finished: Result) -> None:
    with pytest.raises(UserError, match="`device` must be auto, cpu or cuda, not 'tpu'"):
        evaluate(str(finished.checkpoint), Location.of(finished.config), device="tpu")
