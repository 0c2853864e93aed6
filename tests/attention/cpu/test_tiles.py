"""Which attention tiles on a CPU serve, and that all cores leave the results of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.attention import attend
from extrapo.attention.cpu.tiles import CPUTiles
from extrapo.encodings import Encoding, Rowwise

HEADS, HEAD_DIM, DIM, SCALE = 2, 4, 8, 0.5

BACKEND = CPUTiles()


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def layer(name: str) -> Encoding:
    torch.manual_seed(0)
    made = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made.eval()


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["k-cable", "cope"])
def test_it_serves_all_but_one_query_and_says_why(name: str) -> None:
    q = draw(1, HEADS, 9, HEAD_DIM)
    bias = layer(name).encode(q, q, q, x=draw(1, 9, DIM)).bias
    verdict = BACKEND.serves(bias, q, q)
    assert verdict
    assert "all cores" in verdict.reason
    assert not BACKEND.serves(bias, q[:, :, :1], q)
    assert not BACKEND.serves(bias, q.to("meta"), q.to("meta"))


@pytest.mark.parametrize("name", ["k-cable", "kerple-log", "cable-weighted", "adaptive", "cope", "rope+window"])
def test_threads_change_nothing(name: str, tile_rows: Any) -> None:
    """Three workers for seven tiles give the values and gradients of one, and leave the number of threads as it was."""
    made, results = layer(name), []
    for count in (1, 3):
        leaves = [draw(2, HEADS, 13, HEAD_DIM, seed=n).requires_grad_() for n in (1, 2, 3)]
        leaves.append(draw(2, 13, DIM, seed=4).requires_grad_())
        with threads(count), tile_rows(2):
            encoded = made.encode(*leaves[:3], x=leaves[3])
            out = attend(encoded.q, encoded.k, encoded.v, encoded.bias, scale=SCALE, impl="cpu-tiles")
            grads = torch.autograd.grad(out, [*leaves, *made.parameters()], draw(*out.shape, seed=5), allow_unused=True)
            assert torch.get_num_threads() == count
        results.append([out, *(torch.zeros(()) if grad is None else grad for grad in grads)])
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)


@dataclass(frozen=True)
class Broken(Rowwise):
    """Whose logits cannot be made."""

    length: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return 1, HEADS, self.length, self.length

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        raise ZeroDivisionError


def test_an_error_in_a_thread_is_raised(tile_rows: Any) -> None:
    q = draw(1, HEADS, 8, HEAD_DIM)
    with threads(2), tile_rows(2), pytest.raises(ZeroDivisionError):
        BACKEND(q, q, q, Broken(8), scale=SCALE)
