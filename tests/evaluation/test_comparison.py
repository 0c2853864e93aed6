"""Comparisons: of one quantity or not at all, over seeds, in pairs."""

from __future__ import annotations

import math
from typing import Any

import pytest

from extrapo.errors import UserError
from extrapo.evaluation import comparison
from extrapo.evaluation.comparison import MeasuredRun, check_comparable, differences, grouped, table_of
from extrapo.evaluation.uncertainty import BlockLosses, difference

TERMS = {"protocol": "disjoint", "description": "side by side", "tokens": 256, "corpus_sha256": "a" * 64}


def run(name: str, losses: dict[int, float | None], *, seed: int = 0, shift: float = 0.0, **terms: Any) -> MeasuredRun:
    rows = [
        {"length": length, "nll": nll, "ppl": nll, "bits_per_byte": nll and nll / 3, **TERMS, **terms}
        for length, nll in losses.items()
    ]
    hard = [1 + block % 3 for block in range(64)]
    blocks = {
        length: BlockLosses(tuple(4 * (nll * each / 2 + shift) for each in hard), (4,) * 64)
        for length, nll in losses.items()
        if nll is not None
    }
    return MeasuredRun(f"{name}-{seed}", (name,), seed, rows, blocks)


def test_a_group_has_the_mean_and_the_spread_of_its_seeds() -> None:
    first, second = grouped(
        [run("cable", {64: 3.0, 128: 2.0}), run("rope", {64: 4.0}), run("cable", {64: 3.2, 256: 1.0}, seed=1)]
    )
    assert (first.name, second.name) == ("cable", "rope")
    (row,) = first.curve()
    assert (row["length"], row["nll"], row["seeds"]) == (64, pytest.approx(3.1), 2)
    assert row["ppl"] == pytest.approx(math.exp(3.1))
    assert row["bits_per_byte"] == pytest.approx(3.1 / 3)
    assert row["spread"] == pytest.approx(math.sqrt(0.02))
    assert (row["low"], row["high"]) == pytest.approx((3.1 - math.sqrt(0.02), 3.1 + math.sqrt(0.02)))
    (row,) = second.curve()
    assert "spread" not in row
    assert row["seeds"] == 1


def test_a_table_for_people_or_for_programs() -> None:
    curves = {"a": [{"length": 1024, "ppl": 1234.5}], "b": [{"length": 1024, "ppl": 2000.0, "spread": math.log(1.5)}]}
    assert table_of(curves) == [{"length": "1,024", "a": "1,234.50", "b": "2,000.00 ± 1,000.00"}]
    assert table_of(curves, thousands="") == [{"length": "1024", "a": "1234.50", "b": "2000.00 ± 1000.00"}]


def test_a_length_that_one_seed_has_no_loss_at_has_none() -> None:
    (group,) = grouped([run("learned", {64: 3.0, 128: None}), run("learned", {64: 3.0, 128: 2.0}, seed=1)])
    assert [row["nll"] for row in group.curve()] == [3.0, None]


def test_a_seed_whose_loss_is_no_number_makes_no_mean_of_numbers() -> None:
    (group,) = grouped([run("fire", {64: 3.0, 128: 5.0}), run("fire", {64: 3.0, 128: math.nan}, seed=1)])
    short, long = group.curve()
    assert (short["nll"], short["spread"], short["spread_bits"]) == (3.0, 0.0, 0.0)
    assert all(math.isnan(long[name]) for name in ("nll", "ppl", "bits_per_byte", "spread", "spread_bits", "low"))
    for metric in ("ppl", "bits_per_byte"):
        assert table_of({"fire": group.curve()}, metric)[1] == {"length": "128", "fire": "nan ± nan"}


def test_a_spread_that_overflows_is_infinite() -> None:
    (group,) = grouped([run("fire", {64: 3.0}), run("fire", {64: 3000.0}, seed=1)])
    assert table_of({"fire": group.curve()}) == [{"length": "64", "fire": "inf ± inf"}]


def test_lengths_that_only_some_seeds_have_are_told() -> None:
    (group,) = grouped([run("a", {64: 3.0, 128: None, 256: 1.0}), run("a", {64: 3.0, 128: 2.0}, seed=1)])
    assert group.partial() == [128, 256]


def test_differences_of_every_pair_at_the_lengths_that_both_have() -> None:
    better, worse, other = (
        run("a", {64: 3.0, 128: 2.9}),
        run("b", {64: 3.0, 128: 2.9, 256: 2.8}, shift=0.01),
        run("c", {512: 3.0}),
    )
    found = differences(grouped([better, worse, other]))
    assert [(row["one"], row["other"], row["length"]) for row in found] == [("a", "b", 64), ("a", "b", 128)]
    assert all(row["verdict"] == "lower" and row["mean"] == pytest.approx(-0.01) for row in found)
    assert (found[0]["low"], found[0]["high"]) == pytest.approx((-0.01, -0.01))


