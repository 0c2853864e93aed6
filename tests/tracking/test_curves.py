"""A curve is drawn once per chart, whatever is measured again; the table is always the latest."""

import csv
import json
import math
from pathlib import Path

import pytest

from extrapo.tracking.curves import DOUBLINGS, read_sheet


def history(recorder, key):
    points = recorder.store.client.get_metric_history(recorder.run_id, key)
    return sorted((point.step, point.value) for point in points)


def table(recorder):
    path = recorder.store.client.download_artifacts(recorder.run_id, "curves/extrapolation.json")
    return json.loads(Path(path).read_text())


def record(recorder, rows, step=300):
    return recorder.curve(rows, train_length=64, encoding="k-cable", step=step)


def test_a_curve_is_scalars_table_sheet_and_picture(recorder, rows):
    curve = rows({128: 9.5, 64: 8.0, 256: None})
    picture = record(recorder, curve)
    assert history(recorder, "extrapolation/ppl") == [(64, 8.0), (128, 9.5)]
    assert history(recorder, "extrapolation/nll") == [(64, math.log(8)), (128, math.log(9.5))]
    assert history(recorder, "ppl/000128") == [(300, 9.5)]
    assert history(recorder, "ppl/000256") == []
    assert history(recorder, "extrapolation/ppl over ppl at T") == [(64, 1.0), (128, 9.5 / 8)]
    assert history(recorder, DOUBLINGS) == [(64, 0.0), (128, 1.0)]
    shown = table(recorder)
    assert [row[shown["columns"].index("ppl")] for row in shown["data"]] == [8.0, 9.5, None]
    tags = recorder.store.client.get_run(recorder.run_id).data.tags
    assert json.loads(tags["mlflow.loggedArtifacts"]) == [{"path": "curves/extrapolation.json", "type": "table"}]
    assert picture == recorder.folder / "extrapolation.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    with (recorder.folder / "extrapolation.csv").open() as sheet:
        assert [row["length"] for row in csv.DictReader(sheet)] == ["64", "128", "256"]
    names = {artifact.path for artifact in recorder.store.client.list_artifacts(recorder.run_id, "curves")}
    assert names == {f"curves/extrapolation.{kind}" for kind in ("json", "csv", "png")}


def test_columns_have_five_figures_and_the_curve_all(recorder, rows):
    record(recorder, rows({64: 8.123456789}))
    assert history(recorder, "ppl/000064") == [(300, 8.1235)]
    assert history(recorder, "extrapolation/ppl") == [(64, 8.123456789)]


def test_without_t_among_the_lengths_nothing_is_over_it(recorder, rows):
    record(recorder, rows({128: 9.0, 32: 8.0}))
    assert history(recorder, "extrapolation/ppl over ppl at T") == []
    assert history(recorder, DOUBLINGS) == [(32, -1.0), (128, 1.0)]


def test_a_run_is_described_by_its_curve_unless_somebody_has(recorder, rows):
    record(recorder, rows({64: 8.0, 128: 9.5}))
    note = recorder.store.client.get_run(recorder.run_id).data.tags["mlflow.note.content"]
    assert "| 128 | 2 | 9.50 | 1.188 |" in note
    assert recorder.run_id in note
    record(recorder, rows({64: 8.0, 256: 9.0}))
    assert "| 256 | 4 |" in recorder.store.client.get_run(recorder.run_id).data.tags["mlflow.note.content"]
    recorder.tag("mlflow.note.content", "mine")
    record(recorder, rows({64: 8.0}))
    assert recorder.store.client.get_run(recorder.run_id).data.tags["mlflow.note.content"] == "mine"


def test_infinity_is_capped_in_charts(recorder, rows):
    record(recorder, rows({64: 8.0, 128: math.inf}))
    assert history(recorder, "extrapolation/ppl")[-1] == (128, 1e6)
    assert history(recorder, "ppl/000128") == [(300, 1e6)]


def test_measuring_again_adds_lengths_but_never_a_second_value(recorder, rows):
    record(recorder, rows({64: 8.0, 128: 9.0}))
    record(recorder, rows({64: 8.5, 128: 9.5, 256: 10.0}))
    assert history(recorder, "extrapolation/ppl") == [(64, 8.0), (128, 9.0), (256, 10.0)]
    assert history(recorder, "ppl/000064") == [(300, 8.0)]
    shown = table(recorder)
    assert [row[shown["columns"].index("ppl")] for row in shown["data"]] == [8.5, 9.5, 10.0]


def test_a_curve_after_more_training_is_a_chart_of_its_own(recorder, rows):
    record(recorder, rows({64: 8.0}), step=300)
    record(recorder, rows({64: 7.0}), step=600)
    assert history(recorder, "extrapolation/ppl") == [(64, 8.0)]
    assert history(recorder, "extrapolation/ppl step 000600") == [(64, 7.0)]
    assert history(recorder, "ppl/000064") == [(300, 8.0), (600, 7.0)]


@pytest.mark.parametrize("curve", [{64: None}, {}])
def test_a_curve_without_any_value_is_still_recorded(recorder, rows, curve):
    assert record(recorder, rows(curve)).is_file()
    assert len(table(recorder)["data"]) == len(curve)


def test_the_sheet_reads_back_as_it_was_recorded(recorder, rows):
    curve = [{**row, "corpus_sha256": "1" * 64, "stride": None, "description": ""} for row in rows({64: 8.0, 128: 1e9})]
    curve.append({**curve[0], "length": 256, "nll": None, "ppl": None, "note": "past its table"})
    record(recorder, curve)
    assert read_sheet(recorder.folder) == curve
    assert read_sheet(recorder.folder / "none") == []


def test_losses_by_position_are_files_beside_the_curve(recorder, rows):
    at = {"first": 1, "last": 1, "nll": 3.5, "low": None, "high": None, "tokens": 7}
    curve = [{**row, "positions": [at, {**at, "first": 2, "last": 64, "nll": math.inf}]} for row in rows({64: 8.0})]
    record(recorder, curve)
    path = recorder.store.client.download_artifacts(recorder.run_id, "curves/positions.json")
    first, second = json.loads(Path(path).read_text())
    assert first == {"length": 64, **at}
    assert (second["first"], second["nll"]) == (2, None)
    with (recorder.folder / "positions.csv").open() as sheet:
        assert [row["nll"] for row in csv.DictReader(sheet)] == ["3.5", "inf"]
    assert (recorder.folder / "positions.png").read_bytes().startswith(b"\x89PNG")
    assert "positions" not in table(recorder)["columns"]
    assert "positions" not in read_sheet(recorder.folder)[0]
