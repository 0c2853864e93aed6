"""Private API: on a version that it was not tested with the wing steps aside, says so once, and all goes on."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from extrapo import encodings
from extrapo.attention import attend, choose
from extrapo.attention.cpu import fused, private

PRIVATE = ("torch._inductor", "torch.fx.experimental", "torch._dynamo", "_scaled_dot_product")


@pytest.fixture
def another_version(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch, "__version__", "2.99.1+cpu")
    private.is_tested.cache_clear()
    yield
    private.is_tested.cache_clear()


def test_this_version_is_tested() -> None:
    assert private.is_tested()


@pytest.mark.usefixtures("another_version", "cpp_compiler")
@pytest.mark.parametrize(("name", "impl"), [("alibi", "fold"), ("cable", "fold"), ("k-cable", "cpu-tiles")])
def test_another_version_is_served_by_others(name: str, impl: str, caplog: pytest.LogCaptureFixture) -> None:
    """Also where a text is long enough to pay for a compiler."""
    made = encodings.create(name, heads=2, head_dim=4, dim=8)
    q, k, v = (torch.randn(1, 2, 800, 4, requires_grad=True) for _ in range(3))
    with caplog.at_level(logging.WARNING, "extrapo"):
        for _ in range(2):
            encoded = made.encode(q, k, v, x=torch.randn(1, 800, 8))
            found = choose(encoded.bias, q, k)
            assert found.impl == impl
            attend(q, k, v, encoded.bias, scale=0.5).sum().backward()  # type: ignore[no-untyped-call]
    (said,) = caplog.messages
    assert "2.99.1" in said
    assert "\n" not in said


@pytest.mark.usefixtures("cpp_compiler")
def test_a_pytorch_without_that_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    """The products of matrices are found by their name in PyTorch's library: where there is none others serve."""
    monkeypatch.setattr(fused, "product", lambda dtype: None)
    q = torch.randn(1, 2, 9, 4)
    bias = encodings.create("alibi", heads=2, head_dim=4, dim=8).bias(torch.randn(1, 9, 8))
    assert "not one that it was tested with" in fused.CPUFused().serves(bias, q, q).reason


def test_it_stands_in_one_file() -> None:
    package = Path(private.__file__).parents[2]
    for file in package.rglob("*.py"):
        if file == Path(private.__file__):
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        names += [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        assert not [name for name in names if name.startswith(PRIVATE)], file
