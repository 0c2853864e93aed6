"""Another encoding on trained weights: the weights stay, and what does not fit is refused or said."""

from __future__ import annotations

import pytest
import torch

from extrapo import GPT, GPTConfig, encodings
from extrapo.config import EncodingFormSettings
from extrapo.errors import UserError
from extrapo.run.another import forms, with_encoding
from extrapo.run.weights import places

TOKENS = torch.arange(24).unsqueeze(0) % 16


def trained(encoding: str, **settings: object) -> GPT:
    """A model whose weights are all moved away from where they start."""
    torch.manual_seed(0)
    shape = {"layers": 2, "heads": 2, "dim": 16, "vocab_size": 16, "train_length": 24, **settings}
    gpt = GPT(GPTConfig(encoding=encoding, **shape)).eval()
    for weight in gpt.parameters():
        weight.data.add_(0.3 * torch.rand_like(weight))
    return gpt


def another(gpt: GPT, name: str, lines: list[str] | None = None, **form: object) -> GPT:
    said: list[str] = [] if lines is None else lines
    return with_encoding(gpt, name, EncodingFormSettings(**form), said.append)


def differ(one: GPT, other: GPT) -> float:
    with torch.no_grad():
        return float((one(TOKENS) - other(TOKENS)).abs().max())


#: That a window goes with, which hides nothing here.
WINDOWED = ["rope", "k-cable", "rope+k-cable", "learned", "t5", "dape", "cope", "fire", "randomized-rope", "path"]


@pytest.mark.parametrize("name", encodings.names())
def test_any_encoding_on_weights_of_its_own_is_the_trained_model(name: str) -> None:
    gpt = trained(name)
    lines: list[str] = []
    assert differ(gpt, another(gpt, name, lines)) == 0
    assert not lines


@pytest.mark.parametrize("name", WINDOWED)
def test_weights_follow_their_part_into_a_composition_and_out_of_it(name: str) -> None:
    gpt = trained(name)
    lines: list[str] = []
    composed = another(gpt, f"{name}+window", lines, encoding_options={"window": {"window": 24}})
    assert differ(gpt, composed) < 1e-4
    assert differ(gpt, another(composed, name, lines)) == 0
    assert not lines


@pytest.mark.parametrize("name", ["pi", "ntk", "yarn", "longrope", "dynamic-ntk", "dynamic-yarn"])
def test_rope_at_factor_1_is_rope_at_its_own_base(name: str) -> None:
    gpt = trained("rope", encoding_options={"base": 50.0})
    options = {} if name.startswith("dynamic") else {"factor": 1.0}
    assert differ(gpt, another(gpt, name, encoding_options=options)) < 1e-4
    stretched = {"original_length": 6} if name.startswith("dynamic") else {"factor": 4.0}
    assert differ(gpt, another(gpt, name, encoding_options=stretched)) > 1e-3


def test_self_extend_and_windows_that_reach_far_enough_change_nothing() -> None:
    gpt = trained("rope")
    assert differ(gpt, another(gpt, "self-extend", encoding_options={"window": 24, "group": 2})) < 1e-4
    assert differ(gpt, another(gpt, "rope+window", encoding_options={"window": {"window": 4}})) > 1e-3


def test_nope_after_rope_leaves_nothing_out() -> None:
    gpt = trained("rope")
    lines: list[str] = []
    dropped = another(gpt, "nope", lines)
    assert not lines
    assert dropped.config.encoding == "nope"
    same = dropped.state_dict()
    assert all(torch.equal(same[name], tensor) for name, tensor in gpt.state_dict().items())


def test_what_is_dropped_is_said_and_what_lacks_is_refused() -> None:
    lines: list[str] = []
    another(trained("k-cable"), "nope", lines)
    assert lines == [
        "nope: left out of the trained weights: k-cable's contextual.projection.weight, "
        "k-cable's contextual.projection.bias"
    ]
    for name, lacking in (("cable", "contextual.projection.weight"), ("t5", "kernel.table.raw"), ("learned", "weight")):
        message = f"'{name}' needs weights that a model trained with 'rope' does not have: {name}'s {lacking}"
        with pytest.raises(UserError, match=message):
            another(trained("rope"), name)


def test_a_factor_that_is_not_trained_starts_where_its_option_says() -> None:
    gpt = trained("rope")
    lines: list[str] = []
    scaled = another(gpt, "rope+ssmax", lines, encoding_options={"ssmax": {"init": 0.43}})
    assert lines == ["rope+ssmax: not trained, at their starting values: ssmax's s"]
    factors = [value for name, value in scaled.state_dict().items() if name.endswith("ssmax.s")]
    assert torch.cat(factors).flatten().tolist() == pytest.approx([0.43] * 4)
    assert differ(gpt, another(gpt, "rope+head-scale")) < 1e-5


def test_the_kernel_and_the_options_of_a_part_that_stays_stay() -> None:
    gpt = trained("cable", kernel="log")
    kept = another(gpt, "cable+window", encoding_options={"window": {"window": 24}})
    assert kept.config.kernel == "log"
    assert differ(gpt, kept) < 1e-4
    assert another(gpt, "nope").config.kernel is None
    with pytest.raises(UserError, match="has no kernel to choose"):
        another(gpt, "nope", kernel="log")


def test_after_a_swap_the_second_encoding_is_the_trained_one() -> None:
    gpt = trained("k-cable", swap_to="rope", swap_options={"base": 50.0})
    gpt.swap()
    assert differ(gpt, another(gpt, "rope")) == 0
    assert differ(gpt, another(gpt, "pi", encoding_options={"factor": 1.0})) < 1e-4
    with pytest.raises(UserError, match="trained with 'rope' does not have: k-cable's"):
        another(gpt, "k-cable")
    assert all("k-cable" not in place.part for place in places(gpt))


def test_options_go_to_those_that_take_them() -> None:
    given = EncodingFormSettings(encoding_options={"factor": 2.0, "window": {"window": 8}, "pi": {"base": 5.0}})
    assert [form.encoding_options for form in forms(["pi", "rope", "rope+window"], given)] == [
        {"factor": 2.0, "base": 5.0},
        {},
        {"window": {"window": 8}},
    ]
    with pytest.raises(UserError, match="none of the encodings rope, nope has an option 'factor'"):
        forms(["rope", "nope"], EncodingFormSettings(encoding_options={"factor": 2.0}))
    with pytest.raises(UserError, match="none of the encodings rope, nope has a kernel"):
        forms(["rope", "nope"], EncodingFormSettings(kernel="log"))
