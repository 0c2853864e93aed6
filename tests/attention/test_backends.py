"""The list of back ends: its order decides, a name takes one, and one more is a line for whoever brings it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo import GPT, GPTConfig, attention, catalogue, encodings
from extrapo.attention import Backend, Choice, Verdict, attend, choose
from extrapo.attention.tiling import mask_hidden
from extrapo.encodings import Bias
from extrapo.encodings.core.encoding import Encoded
from extrapo.errors import UserError
from extrapo.testing import EncodingContract

HEADS, HEAD_DIM, DIM = 2, 4, 8


def encoded(name: str, length: int = 6, past: int = 0, dtype: torch.dtype = torch.float32, **options: Any) -> Encoded:
    """A layer's q, k, v and bias for `length` tokens after `past` others."""
    torch.manual_seed(0)
    layer = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM, train_length=64, **options).eval()
    x = torch.randn(2, past + length, DIM)
    q, k, v = torch.randn(3, 2, HEADS, past + length, HEAD_DIM, dtype=dtype).requires_grad_().unbind(0)
    state = None
    if past:
        state = layer.encode(q[:, :, :past], k[:, :, :past], v[:, :, :past], x=x[:, :past]).state
    return layer.encode(q[:, :, past:], k[:, :, past:], v[:, :, past:], x=x[:, past:], state=state)


@pytest.mark.parametrize("name", encodings.names())
def test_every_encoding_is_served_and_told_why(name: str) -> None:
    for dtype, past, length in (
        (torch.float64, 0, 6),
        (torch.float32, 5, 1),
        (torch.bfloat16, 0, 6),
        (torch.float16, 5, 2),
    ):
        q, k, _, bias, *_ = encoded(name, length, past, dtype)
        chosen = choose(bias, q, k)
        assert chosen.backend in attention.BACKENDS
        assert chosen.reason
        assert "\n" not in chosen.reason


@pytest.mark.parametrize("name", ["nope", "alibi", "k-cable", "cope", "window+alibi"])
@given(order=st.permutations(attention.BACKENDS), length=st.sampled_from([1, 6]))
@settings(max_examples=10, deadline=None)
def test_the_first_that_serves_and_pays_is_taken(name: str, order: Sequence[Backend], length: int) -> None:
    q, k, _, bias, *_ = encoded(name, length)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "BACKENDS", tuple(order))
        backend, reason = choose(bias, q, k)
    verdicts = [(one, one.serves(bias, q, k)) for one in order if one.pays(bias, q, k)]
    assert (backend, Verdict(True, reason)) == next((one, verdict) for one, verdict in verdicts if verdict)


def slow_if_it_compiles(known: Backend) -> Any:
    return pytest.param(known, id=known.name, marks=[pytest.mark.slow] * known.compiles)


@pytest.mark.parametrize("name", ["alibi", "k-cable", "adaptive", "cope", "rope+window"])
@pytest.mark.parametrize("known", [slow_if_it_compiles(known) for known in attention.BACKENDS])
def test_what_is_asked_for_is_given_or_refused_with_its_reason(name: str, known: Backend) -> None:
    q, k, v, bias, *_ = encoded(name)
    verdict = known.serves(bias, q, k)
    if verdict:
        assert choose(bias, q, k, known.name) == Choice(known, "asked for")
        assert choose(bias, q, k, known.name).impl == known.name
        return
    with pytest.raises(UserError, match="cannot serve here") as refused:
        attend(q, k, v, bias, scale=0.5, impl=known.name)
    assert str(refused.value) == f"impl '{known.name}' cannot serve here: {verdict.reason}; use 'auto'"
    assert "\n" not in str(refused.value)


def test_one_query_is_served_whatever_was_asked_for() -> None:
    """A model with `--impl fold` decodes, where nothing but a row is to be computed."""
    q, k, _, bias, *_ = encoded("k-cable", 1, past=5)
    assert not attention.backend("fold").serves(bias, q, k)
    assert choose(bias, q, k, "fold").impl == "decode"