def test_each_pair_has_the_difference_of_its_two_groups() -> None:
    """Groups of other seeds, of other numbers of seeds and with other lengths: as of each pair alone."""
    runs = [
        run(name, dict.fromkeys(lengths, 3 + 0.1 * at + 0.02 * seed), seed=seed, shift=0.01 * seed * at)
        for at, (name, seeds, lengths) in enumerate(
            [("a", (0, 1), (64, 128)), ("b", (0, 1), (128, 64)), ("c", (2, 3, 4), (64,)), ("d", (7,), (128, 64))]
        )
        for seed in seeds
    ]
    groups = grouped(runs)
    found = differences(groups)
    assert [(row["one"], row["other"], row["length"]) for row in found] == [
        *[("a", "b", 64), ("a", "b", 128), ("a", "c", 64), ("a", "d", 64), ("a", "d", 128)],
        *[("b", "c", 64), ("b", "d", 64), ("b", "d", 128), ("c", "d", 64)],
    ]
    by_name = {group.name: group for group in groups}
    for row in found:
        one, other = by_name[row["one"]], by_name[row["other"]]
        losses = ([member.blocks[row["length"]] for member in group.members] for group in (one, other))
        alone = difference(*losses, same_seeds=one.seeds == other.seeds)
        assert row == {"one": one.name, "other": other.name, "length": row["length"], **alone._asdict()}


@pytest.mark.parametrize(
    ("terms", "plural"),
    [
        ({"protocol": "sliding"}, "protocols"),
        ({"description": "others"}, "windows"),
        ({"corpus_sha256": "b" * 64}, "texts"),
        ({"tokens": 512}, "numbers of targets"),
        ({"tokenizer_sha256": "d"}, "tokenizers"),
    ],
)
def test_what_is_not_one_quantity_is_refused_with_the_reason(terms: dict[str, Any], plural: str) -> None:
    runs = [run("a", {64: 3.0}, tokenizer_sha256="c"), run("b", {64: 3.0}, **{"tokenizer_sha256": "c", **terms})]
    with pytest.raises(UserError, match=f"not comparable: their {plural} differ, .*a-0.* and .*b-0"):
        check_comparable(runs)
    if plural == "texts":
        with pytest.raises(UserError, match="texts differ"):
            check_comparable(runs, per_byte=True)
    else:
        check_comparable(runs, per_byte=True)


def test_equal_terms_pass_and_what_was_not_recorded_is_not_held_against_a_run() -> None:
    check_comparable([run("a", {64: 3.0}), run("b", {64: 3.0, 128: None}, tokenizer_sha256="c")])
    with pytest.raises(UserError, match="'a-0' has no curve"):
        check_comparable([run("a", {})])


#: What a curve says of how it was measured, and another value of each.
OTHERWISE: dict[str, Any] = {
    "protocol": "sliding",
    "scope": "document",
    "description": "windows of another kind",
    "window": 65,
    "stride": 16,
    "tokens": 255,
    "targets": "2-257",
    "documents": 8,
    "start_token": "separator",
    "corpus_sha256": "b" * 64,
    "tokenizer_sha256": "c" * 64,
    "dtype": "bfloat16",
}
MEASURED = {"scope": "text", "window": 64, "stride": 64, "targets": "1-256", "documents": 7, "start_token": "none"} | {
    **TERMS,
    "tokenizer_sha256": "d" * 64,
    "dtype": "float32",
}


def test_every_term_is_tried() -> None:
    assert set(OTHERWISE) == set(comparison.TERMS) == set(MEASURED)


@pytest.mark.parametrize("term", OTHERWISE)
def test_curves_that_differ_in_a_term_are_refused(term: str) -> None:
    one, other = run("a", {64: 3.0}, **MEASURED), run("b", {64: 3.1}, **{**MEASURED, term: OTHERWISE[term]})
    check_comparable([one, run("b", {64: 3.1}, **MEASURED)])
    with pytest.raises(UserError, match=f"not comparable: their {comparison.TERMS[term]} differ") as refused:
        check_comparable([one, other])
    assert str(OTHERWISE[term])[:60] in str(refused.value)
    # A curve that was recorded before this was.
    check_comparable([one, run("old", {64: 3.1}, **{**MEASURED, term: None})])
    if term in comparison.PER_BYTE:
        check_comparable([one, other], per_byte=True)
    else:
        with pytest.raises(UserError, match="not comparable"):
            check_comparable([one, other], per_byte=True)


def test_of_many_runs_the_first_pair_that_differs_is_named() -> None:
    alike = [run("a", {64: 3.0}, seed=seed, **MEASURED) for seed in range(200)]
    with pytest.raises(UserError, match=r"texts differ, .*\(a-0\) and .*\(b-7\)"):
        check_comparable([*alike, run("b", {64: 3.0}, seed=7, **{**MEASURED, "corpus_sha256": "e" * 64}), *alike])


def test_other_lengths_are_no_reason_to_refuse() -> None:
    """Their windows differ, but at the lengths that both have they do not."""

    def measured(name: str, lengths: list[int]) -> MeasuredRun:
        rows = [
            {"nll": 3.0, **MEASURED, "length": length, "window": length, "stride": length // 2} for length in lengths
        ]
        return MeasuredRun(name, (name,), 0, rows)

    check_comparable([measured("a", [32, 64]), measured("b", [64, 128])])
    check_comparable([measured("a", [32]), measured("b", [128])])
