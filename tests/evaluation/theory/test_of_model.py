"""A model's attention in rows, beside the whole matrix; contextual positions beside numbers that are known."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

from extrapo import GPT, GPTConfig
from extrapo.attention import backend
from extrapo.encodings import create
from extrapo.errors import NotApplicable
from extrapo.evaluation.theory.attention_statistics import places
from extrapo.evaluation.theory.contextual import by_token, clock_rows, linearity
from extrapo.evaluation.theory.measured_verdicts import measured_verdicts, slope
from extrapo.evaluation.theory.of_model import analytic_rows, of_model
from extrapo.evaluation.theory.passes import passes
from extrapo.evaluation.theory.weights import weights

NAMES = ("nope", "alibi", "k-cable", "accumulated-rotation+cable", "path", "rope+window", "stick-breaking", "cope")


def model(encoding: str, **options: object) -> GPT:
    torch.manual_seed(1)
    config = GPTConfig(encoding=encoding, layers=2, heads=2, dim=16, vocab_size=32, train_length=16, **options)  # type: ignore[arg-type]
    return GPT(config).eval()


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_those_of_the_whole_matrix(name: str) -> None:
    made, tokens = model(name), torch.randint(0, 32, (1, 40))
    one = torch.eye(40).expand(1, 2, -1, -1)
    for layer in passes(made, tokens):
        encoded = layer.encoded
        whole = backend("reference")(encoded.q, encoded.k, one, encoded.bias, scale=layer.scale)[0]
        for place in (0, 7, 39):
            row = layer.row(place)
            assert torch.allclose(row.p.float(), whole[:, place, : place + 1].flip(-1), atol=1e-5)


def test_the_layers_are_those_of_the_model() -> None:
    made, tokens = model("adaptive"), torch.randint(0, 32, (1, 24))
    *_, last = passes(made, tokens)
    block = made.blocks[-1]
    x = block.residual(  # type: ignore[operator, union-attr]
        last.context.residual,
        block.attention.output(last.encoded),
        last.context,  # type: ignore[union-attr, operator]
    )
    assert torch.allclose(made.norm(x), made.hidden(tokens), atol=1e-5)


def test_statistics_of_uniform_attention_are_known() -> None:
    made = model("nope")
    for block in made.blocks:
        torch.nn.init.zeros_(block.attention.qkv.weight)  # type: ignore[union-attr, arg-type]
    found = of_model(made, torch.randint(0, 32, (1, 65)), 16)
    queries = torch.tensor(places(64)).double() + 1
    for row in found["heads"]:
        assert row["ln_z"] == pytest.approx(float(queries.log().mean()))
        assert row["entropy"] == pytest.approx(float(queries.log().mean()))
        assert row["max_weight"] == pytest.approx(float((1 / queries).mean()))
        assert row["max_weight_bound"] == pytest.approx(row["max_weight"])
        assert row["sink_mass"] == pytest.approx(float((1 / queries).mean()))
        assert row["mean_distance"] == pytest.approx(float(((queries - 1) / 2).mean()))
        assert row["far_mass"] == pytest.approx(float((1 - 16 / queries).mean()))
        assert row["far_mass_bound"] == pytest.approx(row["far_mass"])
        assert row["gap"] == pytest.approx(0.0, abs=1e-9)
        assert row["half_mass_length"] == pytest.approx(16.0)
    assert [row["length"] for row in found["fields"]] == [64]


@pytest.mark.parametrize("name", NAMES)
def test_masses_add_up(name: str) -> None:
    found = of_model(model(name), torch.randint(0, 32, (2, 49)), 16)
    bins: dict[tuple[int, int], float] = {}
    for row in found["distances"]:
        key = row["layer"], row["head"]
        bins[key] = bins.get(key, 0.0) + row["mass"]
    for row in found["heads"]:
        mass = row["far_mass"] + row["near_mass"]
        assert bins[row["layer"], row["head"]] == pytest.approx(mass, abs=1e-6)
        if name != "stick-breaking":
            assert mass == pytest.approx(1.0, abs=1e-6)
            assert 1 - 1e-6 <= row["participation"] <= row["effective_keys"] + 1e-6
            assert row["max_weight"] <= row["max_weight_bound"] + 1e-9
        assert row["far_coherence"] is None or row["far_coherence"] <= 1 + 1e-6


@pytest.mark.parametrize("values", [False, True])
def test_what_near_and_far_give_the_output(values: bool) -> None:
    made, tokens = model("accumulated-rotation", encoding_options={"values": values}), torch.randint(0, 32, (1, 48))
    first = next(iter(passes(made, tokens)))
    near, far, output, ratio = [], [], [], []
    for place in places(48):
        row = first.row(place)
        v = row.values[0].double().flip(0)
        near.append((row.p[0, :16, None] * v[:16]).sum(0).norm())
        far.append((row.p[0, 16:, None] * v[16:]).sum(0).norm())
        ratio.append(float((near[-1] / far[-1]).log()))
        output.append(float((row.p[0, :, None] * v).sum(0).norm().log()))
    found = next(row for row in of_model(made, torch.cat([tokens, tokens[:, :1]], 1), 16)["heads"])
    assert found["log_near_to_far"] == pytest.approx(sum(ratio) / len(ratio))
    assert found["log_output"] == pytest.approx(sum(output) / len(output))


def test_trained_lines_are_exact() -> None:
    made = model("kerple-log")
    rows = analytic_rows(made, [16, 64])
    dense = made.biases(torch.randint(0, 32, (1, 64)))
    for row in rows:
        if row["length"] == 64:
            line = dense[row["layer"]][0, row["head"], -1].double()
            assert row["ln_z"] == pytest.approx(float(line.logsumexp(0)), abs=1e-5)
    assert analytic_rows(model("cable"), [16]) == []


def test_a_table_of_positions_ends() -> None:
    with pytest.raises(NotApplicable):
        of_model(model("learned"), torch.randint(0, 32, (1, 41)), 16)


def test_what_a_clock_tells() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 4, (2000,), generator=generator)
    ticks = torch.tensor([0.0, 1.0, 2.0, 5.0], dtype=torch.float64)[tokens]
    (row,) = clock_rows(ticks.cumsum(0).unsqueeze(0), torch.full((1, 2000), 0.5).double(), tokens, 1000)
    assert row["increment"] == pytest.approx(float(ticks[1:].mean()))
    assert row["effective_window"] == pytest.approx(2 / row["increment"])
    assert row["zeros"] == pytest.approx(float((ticks[1:] == 0).double().mean()))
    assert row["by_token"] == pytest.approx(1.0)
    assert row["drift"] == pytest.approx(1.0, abs=0.1)
    assert (row["most"][0][0], row["least"][0][0]) == (3, 0)
    assert linearity(torch.arange(100.0).double()) == pytest.approx(1.0)
    noise = torch.rand(2000, generator=generator, dtype=torch.float64)
    assert by_token(noise, tokens)["by_token"] < 0.01


def test_the_gradient_of_a_mix_is_its_weights() -> None:
    made = model("stick-breaking")
    (first, *_) = passes(made, torch.randint(0, 32, (1, 12)))
    row = first.row(11)
    beta = row.logits[0].sigmoid()
    expected, left = [0.0], 1.0
    # The query's own key takes no part.
    for share in beta[1:].tolist():
        expected.append(left * share)
        left *= 1 - share
    assert row.p[0].tolist() == pytest.approx(expected, abs=1e-6)
    softmax = create("nope", heads=1, head_dim=4, dim=4).bias(torch.zeros(1, 4, 4))
    plain = weights(torch.zeros(1, 1, 1, 4), softmax, slice(3, 4))
    assert torch.allclose(plain, torch.full((1, 1, 1, 4), 0.25))


def test_slopes_decide() -> None:
    made = model("nope")
    found: dict[str, list[dict[str, object]]] = {}
    for length in (16, 32, 64):
        for name, rows in of_model(made, torch.randint(0, 32, (1, length + 1)), 16).items():
            found.setdefault(name, []).extend(rows)
    said = measured_verdicts(found, 16)
    assert slope(found["heads"], "ln_z") == pytest.approx(1.0, abs=0.05)
    assert (said["normalisation"].holds, said["entropy"].holds, said["ldcp_logit"].holds) == ("no", "no", "yes")
    assert said["near_mass"].holds == "no"
    assert said["ldcp_content"].holds == "yes"


def test_every_name_of_a_run_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs/theory.md").read_text()
    documented = set(re.findall(r"`([a-z_0-9]+)`", page))
    found = of_model(model("accumulated-rotation+cable-weighted"), torch.randint(0, 32, (1, 49)), 16)
    names = {name for rows in found.values() for row in rows for name in row} | set(measured_verdicts(found, 16))
    assert names <= documented, names - documented
    assert math.isfinite(found["heads"][0]["entropy"])
