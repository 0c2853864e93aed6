"""A trained model measured again, under other encodings as well, and recorded; and its biases."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import change

from disks import small_disk
from extrapo.cli import run as extrapo
from extrapo.config import EncodingFormSettings, MeasurementSettings, RunConfig
from extrapo.errors import UserError
from extrapo.location import Location
from extrapo.run.compare import compare
from extrapo.run.evaluate import evaluate, measure, trained_biases
from extrapo.run.fit import Result, fit
from extrapo.run.reporter import Silent
from extrapo.tracking import RecordedRun, runs


def test_evaluating_again_gives_the_same_curve(finished: Result) -> None:
    location = Location.of(finished.config)
    points, train_length = evaluate("last", location, recorded=False)
    assert train_length == 32
    assert [p.length for p in points] == [p.length for p in finished.points]
    assert [p.nll for p in points] == pytest.approx([p.nll for p in finished.points], rel=1e-9)
    assert {p.tokens for p in points} == {p.tokens for p in finished.points} == {1024}, "as many as the run says"
    at_48 = MeasurementSettings(lengths=(48,), eval_tokens=480, impl="reference")
    by_path, _ = evaluate(str(finished.checkpoint), location, settings=at_48, recorded=False)
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


class Lines(Silent):
    """A reporter that keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


SHORT = MeasurementSettings(lengths=(16, 48), eval_tokens=480)


