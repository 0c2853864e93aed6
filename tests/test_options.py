"""A typo in an option is told; it never picks another formula."""

from __future__ import annotations

import pytest

from extrapo import encodings, kernels
from extrapo.errors import UserError
from extrapo.options import choices

SHAPE = {"heads": 2, "head_dim": 4, "dim": 8}


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("rope", "layout", "hlaf"),
        ("rope", "base", "many"),
        ("cable", "input", "hlaf"),
        ("cable-weighted", "kernel_order", "hlaf"),
        ("kerple-log", "constraint", "hlaf"),
        ("adaptive", "alpha_mode", "hlaf"),
        ("learned", "max_length", 2.5),
    ],
)
def test_a_value_that_the_encoding_does_not_take(name: str, option: str, value: object) -> None:
    with pytest.raises(UserError, match=f"encoding '{name}': {option} must be .*, not {value!r}") as refused:
        encodings.create(name, **SHAPE, **{option: value})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["learned", "yarn", "dynamic-ntk", "randomized-rope"])
@pytest.mark.parametrize("value", [0, -3])
def test_a_length_of_nothing_is_not_taken_for_the_default(name: str, value: int) -> None:
    option = "original_length" if name in ("yarn", "dynamic-ntk") else "max_length"
    options = {"randomized": {option: value}} if name == "randomized-rope" else {option: value}
    with pytest.raises(UserError, match=f"{option} must be greater than or equal to 1, not {value}"):
        encodings.create(name, **SHAPE, **options)


def test_a_value_or_an_option_that_the_kernel_does_not_take() -> None:
    with pytest.raises(UserError, match="kernel 'log': constraint must be 'softplus' or 'clamp'"):
        kernels.create("log", constraint="hlaf")
    with pytest.raises(UserError, match="kernel 'log' has no option 'b'; its options: p, a, constraint"):
        kernels.create("log", b=1.0)


def test_options_of_a_part_are_a_mapping() -> None:
    with pytest.raises(UserError, match="go by part"):
        encodings.create("rope+cable", **SHAPE, rope=3.0)


def test_the_words_of_an_option_are_those_that_it_takes() -> None:
    words = choices(encodings.get("k-cable"))
    assert words["gate"] == ["none", "softplus", "learned"]
    assert "linear_bias" not in words
    for name in encodings.names():
        if len(encodings.split(name)) == 1:
            for option, of_it in choices(encodings.get(name)).items():
                with pytest.raises(UserError, match=f"{option} must be .*{of_it[-1]}"):
                    encodings.create(name, **SHAPE, **{option: "hlaf"})
