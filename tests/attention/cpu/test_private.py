"""Private API: on a version that it was not tested with the wing steps aside, says so once, and all goes on."""

from __future__ import annotations

import ast
import ctypes
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from extrapo import encodings
from extrapo.attention import attend, choose
from extrapo.attention.cpu import fused, private, row
from extrapo.attention.cpu.private import product
from extrapo.attention.recorded import private as recorded

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


def test_the_product_of_matrices_is_pytorchs_own() -> None:
    """Column-major, as BLAS has it."""
    place = product(torch.float64)
    if place is None:
        pytest.skip("PyTorch computes with another library here")
    a, b, c = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4), np.zeros((2, 4))
    pointers = [ctypes.c_void_p(x.ctypes.data) for x in (a, b, c)]
    m, n, k = (ctypes.byref(ctypes.c_int(size)) for size in (4, 2, 3))
    one, zero = ctypes.byref(ctypes.c_double(1)), ctypes.byref(ctypes.c_double(0))
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)(place)
    texts = [ctypes.c_char_p(b"N")] * 2
    arguments = (*texts, m, n, k, one, pointers[1], m, pointers[0], k, zero, pointers[2], m)
    function(*(ctypes.cast(x, ctypes.c_void_p) for x in arguments))
    np.testing.assert_allclose(c, a @ b)


@pytest.fixture
def another_blas(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PyTorch's libraries, in which there is no product of that name."""
    monkeypatch.setattr(private, "PRODUCTS", dict.fromkeys(private.PRODUCTS, "no_such_product_"))
    private.product.cache_clear()
    yield
    private.product.cache_clear()


@pytest.mark.usefixtures("another_blas", "cpp_compiler")
def test_a_build_without_that_blas_is_served_by_others(caplog: pytest.LogCaptureFixture) -> None:
    """It is found by its name in PyTorch's library; where there is none a line says so."""
    made = encodings.create("k-cable", heads=2, head_dim=4, dim=8)
    q, x = torch.randn(1, 2, 800, 4), torch.randn(1, 800, 8)
    last = made.encode(q[:, :, -1:], q[:, :, -1:], q[:, :, -1:], x=x[:, -1:], state=made.encode(q, q, q, x=x).state)
    with caplog.at_level(logging.WARNING, "extrapo"), torch.no_grad():
        for encoded, impl in ((made.encode(q, q, q, x=x), "cpu-tiles"), (last, "decode")) * 2:
            assert choose(encoded.bias, encoded.q, encoded.k).impl == impl
            attend(encoded.q, encoded.k, encoded.v, encoded.bias, scale=0.5)
        for one in (fused.CPUFused(), row.CPURow()):
            encoded = last if one.name == "cpu-row" else made.encode(q, q, q, x=x)
            assert "not one that it was tested with" in one.serves(encoded.bias, encoded.q, encoded.k).reason
    (said,) = caplog.messages
    assert "no_such_product_" in said
    assert "\n" not in said


def test_it_stands_in_one_file_of_a_folder() -> None:
    package = Path(private.__file__).parents[2]
    for file in package.rglob("*.py"):
        if file in (Path(private.__file__), Path(recorded.__file__)):
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        names += [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        assert not [name for name in names if name.startswith(PRIVATE)], file
