"""The YAML of a sweep: its cells, its conditions, and what it refuses in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from extrapo.errors import UserError
from extrapo.sweep.spec import Range, SweepSpec, read_spec


def spec(**changes: Any) -> SweepSpec:
    return SweepSpec(**{"name": "mine", "space": {"layers": [2, 4]}, "objective": "ppl@16T", **changes})


def test_a_grid_is_every_combination_once_in_the_written_order() -> None:
    made = spec(
        space={"kernel": ["linear", "log"], "seed": {"from": 0, "to": 4, "step": 2}}, fixed={"encoding": "cable"}
    )
    cells = made.cells()
    assert cells == [{"kernel": kernel, "seed": seed} for kernel in ("linear", "log") for seed in (0, 2, 4)]
    assert made.size == 6


def test_a_condition_leaves_a_key_out_where_it_does_not_hold() -> None:
    made = spec(
        space={"encoding": ["rope", "cable", "alibi"], "kernel": ["linear", "log"]},
        conditions={"kernel": {"encoding": ["cable", "alibi"]}},
    )
    assert made.cells() == [
        {"encoding": "rope"},
        *({"encoding": encoding, "kernel": kernel} for encoding in ("cable", "alibi") for kernel in ("linear", "log")),
    ]


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    condition=st.booleans(),
)
def test_no_cell_comes_twice(sizes: list[int], condition: bool) -> None:
    keys = ["layers", "seed", "heads", "steps"]
    space = {key: list(range(1, size + 1)) for key, size in zip(keys, sizes, strict=False)}
    conditions = {keys[1]: {keys[0]: [1]}} if condition and len(sizes) > 1 else {}
    cells = spec(space=space, conditions=conditions).cells()
    assert len({tuple(cell.items()) for cell in cells}) == len(cells) <= spec(space=space).size
    if not conditions:
        assert len(cells) == spec(space=space).size


def test_parts_of_an_encoding_are_joined() -> None:
    made = spec(space={"encoding.transform": ["none", "rope"], "encoding.bias": ["none", "cable"]})
    assert [made.settings(cell).encoding for cell in made.cells()] == ["nope", "cable", "rope", "rope+cable"]


def test_options_of_an_encoding_are_put_together() -> None:
    made = spec(
        space={"encoding_options.rope.base": [1e4, 5e5], "encoding_options.cable.input": ["head"]},
        fixed={"encoding": "rope+cable"},
    )
    assert made.settings(made.cells()[1]).encoding_options == {"rope": {"base": 5e5}, "cable": {"input": "head"}}


def test_the_lengths_of_the_objectives_are_measured() -> None:
    made = spec(objective=["ppl@32T", "nll@100", "log-auc"], fixed={"seq_len": 64, "lengths": [64, 128]})
    assert made.settings({"layers": 2}).lengths == (64, 100, 128, 2048)
    usual = spec(objective="degradation-length", fixed={"seq_len": 64}).settings({"layers": 2}).lengths
    assert usual == (32, 64, 128, 256, 512, 1024)


@pytest.mark.parametrize("written", ['"rope+window:3,nope:1"', "[rope+window:3, nope:1]"])
def test_encodings_per_layer_are_one_value(tmp_path: Path, written: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\nobjective: ppl@2T\nspace:\n  encoding: [{written}, cable]\n  seed: [0, 1]\n")
    made = read_spec(path)
    assert [cell["encoding"] for cell in made.cells()] == ["rope+window:3,nope:1"] * 2 + ["cable"] * 2
    assert made.settings(made.cells()[0]).encoding == "rope+window:3,nope:1"
    # As the database keeps it, and as a worker reads it again.
    assert SweepSpec(**made.model_dump(mode="json", by_alias=True)) == made


def test_encodings_per_layer_may_be_what_is_swapped_to_what_is_fixed_and_what_is_needed() -> None:
    both = ["rope", "nope:2"]
    made = spec(
        space={"swap_to": [both, "nope"], "swap_step": [3, 5]},
        fixed={"encoding": ["rope", "alibi"]},
        conditions={"swap_step": {"swap_to": [both]}},
    )
    assert [cell["swap_to"] for cell in made.cells()] == ["rope,nope:2", "rope,nope:2", "nope"]
    run = made.settings(made.cells()[0])
    assert (run.encoding, run.swap_to) == ("rope,alibi", "rope,nope:2")


def test_without_quotes_yaml_splits_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nobjective: ppl@2T\nspace:\n  encoding: [rope+window:3,nope:1, cable]\n")
    with pytest.raises(UserError, match=r"'rope\+window:3' has a number of layers and no comma; .* stand in quotes"):
        read_spec(path)


def test_a_range_of_fractions_has_both_ends() -> None:
    assert Range(**{"from": 0.1, "to": 0.3, "step": 0.1}).values() == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {}}, "an empty grid"),
        ({"space": {"layers": []}}, "an empty grid: 'layers' has no values"),
        ({"spaec": {}}, "did you mean 'space'"),
        ({"space": {"layrs": [1]}}, "unknown setting 'layrs'; did you mean 'layers'"),
        ({"fixed": {"stpes": 3}}, "did you mean 'steps'"),
        ({"fixed": {"root": "x"}}, "'root' is not a setting of a sweep"),
        ({"fixed": {"layers": 3}}, "both in the space and fixed"),
        ({"objective": "ppl@16"}, None),
        ({"objective": "pppl@16T"}, "unknown objective 'pppl@16T'; did you mean 'ppl@16T'"),
        ({"objective": []}, "objective"),
        ({"objective": ["log-auc", "log-auc"]}, "named twice"),
        ({"mode": "gird"}, "must be 'grid' or 'search'"),
        ({"mode": "search"}, "a search needs 'trials'"),
        ({"sampler": "tpe"}, "leave 'sampler' out"),
        ({"space": {"lr": {"from": 0.1, "to": 0.2}}}, "a range with a step"),
        ({"space": {"layers": {"from": 4, "to": 2}}}, "a range goes up"),
        ({"conditions": {"kernel": {"layers": [2]}}}, "unknown key of the space 'kernel'"),
        ({"space": {"kernel": ["log"], "layers": [2]}, "conditions": {"kernel": {"layers": [2]}}}, "must stand before"),
        ({"name": "a b"}, "name"),
        ({"mode": "search", "trials": 3, "objective": ["log-auc", "ppl@2T"], "pruner": "median"}, "single objective"),
        ({"space": {"lengths": [[64, 128], [256]]}}, "space.lengths: a value is a single one, not [64, 128]"),
        ({"space": {"encoding": [["rope", "nope"], "rope,nope"]}}, "rope,nope is listed twice"),
        ({"space": {"encoding": ["cable"], "encoding.x": ["rope"]}}, "not both"),
        ({"space": {"encoding.x": ["rope:3,nope:1"]}}, "a part of an encoding is the same in every layer"),
    ],
)
def test_a_mistake_is_one_line(changes: dict[str, Any], message: str | None, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "space": {"layers": [2, 4]}, "objective": "ppl@16T", **changes}))
    if message is None:
        read_spec(path)
        return
    with pytest.raises(UserError) as raised:
        read_spec(path)
    assert message in str(raised.value)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_a_value_that_a_setting_does_not_take_names_its_cell() -> None:
    with pytest.raises(UserError, match=r"layers: .*in the cell layers 0"):
        spec(space={"layers": [0]}).settings({"layers": 0})
