from __future__ import annotations

import pytest
import torch

from extrapo import encodings, kernels
from extrapo.encodings.alibi import ALiBi
from extrapo.encodings.core.encoding import Encoding
from extrapo.errors import UserError

SHAPE = {"heads": 2, "head_dim": 8, "dim": 16}


@pytest.mark.parametrize("name", encodings.names())
def test_says_where_it_is_from(name: str) -> None:
    paper = encodings.paper(name)
    assert paper.source
    assert paper.summary
    assert paper.kernel == "-" or paper.kernel in kernels.names()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("k-cabel", {}, "did you mean 'k-cable'"),
        ("rope+k-cabel", {}, "did you mean 'k-cable'"),
        ("rope", {"bass": 3.0}, "no option 'bass'; its options: base, fraction, layout"),
        ("rope", {"kernel": "log"}, "has no kernel to choose"),
        ("cable", {"kernel": "lgo"}, "unknown kernel 'lgo'; did you mean 'log'"),
        ("alibi+cable", {}, "both bring a bias"),
        ("rope+rope", {}, "twice"),
        ("rope+cable", {"base": 3.0}, "by part"),
    ],
)
def test_mistakes(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        encodings.create(name, **SHAPE, **options)


def test_composition_is_the_transform_of_one_and_the_bias_of_the_other() -> None:
    torch.manual_seed(0)
    both = encodings.create("rope+k-cable", **SHAPE, rope={"base": 50.0})
    rope = encodings.create("rope", **SHAPE, base=50.0)
    cable = both.parts["k-cable"]
    x, q = torch.randn(1, 5, 16), torch.randn(1, 2, 5, 8)
    assert torch.equal(both.bias(x).dense(), cable.bias(x).dense())
    context = encodings.Context.plain(x, start=3)
    rotated, expected = (part.transform(q, q, q, x=x, context=context, state=None).q for part in (both, rope))
    assert torch.equal(rotated, expected)


def test_alibi_matrix() -> None:
    dense = encodings.create("alibi", heads=8, head_dim=4, dim=32).bias(torch.zeros(1, 5, 32)).dense()
    assert dense.shape == (1, 8, 5, 5)
    assert dense[0, 0, 4].tolist() == [-2.0, -1.5, -1.0, -0.5, 0.0]
    assert dense[0, 7, 4, 0] == -4 * 2.0**-8


def test_no_bias_is_zero_below_the_diagonal() -> None:
    dense = encodings.create("rope", **SHAPE).bias(torch.zeros(1, 4, 16)).dense()
    assert torch.equal(dense[0, 0], torch.zeros(4, 4).masked_fill(torch.ones(4, 4).triu(1).bool(), float("-inf")))


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="registered twice"):

        @encodings.register("alibi")
        class Other(Encoding):
            """Not ALiBi."""

    assert encodings.get("alibi") is ALiBi
