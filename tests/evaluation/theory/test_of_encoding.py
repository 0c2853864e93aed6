"""An encoding by its name: analytic where its bias is a line, with a plain float64 sum beside it."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

from extrapo import encodings
from extrapo.errors import UserError
from extrapo.evaluation.theory.built import drawn_line, is_static, layers_of, static_line
from extrapo.evaluation.theory.of_encoding import of_encoding
from extrapo.kernels import alibi_slopes

SMALL = {"heads": 2, "head_dim": 16}


def test_alibi_is_analytic_and_a_geometric_sum() -> None:
    document = of_encoding("alibi", [64, 4096], **SMALL)
    for row in document["heads"]:
        assert row["source"] == "analytic"
        slope, length = alibi_slopes(2)[row["head"]], row["length"]
        z = (1 - math.exp(-slope * length)) / (1 - math.exp(-slope))
        assert row["ln_z"] == pytest.approx(math.log(z), abs=1e-9)
        weights = [math.exp(-slope * n) / z for n in range(length)]
        assert row["entropy"] == pytest.approx(-math.fsum(p * math.log(p) for p in weights if p > 0), abs=1e-9)
        assert row["participation"] == pytest.approx(1 / math.fsum(p * p for p in weights), rel=1e-9)
        assert row["mean_distance"] == pytest.approx(math.fsum(p * n for n, p in enumerate(weights)), rel=1e-9)
    assert [row["length"] for row in document["rows"]] == [64, 4096]
    assert document["rows"][0]["ln_z"] == pytest.approx(sum(r["ln_z"] for r in document["heads"][:2]) / 2)
    assert document["rows"][1]["network_window"] == max(row["window_10"] for row in document["heads"][2:])


def test_a_clock_is_measured_on_drawn_texts() -> None:
    document = of_encoding("cable", [64, 256], **SMALL)
    assert all(row["source"] == "measured" and row["texts"] > 1 for row in document["rows"])
    assert document["rows"][0]["ln_z"] == pytest.approx(document["rows"][1]["ln_z"], abs=0.1)


def test_turns_of_an_accumulated_rotation_follow_their_law() -> None:
    rows = of_encoding("accumulated-rotation", [64], **SMALL)["coherence"]
    theta = 1e4 ** (-torch.arange(8, dtype=torch.float64) / 8)
    chi = torch.sinc(theta / math.pi)
    for row in rows:
        if row["distance"] <= 16:
            law = chi.pow(row["distance"])
            assert row["coherence"] == pytest.approx(float(law.mean()), abs=3 * row["error"] + 0.01)
            assert torch.allclose(torch.tensor(row["planes"]).double(), law, atol=0.06)
    # RoPE's planes lose no phase, and the slow ones have not turned once at T.
    rows = of_encoding("rope", [64], **SMALL)["coherence"]
    assert all(row["coherence"] == pytest.approx(1.0) and row["mixing_10"] == math.inf for row in rows)
    assert rows[0]["unseen_planes"] == int((theta * 512 < 2 * math.pi).sum())


@pytest.mark.parametrize("name", ["alibi", "kerple-log", "sandwich", "t5", "nope", "mep"])
def test_a_line_is_the_last_row_of_the_matrix(name: str) -> None:
    (layer,) = layers_of(name, heads=4, head_dim=8)
    assert is_static(layer)
    dense = layer.encoding.bias(torch.zeros(1, 40, 32, dtype=torch.float64)).dense()[0]
    assert torch.allclose(static_line(layer, 40), dense[:, -1].flip(-1).double(), atol=1e-5)


@pytest.mark.parametrize("name", ["fire", "k-cable", "window", "fox-per-row", "alibi"])
def test_a_drawn_line_is_the_last_row_too(name: str) -> None:
    (layer,) = layers_of(name, heads=4, head_dim=8)
    x, context = layer.input(40)
    dense = layer.encoding.bias(x, context=context).dense()[0]
    assert torch.allclose(drawn_line(layer, 40), dense[:, -1].flip(-1).double(), atol=1e-4)


#: One of each kind; the others take `make chaos`.
SAMPLE = ("accumulated-rotation", "adaptive", "alibi", "cable", "cope", "nope", "path", "rope", "t5", "window")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in SAMPLE else pytest.mark.chaos) for name in encodings.names()],
)
def test_every_encoding_has_its_numbers(name: str) -> None:
    document = of_encoding(name, [32], heads=2, head_dim=8, train_length=64)
    (row,) = document["rows"]
    assert row["source"] in ("analytic", "measured")
    assert -1e-9 <= row["entropy"] <= math.log(32) + 1e-9


def test_every_name_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs/theory.md").read_text()
    documented = set(re.findall(r"`([a-z_0-9]+)`", page))
    document = of_encoding("accumulated-rotation", [32], **SMALL)
    names = (
        set(document)
        | {
            name
            for rows in ("rows", "heads", "coherence", "content", "sensitivity")
            for row in document[rows]
            for name in row
        }
        | set(document["verdicts"])
    )
    assert names <= documented, names - documented


def test_mistakes() -> None:
    with pytest.raises(UserError, match="lengths"):
        of_encoding("alibi", [])
    with pytest.raises(UserError, match="alibi"):
        of_encoding("alibbi", [32])