@pytest.fixture(scope="module")
def rope(text: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run of a root of its own, in which these tests record what they measure."""
    root = str(tmp_path_factory.mktemp("rope") / "runs")
    shape = {"layers": 1, "heads": 2, "dim": 16, "encoding": "rope", "seq_len": 32, "tokenizer": "byte"}
    training = {"steps": 2, "batch_size": 4, "val_tokens": 256, "heatmaps": 0, "accelerator": "cpu"}
    return fit(RunConfig(**shape, **training, data=f"text:{text}", lengths=[32], eval_tokens=1024, root=root))


def the_run(result: Result) -> RecordedRun:
    return next(run for run in runs(result.config.root) if run.run_id == result.run_id)


def history(run: RecordedRun, key: str) -> dict[int, float]:
    return {point.step: point.value for point in run.store.client.get_metric_history(run.run_id, key)}


def test_several_encodings_are_measured_and_recorded_beside_the_run_s_own_curve(rope: Result) -> None:
    before = the_run(rope)
    own, blocks, metrics, measured = before.curve, before.blocks, before.metrics, before.measured
    form = EncodingFormSettings(encoding_options={"factor": 2.0})
    names = ["rope", "pi", "yarn", "nope"]
    location = Location.of(rope.config)
    found = measure([rope.run_id], location, settings=SHORT, encodings=names, form=form)
    assert [one.scheme for one in found] == ["rope", "pi, factor 2.0", "yarn, factor 2.0", "nope"]
    plain, _ = evaluate(rope.run_id, location, settings=SHORT, recorded=False)
    assert [point.nll for point in found[0].points] == [point.nll for point in plain]
    assert len({point.nll for one in found for point in one.points}) == 8
    after = the_run(rope)
    assert (after.curve, after.blocks) == (own, blocks)
    assert metrics.items() <= after.metrics.items()
    assert after.measured.keys() - measured.keys() == {one.name for one in found}
    for one in found:
        document = after.measured[one.name]
        assert [row["nll"] for row in document["rows"]] == [point.nll for point in one.points]
        assert sum(document["blocks"]["48"]["tokens"]) == 480
        assert history(after, f"measured/{one.name}/nll") == {point.length: point.nll for point in one.points}


def test_a_quantity_has_one_record_and_another_has_another(rope: Result) -> None:
    location = Location.of(rope.config)

    def name(**changes: Any) -> str:
        settings = SHORT.model_copy(update={key: value for key, value in changes.items() if key != "data"})
        (one,) = measure([rope.run_id], location, settings=settings, data=changes.get("data"))
        return one.name

    first = name()
    assert name() == first
    run = the_run(rope)
    assert len(run.store.client.get_metric_history(run.run_id, f"measured/{first}/ppl")) == 2
    other = [name(protocol="sliding"), name(eval_tokens=96), name(data=f"text:{Path(__file__).parent}")]
    assert len({first, *other}) == 4
    # The same targets at one more length are the same curve.
    assert name(lengths=(16, 24)) == first
    assert [row["length"] for row in the_run(rope).measured[first]["rows"]] == [16, 24, 48]


def test_the_run_s_own_curve_again_is_recorded_already(rope: Result) -> None:
    (again,) = measure([rope.run_id], Location.of(rope.config), settings=MeasurementSettings(eval_tokens=1024))
    assert again.name == "own"
    assert "own" not in the_run(rope).measured


def test_a_folder_that_cannot_be_written_is_measured_all_the_same(rope: Result, tmp_path: Path) -> None:
    for disk in small_disk(tmp_path / "disk", megabytes=16):
        root = shutil.copytree(rope.config.root, disk / "runs")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        reporter = Lines()
        (found,) = measure(["last"], Location(root), reporter, SHORT)
        assert found.name == ""
        assert [line for line in reporter.lines if "not recorded" in line] == [
            f"not recorded: {root} cannot be written"
        ]
    reporter = Lines()
    alone = tmp_path / "sent" / rope.run_id
    shutil.copytree(rope.checkpoint.parent, alone)
    measure([str(alone)], Location(tmp_path / "none"), reporter, SHORT)
    assert any(line.startswith("not recorded: no runs in") for line in reporter.lines)


def test_a_text_that_is_in_the_cache_is_not_tokenized_again(rope: Result) -> None:
    reporter = Lines()
    measure([rope.run_id], Location.of(rope.config), reporter, SHORT, recorded=False)
    assert not any("tokenizing" in line for line in reporter.lines)


def test_several_in_one_table_and_one_document(rope: Result, capsys: pytest.CaptureFixture[str]) -> None:
    before = the_run(rope).measured
    asked = ["evaluate", rope.run_id[:8], "--root", rope.config.root, "--lengths", "16,48", "--eval-tokens", "480"]
    assert extrapo([*asked, "--encoding", "rope", "nope", "--json", "--no-record"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["curve"] == document["curves"][0]["curve"]
    assert [curve["encoding"] for curve in document["curves"]] == ["rope", "nope"]
    assert err.splitlines()[-1] == "perplexity; disjoint windows, stride = length; trained at 32"
    assert the_run(rope).measured == before
    assert extrapo([*asked, "--encoding", "rope", "fire"]) == 2
    assert "'fire' needs weights that a model trained with 'rope' does not have: fire's c" in capsys.readouterr().err
    assert the_run(rope).measured == before


def test_runs_whose_perplexities_are_not_one_quantity_are_set_side_by_side_in_bits(
    rope: Result, small: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    pieces = fit(change(small, encoding="rope", tokenizer="bpe", vocab_size=300, heatmaps=0, lengths=[32]))
    both = [str(rope.checkpoint), str(pieces.checkpoint)]
    assert (
        extrapo(["evaluate", *both, "--no-record", "--root", small.root, "--lengths", "32", "--eval-tokens", "64"]) == 0
    )
    said = capsys.readouterr().out
    assert "bits per byte, since perplexities would not be of one quantity" in said
    assert "their tokenizers differ" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--encoding yarm", "unknown encoding 'yarm'; did you mean"),
        ("--encoding-options.factor 2", "are those of another --encoding: name it"),
        ("--encoding rope nope --encoding-options.factor 2", "none of the encodings rope, nope has an option 'factor'"),
    ],
)
def test_a_mistake_in_an_encoding_is_told_before_a_run_is_looked_for(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert extrapo(["evaluate", "missing.ckpt", *arguments.split()]) == 2
    assert message in capsys.readouterr().err


def test_a_run_in_bfloat16_is_measured_and_compared_in_bfloat16(small: RunConfig) -> None:
    values = {"encoding": "rope", "precision": "bf16-true", "steps": 2, "heatmaps": 0, "lengths": [32, 64]}
    finished, location = fit(change(small, **values)), Location.of(small)
    settings = MeasurementSettings(eval_tokens=small.eval_tokens)
    (again,) = measure(["last"], location, settings=settings)
    assert again.name == "own"
    assert [point.dtype for point in again.points] == ["bfloat16"] * 2
    assert [point.nll for point in again.points] == [point.nll for point in finished.points]
    stretched = EncodingFormSettings(encoding_options={"factor": 2})
    (other,) = measure(["last"], location, settings=settings, encodings=["pi"], form=stretched)
    assert [point.dtype for point in other.points] == ["bfloat16"] * 2
    found = compare(["last", f"last@{other.name}"], location)
    assert [group.name for group in found.groups] == ["rope", "pi, factor 2"]
    assert len(found.differences) == 2
    assert not found.why
