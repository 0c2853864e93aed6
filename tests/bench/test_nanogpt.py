"""The baseline of whole steps against our own model, of which it is the form with learned positions."""

from __future__ import annotations

import pytest
import torch

from extrapo.bench.contenders import Case, num_parameters, served, step_run
from extrapo.bench.nanogpt import NanoGPT
from extrapo.config import GPTConfig
from extrapo.gpt import GPT
from extrapo.loss import mean_nll


def test_it_is_our_model_without_positions_but_for_the_form_of_gelu() -> None:
    torch.manual_seed(0)
    nano = NanoGPT(2, 2, 16, 50, 12)
    ours = GPT(GPTConfig(vocab_size=50, layers=2, heads=2, dim=16, encoding="nope", train_length=12))
    with torch.no_grad():
        nano.positions.weight.zero_()
        names = {"tokens.": "embedding.", "mlp.0.": "mlp.up.", "mlp.2.": "mlp.out."}
        for name, parameter in nano.named_parameters():
            for theirs, own in names.items():
                name = name.replace(theirs, own)
            if not name.startswith("positions."):
                ours.get_parameter(name).copy_(parameter)
    text = torch.randint(0, 50, (3, 13))
    expected = mean_nll(ours.hidden(text[:, :-1]), ours.unembedding.weight, text[:, 1:])
    torch.testing.assert_close(nano(text[:, :-1], text[:, 1:]), expected, rtol=1e-5, atol=0.0)


def test_a_step_of_it_runs_and_is_counted() -> None:
    case = Case("nanogpt", "auto", 16, 1, size="nano")
    assert served(case, "step") == "-"
    assert {*step_run(case)()} == {"step"}
    plain = num_parameters(Case("nope", "auto", 16, 1, size="nano"), "step")
    assert num_parameters(case, "step") == plain + 16 * 128, "the table of positions"


def test_decay_is_on_matrices_alone() -> None:
    matrices, vectors = NanoGPT(1, 2, 8, 20, 4).optimizer(1e-3).param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (pytest.approx(0.1), 0.0)
    assert {p.dim() for p in matrices["params"]} == {2}
    assert {p.dim() for p in vectors["params"]} == {1}
