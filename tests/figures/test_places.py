"""The picture of a probe says what it found where."""

from __future__ import annotations

from extrapo import figures
from extrapo.figures.places import places_figure


def test_every_cell_is_written_and_lengths_without_a_result_stay_blank(texts):
    rows = [
        {"length": 1024, "accuracy": 0.75, "chance": 0.1, "places": [(0.0, 0.5, 2), (1.0, 1.0, 2)]},
        {"length": 2048, "accuracy": None, "chance": 0.1, "places": []},
    ]
    figure = places_figure(rows, title="k-cable: passkey")
    said = texts(figure)
    for part in ("k-cable: passkey", "1,024\n75%", "2,048\n-", "50%", "100%", "chance: 10%"):
        assert part in said
    assert figures.to_array(figure).std() > 0


def test_a_variant_stands_below_its_length(texts):
    rows = [{"length": 512, "keys": keys, "accuracy": 0.5, "chance": 0.5, "places": [(0.0, 0.5, 2)]} for keys in (2, 4)]
    said = texts(places_figure(rows, title="rope: recall"))
    assert "512\n2 keys\n50%" in said
    assert "512\n4 keys\n50%" in said
