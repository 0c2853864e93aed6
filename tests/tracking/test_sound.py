"""A damaged artifact is one line that names its run; nothing in it is believed."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extrapo.errors import MachineError, UserError
from extrapo.tracking import sound
from extrapo.tracking.measured import read_measured
from extrapo.tracking.reading import RecordedRun
from extrapo.tracking.sound import read_of

CURVE, BLOCKS, CONFIG, BIASES = (
    "curves/extrapolation.json",
    "curves/blocks.json",
    "config.yaml",
    "biases/step-000002.npz",
)


def run(folder: Path, **tags: str) -> RecordedRun:
    """A run whose artifacts lie in a folder."""
    tags = {"extrapo.train_length": "32"} | {f"extrapo.{name}": value for name, value in tags.items()}
    store: Any = None
    return RecordedRun(store, "b4fe3feb08364cf5", "one", "alibi", "FINISHED", tags, {}, str(folder))


def read(of: RecordedRun, what: str) -> Any:
    """A property of a run, or what a method gives."""
    found = getattr(of, what)
    return found() if callable(found) else found


def pickled() -> bytes:
    file = BytesIO()
    np.savez(file, a=np.array([{}], dtype=object))
    return file.getvalue()


DAMAGED: list[tuple[str, str, str | bytes, str]] = [
    *(
        ("curve", CURVE, content, "")
        for content in ("", "{", "[]", "3", "null", '{"columns": 3}', "[" * 100_000, b"\xff")
    ),
    ("curve", CURVE, '{"columns": ["length"], "data": [[1, 2]]}', ""),
    ("curve", CURVE, '{"columns": ["length", "nll", "ppl"], "data": [["x", 1, 2]]}', "'x' is no length"),
    ("curve", CURVE, '{"columns": ["length", "nll", "ppl"], "data": [[0, 1, 2]]}', "0 is no length"),
    ("curve", CURVE, '{"columns": ["length", "nll", "ppl"], "data": [[32, "1", 2]]}', "'1' is no nll"),
    ("curve", CURVE, '{"columns": ["length", "nll"], "data": [[32, 1]]}', "'ppl'"),
    *(("blocks", BLOCKS, content, "") for content in ("", "[]", '{"32": 3}', '{"x": {"nll": [1], "tokens": [1]}}')),
    ("blocks", BLOCKS, '{"32": {"nll": ["a"], "tokens": [1]}}', "no numbers side by side"),
    ("blocks", BLOCKS, '{"32": {"nll": [1, 2], "tokens": [1]}}', "no numbers side by side"),
    ("blocks", BLOCKS, '{"32": {"nll": [], "tokens": []}}', "no numbers side by side"),
    *(("config", CONFIG, content, "a mapping of settings is expected") for content in ("", "[]", "just text")),
    *(("heatmaps", BIASES, content, "") for content in (b"", b"PK\3\4", b"x" * 100, pickled())),
]


@pytest.mark.parametrize(("what", "artifact", "content", "says"), DAMAGED, ids=lambda value: ascii(value)[:24])
def test_a_damaged_artifact(what: str, artifact: str, content: str | bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / artifact
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=f"run b4fe3feb: its {artifact} is damaged: .*{says}") as told:
        read(run(tmp_path), what)
    assert "\n" not in str(told.value)


def test_a_sound_curve_with_no_numbers_in_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "curves").mkdir()
    (tmp_path / CURVE).write_text(
        '{"columns": ["length", "nll", "ppl"], "data": [[32, NaN, Infinity], [64, null, null]]}'
    )
    assert [row["length"] for row in run(tmp_path).curve] == [32, 64]


@pytest.mark.parametrize("length", ["x", "-1", "0", "1e9"])
def test_a_training_length_that_is_none(length: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its training length is damaged"):
        _ = run(tmp_path, train_length=length).train_length


@pytest.mark.parametrize("content", ["", "[]", '{"rows": 3}', '{"rows": [], "blocks": {}, "own_encoding": false}'])
def test_a_later_curve_that_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "x.json").write_text(content)
    with pytest.raises(UserError, match="its curve that was measured later is damaged"):
        read_measured(tmp_path)


def test_what_cannot_be_had_is_no_damage() -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MachineError, match=r"cannot be read from where it lies: gone"), read_of("b4fe3feb08", "x.json"):
        raise MlflowException("gone")
    with pytest.raises(PermissionError), read_of("b4fe3feb08", "x.json"):
        raise PermissionError


@given(
    st.recursive(
        st.floats() | st.integers() | st.none(),
        lambda one: st.lists(one) | st.dictionaries(st.text(), one),
    )
)
@example({"\udcff": [1.5]})
def test_numbers_are_those_of_pythons_own_module(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "numbers.json"
    file.write_text(json.dumps(document), "utf-8")
    # NaN is none of its kind.
    assert repr(sound.numbers_of(file)) == repr(json.loads(file.read_text("utf-8")))
