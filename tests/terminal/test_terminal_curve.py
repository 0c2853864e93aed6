"""The terminal shows the same curve as the record, and says its protocol."""

import math

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from extrapo.terminal import curve_plot, curve_protocol, curve_table
from extrapo.terminal.curve import positions_table

ROWS = [
    {"length": 64, "nll": math.log(8), "ppl": 8.0, "tokens": 4096},
    {"length": 128, "nll": math.log(16), "ppl": 16.0, "tokens": 4096},
    {"length": 256, "nll": None, "ppl": None, "tokens": 0},
]


def rendered(table):
    console = Console(width=100, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return [line.split() for line in capture.get().splitlines()]


def test_the_table_compares_every_length_with_the_training_length():
    header, first, second, third = rendered(curve_table(ROWS[::-1], train_length=64))
    assert header == ["length", "length/T", "nll", "ppl", "ppl/ppl(T)", "tokens"]
    assert first == ["64", "1", "2.0794", "8.00", "1.000", "4,096"]
    assert second == ["128", "2", "2.7726", "16.00", "2.000", "4,096"]
    assert third == ["256", "4", "-", "not", "applicable", "-", "-"]


def test_the_table_says_how_sure_it_is_and_what_a_byte_costs_where_that_is_known():
    more = {"low": math.log(7.5), "high": math.log(8.6), "bits_per_byte": 1.23456}
    header, first, second, _ = rendered(curve_table([{**ROWS[0], **more}, *ROWS[1:]], train_length=64))
    assert " ".join(header) == "length length/T nll ppl ppl 95% ppl/ppl(T) bits/byte tokens"
    assert " ".join(first) == "64 1 2.0794 8.00 7.5 to 8.6 1.000 1.2346 4,096"
    assert " ".join(second) == "128 2 2.7726 16.00 - 2.000 - 4,096"


def test_a_curve_without_the_training_length_has_no_ratio():
    assert rendered(curve_table(ROWS, train_length=32))[1][4] == "-"


def test_the_protocol_is_what_the_points_say():
    rows = [{**row, "protocol": "disjoint", "description": "disjoint windows, stride = length"} for row in ROWS]
    said = "protocol: disjoint windows, stride = length, the same 4,096 tokens at every length"
    assert curve_protocol(rows) == said
    other = [{**row, "protocol": "sliding", "description": "windows that overlap"} for row in ROWS]
    assert curve_protocol(other) == "protocol: windows that overlap, the same 4,096 tokens at every length"
    assert curve_protocol(rows[2:]) == ""


def test_the_plot_has_a_tick_per_point_and_the_colours_of_any_terminal(monkeypatch):
    # Black on white or white on black, and whatever NO_COLOR says.
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    plot = curve_plot(ROWS, train_length=64, width=60)
    assert "64" in plot
    assert "128" in plot
    assert "256" not in plot
    assert "\x1b" not in plot
    assert max(map(len, plot.splitlines())) <= 60


def test_two_plots_do_not_mix():
    first = curve_plot(ROWS, train_length=64)
    curve_plot([{**ROWS[0], "length": 8192, "ppl": 1e4}], train_length=64)
    assert curve_plot(ROWS, train_length=64) == first


@given(st.lists(st.one_of(st.none(), st.floats(1, 1e300), st.just(math.inf)), max_size=6), st.integers(1, 300))
def test_any_curve_can_be_plotted(values, width):
    rows = [{"length": 2**i, "nll": value, "ppl": value, "tokens": 1} for i, value in enumerate(values)]
    plot = curve_plot(rows, train_length=8, width=width)
    assert bool(plot) == any(value is not None and math.isfinite(value) for value in values)


def test_losses_by_position_have_a_row_per_stretch_and_a_column_per_length():
    def at(first, last, nll, **more):
        return {"first": first, "last": last, "nll": nll, "low": None, "high": None, **more}

    rows = [
        {"length": 4, "positions": [at(1, 1, 5.0, low=4.9, high=5.1), at(2, 2, None), at(3, 4, 3.0)]},
        {"length": 3, "positions": [at(1, 1, 5.5), at(2, 2, 4.5), at(3, 3, 4.0)]},
    ]
    title, header, *lines = rendered(positions_table(rows))
    assert " ".join(title) == "nll by position in the window"
    assert " ".join(header) == "position L = 3 L = 4"
    assert [" ".join(line) for line in lines] == ["1 5.5000 5.0000 ± 0.1000", "2 4.5000 -", "3-4 4.0000 3.0000"]
    assert positions_table(ROWS) is None
