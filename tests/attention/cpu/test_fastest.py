"""The fastest back end of a CPU: which it takes by given times, where it leaves the choice, and that all are exact."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.attention import Backend, Choice, Verdict, attend, backend, choose, force_compile
from extrapo.attention.cpu import compiler, measured
from extrapo.attention.cpu.fastest import FastestOnCPU, describe, size
from extrapo.attention.cpu.fold import CPUFold
from extrapo.attention.cpu.measured import Seconds
from extrapo.attention.cpu.tiles import CPUTiles
from extrapo.attention.fold import Fold
from extrapo.attention.tiles import Tiles
from extrapo.encodings.core.bias import Elementwise
from extrapo.encodings.core.encoding import Encoded

SCALE = 0.4

#: Back ends that no compiler is needed for.
PLAIN = Fold(), Tiles()


class Times:
    """A measurement of given times, which counts."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = {name.replace("_", "-"): value for name, value in seconds.items()}
        self.asked: list[list[str]] = []

    def __call__(self, candidates: Sequence[Backend], bias: Elementwise, q: Tensor, k: Tensor) -> Seconds:
        self.asked.append([candidate.name for candidate in candidates])
        return {candidate.name: self.seconds[candidate.name] for candidate in candidates}


@pytest.fixture(autouse=True)
def short_texts_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "MIN_LOGITS", 1)
    monkeypatch.setattr(compiler, "has_compiler", lambda: True)
    monkeypatch.delenv("EXTRAPO_MEASURE", raising=False)


def encoded(
    name: str = "cable", length: int = 9, *, batch: int = 1, dtype: torch.dtype = torch.float32, trained: bool = True
) -> Encoded:
    torch.manual_seed(0)
    layer = encodings.create(name, heads=2, head_dim=4, dim=8).requires_grad_(trained)
    q, k, v = torch.randn(3, batch, 2, length, 4, dtype=dtype).requires_grad_(trained).unbind(0)
    return layer.encode(q, k, v, x=torch.randn(batch, length, 8))


def test_the_shortest_time_decides(tmp_path: Path) -> None:
    q, k, _, bias, *_ = encoded()
    for shortest in ("fold", "tiles"):
        times = Times(**{"fold": 0.3, "tiles": 0.2, shortest: 0.118})
        verdict = FastestOnCPU(PLAIN, times, tmp_path / shortest).serves(bias, q, k)
        assert verdict
        assert verdict.backend is not None
        assert verdict.backend.name == shortest
    assert verdict.reason == "measured here: 118 ms, fold 300 ms"


def test_it_is_measured_once_in_a_process_and_once_on_a_machine(tmp_path: Path) -> None:
    q, k, _, bias, *_ = encoded()
    times = Times(fold=0.3, tiles=0.2)
    first = FastestOnCPU(PLAIN, times, tmp_path)
    verdict = first.serves(bias, q, k)
    (tmp_path / "measured.json").rename(tmp_path / "away.json")
    assert first.serves(bias, q, k) == verdict
    (tmp_path / "away.json").rename(tmp_path / "measured.json")
    # A later process, in which another one would be faster.
    later = FastestOnCPU(PLAIN, Times(fold=0.1, tiles=0.2), tmp_path).serves(bias, q, k)
    assert later.backend is PLAIN[1]
    assert later.reason == verdict.reason
    assert times.asked == [["fold", "tiles"]]


def test_times_of_another_processor_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, _, bias, *_ = encoded()
    FastestOnCPU(PLAIN, Times(fold=0.3, tiles=0.2), tmp_path).serves(bias, q, k)
    monkeypatch.setattr("extrapo.attention.cpu.fastest.machine", lambda: "another processor")
    here = FastestOnCPU(PLAIN, Times(fold=0.1, tiles=0.2), tmp_path).serves(bias, q, k)
    assert here.backend is PLAIN[0]
    assert len(json.loads((tmp_path / "measured.json").read_text())) == 2


def test_what_makes_another_attention() -> None:
    def line(name: str = "cable", length: int = 512, batch: int = 1, *, trained: bool = True) -> str:
        q, k, _, bias, *_ = encoded(name, length, batch=batch, trained=trained)
        assert isinstance(bias, Elementwise)
        return describe(bias, q, k)

    assert line() == line(length=500) == line("fox")
    assert "\n" not in line()
    others = {line("alibi"), line("cable-weighted"), line(length=1024), line(batch=4), line(trained=False)}
    with torch.no_grad():
        others.add(line())
    assert len({line(), *others}) == 6, "what is not trained is as under no_grad"
    threads = torch.get_num_threads()
    try:
        before = line()
        torch.set_num_threads(threads + 1)
        assert line() != before
    finally:
        torch.set_num_threads(threads)
    assert [size(n, 4096) for n in (1, 300, 400, 512, 10_000)] == [1, 256, 512, 512, 4096]


