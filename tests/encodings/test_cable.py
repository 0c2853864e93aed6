"""Cable against the formulas of the paper, written out again in loops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from extrapo import encodings

SHAPE = {"heads": 2, "head_dim": 4, "dim": 8}


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(1, 7, 8, generator=torch.Generator().manual_seed(0))


def plain(name: str, layer: encodings.Encoding, x: torch.Tensor) -> torch.Tensor:
    """b_ij, one pair at a time: the sum of the increments after j up to i, gated, under the kernel."""
    weights = dict(layer.named_parameters())
    out = torch.full((2, 7, 7), float("-inf"), dtype=torch.float64)
    for h in range(2):
        w = weights["contextual.projection.weight"][h].double()
        z = x[0].double() @ w
        if name in ("cable", "k-cable"):
            increments = F.softplus(z + weights["contextual.projection.bias"][h].double())
        else:
            increments = F.relu(z)
        for i in range(7):
            gate = 1.0
            if name == "cable-weighted":
                gate = F.softplus(x[0, i].double() @ weights["gate.weight"][h].double())
            for j in range(i + 1):
                distance = gate * increments[j + 1 : i + 1].sum()
                out[h, i, j] = -torch.log(distance**2 + 1) if name == "k-cable" else -distance
    return out


@pytest.mark.parametrize("name", ["cable", "cable-weighted", "cable-nw", "k-cable"])
def test_formula(name: str, x: torch.Tensor) -> None:
    torch.manual_seed(1)
    layer = encodings.create(name, **SHAPE)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    torch.testing.assert_close(layer.bias(x).dense()[0].double(), plain(name, layer, x), rtol=1e-5, atol=1e-5)


def test_unit_increments_and_alibi_slopes_as_gate_are_alibi(x: torch.Tensor) -> None:
    layer = encodings.create("cable-weighted", **SHAPE, linear_bias=True)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.contextual.projection.bias.fill_(1.0)
        slopes = torch.tensor([0.0625, 0.00390625])
        # The gate reads x: a last dimension of ones carries its constant, softplus^-1 of the slope.
        x = torch.cat([x[..., :-1], torch.ones(1, 7, 1)], dim=-1)
        layer.gate.weight[:, -1] = torch.log(torch.expm1(slopes))
    alibi = encodings.create("alibi", **SHAPE)
    torch.testing.assert_close(layer.bias(x).dense(), alibi.bias(x).dense())


def test_a_kernel_replaces_the_one_of_the_scheme(x: torch.Tensor) -> None:
    torch.manual_seed(0)
    by_name = encodings.create("k-cable", **SHAPE)
    by_kernel = encodings.create("cable", **SHAPE, kernel="cauchy-log")
    by_kernel.load_state_dict(by_name.state_dict())
    assert torch.equal(by_name.bias(x).dense(), by_kernel.bias(x).dense())


def test_the_gate_goes_inside_the_kernel_or_outside(x: torch.Tensor) -> None:
    layers = {
        order: encodings.create("cable-weighted", **SHAPE, kernel="cauchy-log", kernel_order=order)
        for order in ("after_gate", "before_gate")
    }
    layers["before_gate"].load_state_dict(layers["after_gate"].state_dict())
    inside, outside = (layer.bias(x).dense() for layer in layers.values())
    assert not torch.allclose(inside, outside)
    gate = F.softplus(layers["before_gate"].gate(x)).unsqueeze(-1)
    distance = layers["before_gate"].bias(x).distance(slice(0, 7))
    below = torch.ones(7, 7, dtype=torch.bool).tril()
    torch.testing.assert_close(outside[..., below], (-gate * torch.log1p(distance**2))[..., below])


@pytest.mark.parametrize("source", ["full", "head"])
def test_parameters(source: str) -> None:
    layer = encodings.create("cable-weighted", **SHAPE, input=source)
    assert sum(p.numel() for p in layer.parameters()) == (2 * 2 * 8 if source == "full" else 2 * 8)


def test_distances_keep_their_digits_far_into_a_text() -> None:
    # 131,072 tokens of 0.69 each stand at 9e4, where float32 steps by 0.008; distances must not.
    layer = encodings.create("cable", heads=1, head_dim=4, dim=4)
    with torch.no_grad():
        layer.contextual.projection.weight.zero_()
    bias = layer.bias(torch.zeros(1, 131_072, 4))
    near = bias.added(slice(131_000, 131_008))[0, 0, -1, -3:]
    expected = torch.log(torch.tensor(2.0, dtype=torch.float64)) * torch.tensor([-2.0, -1.0, 0.0])
    torch.testing.assert_close(near.double(), expected.double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("cable-nw", [-2.25, -2.25, -0.25, 0.0]),
        ("cable", [-3.266129, -2.952867, -0.825939, 0.0]),
        ("k-cable", [-2.456816, -2.274127, -0.520088, 0.0]),
    ],
)
def test_numbers_worked_out_by_hand(name: str, last: list[float]) -> None:
    layer = encodings.create(name, heads=1, head_dim=1, dim=1)
    with torch.no_grad():
        layer.contextual.projection.weight.fill_(1.0)
    dense = layer.bias(torch.tensor([0.5, -1.0, 2.0, 0.25]).view(1, 4, 1)).dense()
    assert dense[0, 0, 3].tolist() == pytest.approx(last, abs=1e-6)


@torch.no_grad()
def test_decoding_adds_positions_without_a_copy(x: torch.Tensor) -> None:
    layer = encodings.create("k-cable", **SHAPE)
    past, places = layer.bias(x), set()
    for step in range(40):
        past = layer.bias(x[:, step % 7 : step % 7 + 1], past)
        places.add(past.keys.data_ptr())  # type: ignore[attr-defined]
    # The prompt's memory, and one that has room.
    assert len(places) == 2
    # Two texts go on from there, and each keeps its own.
    left, right = (layer.bias(token, past).dense() for token in (x[:, :1], 5 * x[:, 1:2]))
    assert not torch.equal(left, right)
    assert torch.equal(left, layer.bias(x[:, :1], past).dense())
