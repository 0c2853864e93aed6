"""What an attention gives, values and all gradients, to be held to what another one gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from extrapo import encodings
from extrapo.attention import backend
from extrapo.encodings import Bias, Encoding

HEADS, HEAD_DIM, DIM, SCALE = 2, 4, 8, 0.5

Outcome = dict[str, Tensor]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def layer(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> Encoding:
    """Parameters moved off their starting values, so that every term counts."""
    torch.manual_seed(0)
    made = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM, train_length=64, **options).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made.to(dtype).eval()


def encoded_outcome(
    made: Encoding, impl: str, new: int, past: int = 0, *, batch: int = 2, dtype: torch.dtype = torch.float64
) -> Outcome:
    """Of the last `new` of past + new tokens under a layer's encoding; none where the back end does not serve."""
    length = past + new
    # Tokens before heads in memory, as a model's projections leave them.
    leaves = {letter: draw(batch, length, HEADS, HEAD_DIM, seed=n, dtype=dtype) for n, letter in enumerate("qkv")}
    leaves = {letter: x.transpose(1, 2) for letter, x in leaves.items()}
    leaves["x"] = draw(batch, length, DIM, seed=3, dtype=dtype)
    leaves = {name: x.requires_grad_() for name, x in leaves.items()}
    state = None
    for begin, end in ((0, past), (past, length)):
        if begin == end:
            continue
        q, k, v = (leaves[letter][:, :, begin:end] for letter in "qkv")
        encoded = made.encode(q, k, v, x=leaves["x"][:, begin:end], state=state)
        state = encoded.state
    if not backend(impl).serves(encoded.bias, encoded.q, encoded.k):
        return {}
    out = encoded.output(backend(impl)(encoded.q, encoded.k, encoded.v, encoded.bias, scale=SCALE))
    leaves |= {name: x for name, x in made.named_parameters() if x.requires_grad}
    return {"output": out.detach(), **gradients(out, leaves)}


def outcome(bias: Bias, impl: str, q: Tensor, k: Tensor, v: Tensor) -> Outcome:
    """Of any q, k, v under a bias, with the gradients of all that is trained."""
    leaves = {letter: x for letter, x in zip("qkv", (q, k, v), strict=True) if x.requires_grad}
    leaves |= {f"field {n}": x for n, x in enumerate(bias.tensors()) if x.requires_grad}
    out = backend(impl)(q, k, v, bias, scale=SCALE)
    return {"output": out.detach(), **gradients(out, leaves)}


def gradients(out: Tensor, leaves: Outcome) -> Outcome:
    """Of each leaf, zeros where there is none."""
    receive = draw(*out.shape, seed=5, dtype=out.dtype)
    found = torch.autograd.grad(out, list(leaves.values()), receive, allow_unused=True, retain_graph=True)
    return {name: torch.zeros_like(x) if g is None else g for (name, x), g in zip(leaves.items(), found, strict=True)}


def assert_near(got: Outcome, expected: Outcome, tolerance: float) -> None:
    """Each of them within so much of the norm of what is expected; what is next to 0, of a hundredth."""
    assert got.keys() == expected.keys()
    for name, x in expected.items():
        off, size = (got[name].double() - x.double()).norm(), x.double().norm()
        assert off <= tolerance * size.clamp_min(1e-2), f"{name}: off by {float(off / size):.2g} in norm"


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads of PyTorch's."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