@pytest.mark.parametrize(
    ("name", "why"), [("nope", "no choice"), ("window", "no choice"), ("cope", "no choice"), ("k-cable", "nothing to")]
)
def test_where_there_is_no_choice_nothing_is_measured(name: str, why: str, tmp_path: Path) -> None:
    q, k, _, bias, *_ = encoded(name)
    times = Times()
    own = FastestOnCPU(measure=times, folder=tmp_path)
    for _ in range(2):
        verdict = own.serves(bias, q, k)
        assert not verdict
        assert why in verdict.reason
    assert not times.asked


def test_where_nothing_is_to_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, _, bias, *_ = encoded()
    times = Times()
    own = FastestOnCPU(PLAIN, times, tmp_path)
    assert not own.serves(bias, q[:, :, -1:], k)
    assert not own.serves(bias, q.to("meta"), k.to("meta"))
    half = encoded(dtype=torch.bfloat16)
    assert not own.serves(half.bias, half.q, half.k), "tiles alone serve"
    with monkeypatch.context() as patch:
        patch.setenv("EXTRAPO_MEASURE", "0")
        assert "switched off" in own.serves(bias, q, k).reason
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "has_compiler", lambda: False)
        assert not own.serves(bias, q, k)
    with monkeypatch.context() as patch, force_compile():
        patch.setattr(compiler, "MIN_LOGITS", 10**6)
        assert "too short" in own.serves(bias, q, k).reason
    assert not times.asked


class Refuses(Tiles):
    """Tiles that serve the first time they are asked."""

    name = "refuses"

    def __init__(self) -> None:
        self.asked = 0

    def serves(self, bias: object, q: Tensor, k: Tensor) -> Verdict:
        self.asked += 1
        return Verdict(self.asked == 1, "not today")


def test_the_fastest_is_asked_each_time_whether_it_serves(tmp_path: Path) -> None:
    q, k, _, bias, *_ = encoded()
    own = FastestOnCPU((Fold(), Refuses()), Times(fold=0.3, refuses=0.2), tmp_path)
    assert own.serves(bias, q, k) == Verdict(False, "not today")


def test_an_interrupted_measurement_is_made_anew(tmp_path: Path) -> None:
    q, k, _, bias, *_ = encoded()

    def interrupted(*_: object) -> Seconds:
        raise KeyboardInterrupt

    own = FastestOnCPU(PLAIN, interrupted, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        own.serves(bias, q, k)
    own.measure = Times(fold=0.1, tiles=0.2)
    assert own.serves(bias, q, k).backend is PLAIN[0]


def test_what_serves_is_reported_and_what_is_asked_for_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = FastestOnCPU(PLAIN, Times(fold=0.3, tiles=0.2), tmp_path)
    monkeypatch.setattr("extrapo.attention.BACKENDS", (own, *map(backend, ("cpu-fold", "fold", "tiles", "reference"))))
    q, k, v, bias, *_ = encoded()
    chosen = choose(bias, q, k)
    assert chosen == Choice(PLAIN[1], "measured here: 200 ms, fold 300 ms") == choose(bias, q, k, "cpu-fastest")
    assert chosen.impl == "tiles"
    assert choose(bias, q, k, "fold").impl == "fold"
    expected = attend(q, k, v, bias, scale=SCALE, impl="reference")
    for got in (attend(q, k, v, bias, scale=SCALE), own(q, k, v, bias, scale=SCALE)):
        torch.testing.assert_close(got, expected)


@pytest.mark.slow
@pytest.mark.usefixtures("cpp_compiler")
@pytest.mark.parametrize("name", ["alibi", "cable-weighted"])
def test_a_real_measurement_and_whichever_is_taken_is_exact(name: str, tmp_path: Path) -> None:
    """Values and gradients beside the plain formula, in float64, and the times on disk."""
    made = encodings.create(name, heads=2, head_dim=4, dim=8).double()
    x = torch.randn(1, 70, 8, dtype=torch.float64)
    q, k, v = torch.randn(3, 1, 2, 70, 4, dtype=torch.float64).requires_grad_().unbind(0)
    bias = made.bias(x)
    own = FastestOnCPU((Fold(), CPUFold(), CPUTiles()), folder=tmp_path)
    verdict = own.serves(bias, q, k)
    assert verdict.backend in own.candidates
    assert verdict.reason.startswith("measured here: ")
    ((attention, seconds),) = json.loads((tmp_path / "measured.json").read_text()).items()
    assert measured.machine() in attention
    assert set(seconds) == {"fold", "cpu-fold", "cpu-tiles"}
    assert verdict.backend is not None
    assert seconds[verdict.backend.name] == min(seconds.values())
    found = []
    for one in (own, backend("reference")):
        out = one(q, k, v, bias, scale=SCALE)
        receive = torch.ones_like(out).cumsum(-2)
        found.append([out, *torch.autograd.grad(out, [q, k, v, *made.parameters()], receive, retain_graph=True)])
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)