def test_an_unknown_name() -> None:
    q, k, _, bias, *_ = encoded("nope")
    for asked in (lambda: attention.check_impl("tile"), lambda: choose(bias, q, k, "tile")):
        with pytest.raises(UserError, match="unknown impl 'tile'; did you mean 'tiles'"):
            asked()
    with pytest.raises(UserError, match="unknown impl 'tile'"):
        GPT(GPTConfig(encoding="nope", layers=1, heads=2, dim=8, vocab_size=11, impl="tile"))
    attention.check_impl("auto")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nope", "no bias"),
        ("rope", "no bias"),
        ("alibi", "low rank"),
        ("cable-weighted", "low rank"),
        ("k-cable", "full rank"),
        ("rope+k-cable", "full rank"),
        ("cope", "owns its logits"),
        ("window+alibi", "no windows"),
    ],
)
def test_fold_says_what_a_bias_is(name: str, reason: str) -> None:
    q, k, _, bias, *_ = encoded(name)
    assert reason in attention.backend("fold").serves(bias, q, k).reason


def test_half_precision_names_itself() -> None:
    q, k, _, bias, *_ = encoded("cable-weighted", dtype=torch.bfloat16)
    assert "bfloat16" in attention.backend("fold").serves(bias, q, k).reason


@pytest.mark.parametrize("name", encodings.names())
@pytest.mark.parametrize("new", [1, 7])
@pytest.mark.parametrize("compiles", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_all_that_serve_agree_on_the_end_of_a_text(name: str, new: int, compiles: bool) -> None:
    """T queries, the last of S tokens; a whole text is a clause of the contract."""
    q, k, v, bias, *_ = encoded(name, new, past=9)
    assert k.size(-2) == 9 + new
    expected = attention.backend("reference")(q, k, v, bias, scale=0.5)
    served = [known for known in attention.BACKENDS if known.compiles == compiles and known.serves(bias, q, k)]
    assert compiles or len(served) >= 2
    for known in served:
        torch.testing.assert_close(known(q, k, v, bias, scale=0.5), expected, rtol=1e-5, atol=1e-5)


# -- somebody else's back end ----------------------------------------------------------------------------------------


class Matrix(Backend):
    """As an outsider writes one: the whole matrix, for biases that are added."""

    name = "matrix"

    def __init__(self, forgets: bool = False) -> None:
        self.forgets, self.calls = forgets, 0

    def serves(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        if not bias.additive or q.size(-2) < 2:
            return Verdict(False, "it adds a bias to the logits of a text")
        return Verdict(True, "the whole matrix, as an outsider has it")

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Bias, *, scale: float) -> Tensor:
        self.calls += 1
        logits = scale * q @ k.transpose(-1, -2)
        if not self.forgets:
            logits = logits + bias.added(slice(0, q.size(-2)))
        return mask_hidden(logits, bias.visibility()).softmax(-1).to(v.dtype) @ v


@pytest.fixture
def matrix(monkeypatch: pytest.MonkeyPatch) -> Matrix:
    """Registered: one line."""
    monkeypatch.setattr(attention, "BACKENDS", (made := Matrix(), *attention.BACKENDS))
    return made


def test_attention_uses_a_new_back_end(matrix: Matrix) -> None:
    q, k, v, bias, *_ = encoded("k-cable")
    assert choose(bias, q, k) == Choice(matrix, "the whole matrix, as an outsider has it")
    expected = attend(q, k, v, bias, scale=0.5, impl="reference")
    assert matrix.calls == 0
    torch.testing.assert_close(attend(q, k, v, bias, scale=0.5), expected)
    assert matrix.calls == 1
    q, k, v, bias, *_ = encoded("cope")
    with pytest.raises(UserError, match="impl 'matrix' cannot serve here: it adds a bias"):
        attend(q, k, v, bias, scale=0.5, impl="matrix")
    with pytest.raises(UserError, match="did you mean 'matrix'"):
        choose(bias, q, k, "matrixx")


def test_what_does_not_pay_is_left_to_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dear(Matrix):
        """It serves, at a price."""

        name = "dear"

        def pays(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
            return Verdict(q.size(-2) > 6, "it pays from 7 queries on")

    dear = Dear()
    monkeypatch.setattr(attention, "BACKENDS", (dear, *attention.BACKENDS))
    q, k, _, bias, *_ = encoded("k-cable", 6)
    assert choose(bias, q, k).backend is not dear
    assert choose(bias, q, k, "dear").backend is dear
    q, k, _, bias, *_ = encoded("k-cable", 7)
    assert choose(bias, q, k).backend is dear


def test_a_model_uses_a_new_back_end_and_decodes_past_it(matrix: Matrix) -> None:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"encoding": "k-cable", "layers": 2, "heads": 2, "dim": 16, "vocab_size": 31}
    model, plain = GPT(GPTConfig(**shape, impl="matrix")).eval(), GPT(GPTConfig(**shape, impl="reference")).eval()
    plain.load_state_dict(model.state_dict())
    tokens = torch.randint(0, 31, (2, 12))
    assert model.choices(tokens) == [Choice(matrix, "asked for")] * 2
    logits = model(tokens)
    assert matrix.calls == 2
    torch.testing.assert_close(logits, plain(tokens), rtol=1e-4, atol=1e-5)
    prompt, state = model.step(tokens[:, :11], model.start(batch_size=2))
    last, _ = model.step(tokens[:, 11:], state)
    torch.testing.assert_close(torch.cat([prompt, last], dim=1), logits, rtol=1e-4, atol=1e-5)


def test_the_catalogue_names_a_new_back_end(matrix: Matrix) -> None:
    assert catalogue.row("k-cable")["impls"][0] == "matrix"
    assert "matrix" not in catalogue.row("cope")["impls"]


WIDE = """
from extrapo.attention.backend import Backend, Verdict
from extrapo.attention.reference import Reference

class Wide(Backend):
    name = "wide"
    def serves(self, bias, q, k):
        return Verdict(True, "the plain formula in double precision")
    def __call__(self, q, k, v, bias, *, scale):
        return Reference()(q.double(), k.double(), v.double(), bias, scale=scale).to(v.dtype)

class Abstract(Backend):
    name = "abstract"

class Tiles(Wide):
    name = "tiles"

class Nothing: pass
"""

#: Somebody imports their own package first, which then asks for ours.
THEIRS = """
import sys, warnings
import somebodys
from extrapo import attention
with warnings.catch_warnings(record=True) as warned:
    names = [one.name for one in attention.BACKENDS]
print(*names)
print(len(warned))
from extrapo.errors import UserError
for name in ("abstract", "gone", "misnamed", "nothing"):
    try:
        attention.backend(name)
    except UserError as cause:
        print(cause)
print(type(attention.backend("tiles")).__module__)
"""


@pytest.mark.slow
def test_a_package_announces_its_back_ends(tmp_path: Path) -> None:
    """Ahead of what serves anything; a broken one takes nothing else down, and says why where it is asked for."""
    (tmp_path / "somebodys.py").write_text(WIDE)
    metadata = tmp_path / "somebodys-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1.0\n")
    points = {"wide": "Wide", "abstract": "Abstract", "gone": "Gone", "misnamed": "Wide", "tiles": "Tiles"}
    points["nothing"] = "Nothing"
    lines = "\n".join(f"{name} = somebodys:{cls}" for name, cls in points.items())
    (metadata / "entry_points.txt").write_text(f"[extrapo.backends]\n{lines}\n")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", THEIRS],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    names, warned, *told, module = done.stdout.splitlines()
    before, after = names.split(" wide ")
    assert before.split() == [one.name for one in attention.SPECIAL]
    assert after.split() == [one.name for one in attention.GENERAL]
    assert warned == "5"
    whys = ("abstract", "no attribute 'Gone'", "it calls itself 'wide'", "it is no Backend")
    for line, why in zip(told, whys, strict=True):
        assert line.startswith("the back end '")
        assert why in line.partition(" is broken: ")[2]
    assert module == "extrapo.attention.tiles"


class Contract(EncodingContract):
    """Not collected by itself: what somebody's own test class inherits."""

    encoding = "k-cable"


def test_the_contract_checks_a_new_back_end(matrix: Matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    Contract().test_every_backend_equals_the_reference((33,), False, monkeypatch)
    assert matrix.calls == 1


def test_the_contract_finds_out_one_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BACKENDS", (Matrix(forgets=True), *attention.BACKENDS))
    with pytest.raises(AssertionError, match="matrix, 33 tokens: values: off by"):
        Contract().test_every_backend_equals_the_reference((33,), False, monkeypatch)
