"""PaTH against its definition: one pair of query and key at a time, every step a matrix."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo import encodings
from extrapo.attention import attend
from extrapo.attention.tiles import attend_by_tiles, one_after_the_other
from extrapo.attention.tiling import tile_slices
from extrapo.config import GPTConfig
from extrapo.encodings import Bias, Context, Encoding, path
from extrapo.encodings.core.householder import propagate_keys
from extrapo.encodings.path import PathBias
from extrapo.errors import UserError
from extrapo.gpt import GPT

HEADS, D = 2, 4
DIM = HEADS * D
SCALE = 1 / math.sqrt(D)
SHAPE = {"heads": HEADS, "head_dim": D, "dim": DIM}


def create(name: str = "path", **options: object) -> Encoding:
    """In float64, away from the start: at the start all w are short and all beta are 1."""
    torch.manual_seed(0)
    layer = encodings.create(name, **SHAPE, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


def draws(length: int) -> tuple[torch.Tensor, ...]:
    """x (1, T, D) and q, k, v (1, H, T, d), leaves."""
    generator = torch.Generator().manual_seed(length)
    shapes = ((1, length, DIM), *3 * ((1, HEADS, length, D),))
    return tuple(torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes)


def steps(layer: Encoding, x: torch.Tensor, head: int) -> list[torch.Tensor]:
    """H_t of one head, with w and beta from the parameters, token by token."""
    weights = dict(layer.named_parameters())
    z = x[0] @ weights["w.0.weight"].T @ weights["w.1.weight"].T
    found = []
    for t in range(x.size(1)):
        taps = weights["conv.weight"][:, 0]
        mixed = sum(taps[:, 2 - back] * z[t - back] for back in range(3) if t >= back)
        own = F.silu(mixed)[head * D : (head + 1) * D]
        w = own / own.norm()
        logit = x[0, t] @ weights["beta.weight"][head] + weights["beta.bias"][head]
        found.append(torch.eye(D, dtype=x.dtype) - 2 / (1 + torch.exp(-logit)) * torch.outer(w, w))
    return found


def slow(layer: Encoding, x: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """s q_i^T H_i ... H_{j+1} k_j, (H, T, T), -inf above the diagonal."""
    length = x.size(1)
    heads = []
    for head in range(HEADS):
        h = steps(layer, x, head)
        rows = []
        for i in range(length):
            row, query = [], q[0, head, i]
            for j in reversed(range(i + 1)):
                row.append(SCALE * query @ k[0, head, j])
                query = query @ h[j]
            rows.append(torch.stack(row[::-1] + (length - 1 - i) * [torch.tensor(-torch.inf, dtype=x.dtype)]))
        heads.append(torch.stack(rows))
    return torch.stack(heads)


def by_tiles(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: Bias, rows: int) -> torch.Tensor:
    """Attention by tiles of so many rows."""
    return attend_by_tiles(q, k, v, bias, SCALE, one_after_the_other, lambda _: [tile_slices(q.size(2), rows)])


@pytest.mark.parametrize("rows", [None, 5])
@pytest.mark.parametrize("length", [1, 2, 7, 12, 19])
def test_values_and_gradients_are_those_of_the_definition(length: int, rows: int | None) -> None:
    layer = create(chunk=4)
    x, q, k, v = draws(length)
    expected = slow(layer, x, q, k).softmax(-1) @ v[0]
    bias = layer.bias(x).bind(q, k)
    got = attend(q, k, v, bias, scale=SCALE, impl="reference") if rows is None else by_tiles(q, k, v, bias, rows)
    got = got[0]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
    receive = torch.randn(got.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    leaves = [x, q, k, v, *layer.parameters()]
    wanted = torch.autograd.grad((expected * receive).sum(), leaves, allow_unused=True)
    found = torch.autograd.grad((got * receive).sum(), leaves, allow_unused=True)
    for a, b in zip(found, wanted, strict=True):
        zero = torch.zeros(())
        torch.testing.assert_close(
            zero if a is None else a, b if b is not None else torch.zeros_like(a), atol=1e-9, rtol=1e-9
        )


@given(length=st.integers(1, 20), chunk=st.integers(1, 9), start=st.integers(0, 19), stop=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_any_rows_in_any_chunks(length: int, chunk: int, start: int, stop: int) -> None:
    stop = max(1, min(stop, length))
    start = min(start, stop - 1)
    layer = create(chunk=chunk)
    x, q, k, _ = draws(length)
    bias = layer.bias(x).bind(q, k)
    got = bias.score_rows(q[:, :, start:stop], k[:, :, :stop], SCALE, slice(start, stop))[0]
    expected = slow(layer, x, q, k)[:, start:stop, :stop]
    seen = torch.isfinite(expected)
    torch.testing.assert_close(got[seen], expected[seen], rtol=0, atol=1e-10)


def test_the_rewritten_keys_of_decoding() -> None:
    # The rule of the paper, one token after the other: k_j <- H_t k_j for all earlier keys, then append k_t.
    layer = create(chunk=3)
    x, _, k, _ = draws(11)
    expected = []
    for head in range(HEADS):
        keys: list[torch.Tensor] = []
        for t, h in enumerate(steps(layer, x, head)):
            keys = [h @ key for key in keys] + [k[0, head, t]]
        expected.append(torch.stack(keys))
    torch.testing.assert_close(layer.bias(x).rewrite_keys(k)[0], torch.stack(expected), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["path", "path-fox"])
@pytest.mark.parametrize("lengths", [[1, 1, 1, 1, 1], [7, 5, 1, 2], [2, 13]])
def test_decoding_several_tokens_at_once(name: str, lengths: list[int]) -> None:
    torch.manual_seed(0)
    options = {"chunk": 4} if name == "path" else {"path": {"chunk": 4}}
    config = GPTConfig(vocab_size=11, layers=2, heads=HEADS, dim=DIM, encoding=name, encoding_options=options)
    model = GPT(config).double().eval()
    for block in model.blocks:
        for parameter in block.attention.encoding.parameters():
            torch.nn.init.normal_(parameter)
    tokens = torch.randint(0, 11, (2, sum(lengths)))
    state, logits = model.start(2), []
    for part in torch.split(tokens, lengths, dim=1):
        step, state = model.step(part, state)
        logits.append(step)
    torch.testing.assert_close(torch.cat(logits, dim=1), model(tokens), rtol=0, atol=1e-9)


def test_keys_go_through_their_chunks_once_in_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = create("path-fox", path={"chunk": 4})
    x, q, k, v = draws(11)
    calls: list[int] = []

    def counted(keys: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        calls.append(keys.size(-2))
        return propagate_keys(keys, *rest)

    monkeypatch.setattr(path, "propagate_keys", counted)
    encoded = layer.encode(q, k, v, x=x)
    encoded.output(attend(encoded.q, encoded.k, encoded.v, encoded.bias, scale=SCALE)).sum().backward()
    assert calls == [4], "all chunks at once"


def test_logits_before_the_keys_are_known() -> None:
    layer = create()
    x, q, k, _ = draws(5)
    bias = layer.bias(x)
    assert bias.shape == (1, HEADS, 5, 5)
    assert not bias.dense().tril().any()
    with pytest.raises(UserError, match="`encode` and attend_under bind them"):
        bias.score_rows(q, k, SCALE, slice(0, 5))


def test_without_steps_it_is_nope() -> None:
    layer = create()
    with torch.no_grad():
        layer.beta.weight.zero_()
        layer.beta.bias.fill_(-1000.0)
    x, q, k, v = draws(9)
    expected = attend(q, k, v, encodings.create("nope", **SHAPE).bias(x), scale=SCALE, impl="reference")
    torch.testing.assert_close(
        attend(q, k, v, layer.bias(x).bind(q, k), scale=SCALE, impl="reference"), expected, rtol=0, atol=1e-12
    )


def test_the_start_projects_out() -> None:
    torch.manual_seed(0)
    layer = encodings.create("path", **SHAPE)
    assert not layer.beta.bias.any()
    x = torch.randn(1, 5, DIM)
    bias = layer.bias(x)
    w = bias.w[:, :, 0, :5]
    torch.testing.assert_close(w.norm(dim=-1), torch.ones(1, HEADS, 5), rtol=0, atol=1e-4)
    with torch.no_grad():
        layer.beta.weight.zero_()
    # beta = 1: the last token's step leaves nothing of the older keys along its own w.
    keys = layer.bias(x).rewrite_keys(torch.randn(1, HEADS, 5, D))
    along = (keys[:, :, :4] @ w[:, :, 4].unsqueeze(-1)).abs().max()
    assert along < 1e-5


def test_norm_of_each_head() -> None:
    """As the library's layer: over the head's own width, one gain per dimension for all heads, 1e-5 under the root."""
    layer = create(qk_norm=True)
    x, q, k, v = draws(5)
    transformed = layer.transform(q, k, v, x=x, context=Context.plain(x), state=None)
    for got, plain, norm in ((transformed.q, q, layer.q_norm), (transformed.k, k, layer.k_norm)):
        assert norm.weight.shape == (D,)
        for h in range(HEADS):
            for t in range(5):
                vector = plain[0, h, t]
                expected = vector / (vector.square().mean() + 1e-5).sqrt() * norm.weight
                torch.testing.assert_close(got[0, h, t], expected, rtol=0, atol=1e-12)


def test_without_convolution_the_map_is_normalised_as_it_is() -> None:
    layer = create(conv=0, rank=None)
    x, *_ = draws(6)
    z = (x[0] @ layer.w[0].weight.T).view(6, HEADS, D).transpose(0, 1)
    torch.testing.assert_close(layer.bias(x).w[0, :, 0, :6], z / z.norm(dim=-1, keepdim=True))


def test_path_fox_is_path_and_fox_up_to_the_factor() -> None:
    scaled, plain = create("path-fox"), create("path+fox")
    plain.load_state_dict(scaled.state_dict(), strict=False)
    x, q, k, _ = draws(8)
    rows = slice(0, 8)
    logits = plain.part("path").bias(x).bind(q, k).score_rows(q, k, SCALE, rows)
    gate = plain.part("fox").bias(x).added(rows)
    for layer, factor in ((plain, 1.0), (scaled, 1 / math.sqrt(D))):
        got = layer.bias(x).bind(q, k).score_rows(q, k, SCALE, rows)
        torch.testing.assert_close(got, logits + factor * gate, rtol=0, atol=1e-12)
    assert gate.abs().max() > 0.1


def test_half_precision_keys_are_kept_in_float32() -> None:
    layer = encodings.create("path", **SHAPE).bfloat16()
    x, k = torch.randn(1, 6, DIM).bfloat16(), torch.randn(1, HEADS, 6, D).bfloat16()
    bias = layer.bias(x)
    assert isinstance(bias, PathBias)
    assert bias.w.dtype == bias.rewrite_keys(k).dtype == torch.float32
    assert attend(k, k, k, bias.bind(k, k), scale=SCALE, impl="reference").dtype == torch.bfloat16


@pytest.mark.parametrize("options", [{"rank": 0}, {"conv": -1}, {"chunk": 0}])
def test_options_out_of_range(options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="must be at least"):
        encodings.create("path", **SHAPE, **options)


def test_keys_of_another_width() -> None:
    x, q, *_ = draws(3)
    wider = torch.cat([q, q], dim=-1)
    with pytest.raises(UserError, match="keys of width 4; another scheme made it 8"):
        create().bias(x).bind(wider, wider)
