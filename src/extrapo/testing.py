"""EncodingContract: what every encoding owes, yours included; and KernelContract, what every kernel does.

    from extrapo.testing import EncodingContract

    class TestMine(EncodingContract):
        encoding = "mine"                     # registered by importing your module
        options = {"taps": 8}                 # optional

A clause that a scheme cannot satisfy by its nature is named in `Encoding.exempt`, with the reason, and then skipped:
any_length, finite_bias, translation, half_precision, frozen, decoding, packing. That of `float32_gradients` says which
bound holds instead, "within 1e-3: the gradient jumps where ...".

Cases that take long have `slow` in their name, and no mark, which a project would have to register first:
`pytest -k "not slow"` leaves them out.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from extrapo import attention, encodings
from extrapo.attention import attend, tiling
from extrapo.config import GPTConfig
from extrapo.encodings import Encoding, LayerSpec, Relative
from extrapo.encodings.per_layer import kinds, pattern
from extrapo.errors import NotApplicable
from extrapo.gpt import GPT
from extrapo.kernel_contract import KernelContract

__all__ = ["EncodingContract", "KernelContract"]

HEADS, HEAD_DIM, DIM = 4, 8, 32
VOCAB, TRAIN_LENGTH = 61, 32


class EncodingContract:
    """Inherit, set `encoding`, run pytest."""

    #: registry name, several joined by `+`, or one for each layer of a pattern, `rope:3,nope:1`.
    encoding: ClassVar[str]
    #: the encoding's own options.
    options: ClassVar[Mapping[str, Any]] = {}
    #: another kernel than the encoding's own.
    kernel: ClassVar[str | None] = None

    def layers(self, dtype: torch.dtype = torch.float64, heads: int = HEADS) -> list[Encoding]:
        """One layer's encoding, or one of each kind where layers differ; parameters are moved off their starting values
        so that every term counts.
        """
        torch.manual_seed(0)
        spec = LayerSpec(heads, HEAD_DIM, heads * HEAD_DIM)
        made = kinds(self.encoding, spec, kernel=self.kernel, options=self.options)
        distinct = [layer.to(dtype).eval() for layer in made.values()]
        with torch.no_grad():
            for layer in distinct:
                for parameter in layer.parameters():
                    parameter.add_(0.2 * torch.randn_like(parameter))
        return distinct

    def layer(self, dtype: torch.dtype = torch.float64) -> Encoding:
        """The first of them."""
        return self.layers(dtype)[0]

    def exemptions(self) -> dict[str, str]:
        """The clauses that the encoding cannot satisfy: clause -> why."""
        return {clause: why for layer in self.layers() for clause, why in layer.exemptions().items()}

    def model(self, train_length: int = TRAIN_LENGTH, **changes: Any) -> GPT:
        """A small GPT with this encoding."""
        torch.manual_seed(0)
        config = GPTConfig(
            vocab_size=VOCAB,
            layers=max(2, len(pattern(self.encoding))),
            heads=HEADS,
            dim=DIM,
            encoding=self.encoding,
            encoding_options=dict(self.options),
            kernel=self.kernel,
            train_length=train_length,
            **changes,
        )
        return GPT(config).eval()

    def _parts(self) -> list[type[Encoding]]:
        return [encodings.get(part) for name in set(pattern(self.encoding)) for part in encodings.split(name)]

    def skip_if_exempt(self, clause: str) -> None:
        """Skip a clause that the encoding says it cannot satisfy."""
        if reason := self.exemptions().get(clause):
            pytest.skip(f"'{self.encoding}' is exempt from '{clause}': {reason}")

    # -- compute paths -------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("lengths", "compiled"), [((1, 65), False), pytest.param((150,), True, id="slow")])
    def test_every_backend_equals_the_reference(
        self, lengths: tuple[int, ...], compiled: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each back end that serves gives the reference's values and gradients, in float64, for lengths that divide no
        tile; those that compile first, once.
        """
        monkeypatch.setattr(tiling, "MAX_ROWS", 16)
        for layer, length in itertools.product(self.layers(), lengths):
            _, wanted, expected = self._attend(layer, "reference", length)
            for backend in attention.BACKENDS:
                serves, grads, got = self._attend(layer, backend.name, length, at_any_cost=compiled)
                if not serves:
                    continue
                what = f"{backend.name}, {length} tokens"
                assert_near(got, expected, 1e-10, f"{what}: values")
                for name in wanted:
                    assert_near(grads[name], wanted[name], 1e-8, f"{what}: gradient of {name}")

    def _attend(
        self,
        layer: Encoding,
        impl: str,
        length: int,
        dtype: torch.dtype = torch.float64,
        batch: int = 2,
        at_any_cost: bool = True,
    ) -> tuple[str | None, dict[str, Tensor], Tensor]:
        """Which back end served, None where it does not, or not at the cost; gradients of the inputs and of all
        parameters; the output.
        """
        generator = torch.Generator().manual_seed(1)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(dtype)

        x = draw(batch, length, layer.dim).requires_grad_()
        q, k, v = (draw(batch, layer.heads, length, HEAD_DIM).requires_grad_() for _ in range(3))
        receive = draw(batch, layer.heads, length, HEAD_DIM)
        encoded = layer.encode(q, k, v, x=x)
        if impl == "auto":
            backend = attention.choose(encoded.bias, encoded.q, encoded.k).backend
        else:
            backend = attention.backend(impl)
        pays = at_any_cost or backend.pays(encoded.bias, encoded.q, encoded.k)
        if not (pays and backend.serves(encoded.bias, encoded.q, encoded.k)):
            return None, {}, receive
        scale = 1 / math.sqrt(HEAD_DIM)
        out = encoded.output(backend(encoded.q, encoded.k, encoded.v, encoded.bias, scale=scale))
        leaves = {"q": q, "k": k, "v": v, "x": x, **dict(layer.named_parameters())}
        grads = torch.autograd.grad((out * receive).sum(), list(leaves.values()), allow_unused=True)
        named_grads = zip(leaves, leaves.values(), grads, strict=True)
        return backend.name, {name: torch.zeros_like(x) if grad is None else grad for name, x, grad in named_grads}, out

    # -- float32 and half precision ---------------------------------------------------------------------------------

    @pytest.mark.parametrize(("length", "heads"), [(256, HEADS), pytest.param(1024, 1, id="slow")])
    def test_float32_gradients(self, length: int, heads: int) -> None:
        """Gradients of all that is trained, by what serves and by tiles, are within 1e-4 of float64's in norm."""
        bound = gradient_bound(self.exemptions().get("float32_gradients", "within 1e-4"))
        for layer in self.layers(torch.float32, heads):
            _, expected, _ = self._attend(copy.deepcopy(layer).double(), "tiles", length, torch.float64, 1)
            served = self._attend(copy.deepcopy(layer), "auto", length, torch.float32, 1)
            measured = [served]
            if served[0] != "tiles":
                measured += [self._attend(copy.deepcopy(layer), "tiles", length, torch.float32, 1)]
            for name, got, _ in measured:
                for leaf, wanted in expected.items():
                    off, size = (got[leaf] - wanted).norm(), wanted.norm()
                    assert off <= bound * size, f"{name}, gradient of {leaf}: off by {float(off / size):.2g} in norm"

    def test_half_precision_of_inputs_alone(self) -> None:
        """A float32 layer takes inputs in half precision, also without autocast, and gives outputs of their dtype."""
        for layer, dtype in itertools.product(self.layers(torch.float32), (torch.bfloat16, torch.float16)):
            x, q, k, v = (t.to(dtype).requires_grad_() for t in self._draw(9))
            q, k, v, bias, _, output = layer.encode(q, k, v, x=x)
            out = output(attend(q, k, v, bias, scale=1 / math.sqrt(HEAD_DIM)))
            assert out.dtype == dtype
            out.float().sum().backward()  # type: ignore[no-untyped-call]

    # -- the bias ------------------------------------------------------------------------------------------------

    def test_dense_bias_is_causal_and_finite(self) -> None:
        """-inf above the diagonal, finite on and below it, in float32."""
        self.skip_if_exempt("finite_bias")
        x = torch.randn(2, 9, DIM, generator=torch.Generator().manual_seed(2))
        future = torch.ones(9, 9, dtype=torch.bool).triu(1)
        for layer in self.layers(torch.float32):
            dense = layer.bias(x).dense()
            assert dense.dtype == torch.float32
            assert dense.shape[1:] == (HEADS, 9, 9)
            assert torch.isneginf(dense[..., future]).all()
            assert torch.isfinite(dense[..., ~future]).all()

    def test_translation(self) -> None:
        """The same tokens later in a text whose earlier tokens are out of sight: nothing changes where the scheme
        claims so, and something does where it does not.
        """
        self.skip_if_exempt("translation")
        claimed = all(part.translation_invariant for part in self._parts())
        model, tokens = self.model().double(), sample(2, 20)
        context, _ = model.context(tokens)
        here = model.hidden(tokens, context=context)
        shifted = []
        for shift in (5, 1000):
            there = replace(context, index=context.index + shift, start=shift, shared={})
            try:
                shifted.append((model.hidden(tokens, context=there) - here).abs().max())
            except NotApplicable:
                assert not claimed
        if claimed:
            assert max(shifted) < 1e-9, f"claims to depend on distances alone, and moves by {float(max(shifted)):.2g}"
        else:
            assert max(shifted) > 1e-9, "does not claim to depend on distances alone, and does"

    def test_columns_forget_a_constant(self) -> None:
        """Columns of positions that all move together, as far as a long text takes them, give the same output."""
        q, k, v = torch.randn(3, 1, HEADS, 40, HEAD_DIM, generator=torch.Generator().manual_seed(5)).double()
        x = torch.randn(1, 40, DIM, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        fold, folded = attention.backend("fold"), 0
        with torch.no_grad():
            for layer in self.layers():
                q_, k_, v_, bias, *_ = layer.encode(q, k, v, x=x)
                if isinstance(bias, Relative) and fold.serves(bias, q_, k_):
                    folded += 1
                    there = replace(bias, queries=bias.queries + 1e4, keys=bias.keys + 1e4)
                    assert_near(fold(q_, k_, v_, there, scale=0.3), fold(q_, k_, v_, bias, scale=0.3), 1e-9, "output")
        if not folded:
            pytest.skip("is not a product of columns of positions")

    def test_half_precision(self) -> None:
        """In bfloat16, attention stays within 3% of what float32 makes of the same numbers, whatever serves."""
        self.skip_if_exempt("half_precision")
        outs: dict[torch.dtype, list[Tensor]] = {torch.float32: [], torch.bfloat16: []}
        for dtype in outs:
            for layer in self.layers(torch.bfloat16):
                x, q, k, v = (t.bfloat16().to(dtype) for t in self._draw(3 * TRAIN_LENGTH))
                q, k, v, bias, _, output = layer.to(dtype).encode(q, k, v, x=x)
                outs[dtype].append(output(attend(q, k, v, bias, scale=1 / math.sqrt(HEAD_DIM))).float())
        for half, full in zip(outs[torch.bfloat16], outs[torch.float32], strict=True):
            assert half.isfinite().all()
            off = (half - full).square().mean().sqrt()
            assert off <= 0.03 * full.square().mean().sqrt(), f"off by {float(off):.3g}"

    def _draw(self, length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x (2, T, D), q, k, v (2, H, T, d)."""
        generator = torch.Generator().manual_seed(6)
        q, k, v = torch.randn(3, 2, HEADS, length, HEAD_DIM, generator=generator)
        return torch.randn(2, length, DIM, generator=generator), q, k, v

    # -- the model -----------------------------------------------------------------------------------------------

    def test_no_token_sees_a_later_one(self) -> None:
        """Changing token t leaves the outputs before t as they were."""
        model, tokens = self.model().double(), sample(2, 24)
        before = model(tokens)
        for t in (1, 11, 23):
            changed = tokens.clone()
            changed[:, t] = (changed[:, t] + 1) % VOCAB
            after = model(changed)
            assert_near(after[:, :t], before[:, :t], 1e-12, f"token {t}")
            assert (after[:, t:] - before[:, t:]).abs().max() > 1e-6

    def test_any_length(self) -> None:
        """Runs, and stays finite, up to four times the training length and at lengths that divide nothing."""
        model = self.model()
        assert torch.isfinite(model(sample(1, 1))).all()
        self.skip_if_exempt("any_length")
        for length in (2 * TRAIN_LENGTH + 5, 4 * TRAIN_LENGTH):
            assert torch.isfinite(model(sample(1, length))).all(), f"{length} tokens"

    def test_gradients_are_finite_and_no_parameter_is_frozen(self) -> None:
        """From the scheme's own starting values, every parameter receives a finite gradient that is not zero."""
        model, exempt = self.model().train(), self.exemptions()
        model(sample(2, TRAIN_LENGTH)).logsumexp(-1).square().mean().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, f"{name} has no gradient"
            assert torch.isfinite(parameter.grad).all(), f"{name} has a gradient that is not finite"
            if ("encoding" in name or "positions" in name) and "frozen" not in exempt:
                assert parameter.grad.abs().max() > 0, f"{name} is frozen at the start"

    def test_decoding_equals_the_parallel_pass(self) -> None:
        """A prompt, and then some tokens at a time, give the logits of one pass, in float32, to 1e-4."""
        self.skip_if_exempt("decoding")
        model, tokens = self.model(), sample(2, TRAIN_LENGTH)
        whole = model(tokens)
        # Token by token until windows are full; blocks go on to the training length. After a longer prompt a few tell.
        for prompt, new, stop in ((1, 1, 20), (5, 1, 12), (6, 5, TRAIN_LENGTH)):
            state = model.start(batch_size=2)
            logits, state = model.step(tokens[:, :prompt], state)
            steps = [logits]
            for t in range(prompt, stop, new):
                logits, state = model.step(tokens[:, t : t + new], state)
                steps.append(logits)
            got = torch.cat(steps, dim=1)
            assert_near(got, whole[:, : got.size(1)], 1e-4, f"logits after a prompt of {prompt}, {new} at a time")

    def test_packed_documents_do_not_see_one_another(self) -> None:
        """Several documents in one row give what each gives alone."""
        self.skip_if_exempt("packing")
        model, tokens = self.model().double(), sample(2, 24)
        lengths = [[9, 1, 14], [24]]
        documents = torch.stack([torch.arange(len(n)).repeat_interleave(torch.tensor(n)) for n in lengths])
        packed = model(tokens, documents)
        for row, sizes in enumerate(lengths):
            for one, got in zip(torch.split(tokens[row], sizes), torch.split(packed[row], sizes), strict=True):
                assert_near(got, model(one.unsqueeze(0))[0], 1e-9, f"a document of {len(one)} tokens")

    def test_grouped_query_heads(self) -> None:
        """Two key-value heads for four query heads are four whose keys and values repeat."""
        grouped, full = self.model(kv_heads=2).double(), self.model().double()
        weights = grouped.state_dict()
        for name in list(weights):
            if ".qkv." in name:
                q, k, v = weights[name].tensor_split([DIM, DIM + DIM // 2])
                k, v = (t.view(2, HEAD_DIM, -1).repeat_interleave(2, dim=0).reshape(DIM, *t.shape[1:]) for t in (k, v))
                weights[name] = torch.cat([q, k, v])
        full.load_state_dict(weights)
        tokens = sample(2, 17)
        assert_near(grouped(tokens), full(tokens), 1e-9, "logits")

    def test_biases_of_the_model(self) -> None:
        """`model.biases` gives one (B, H, T, T) per layer, what each adds to s q.k."""
        self.skip_if_exempt("finite_bias")
        biases = self.model().biases(sample(2, 12))
        assert {tuple(b.shape) for b in biases} == {(2, HEADS, 12, 12)}
        for bias in biases:
            assert torch.isfinite(bias.tril()).all()
            assert torch.isneginf(bias[..., torch.ones(12, 12).triu(1).bool()]).all()

    def test_state_dict_round_trip(self) -> None:
        """A model that loads another's weights computes the same."""
        first, second = self.model(), self.model()
        with torch.no_grad():
            for parameter in second.parameters():
                parameter.add_(0.01)
        second.load_state_dict(first.state_dict())
        tokens = sample(1, 20)
        assert torch.equal(first(tokens), second(tokens))


def gradient_bound(reason: str) -> float:
    """The number after the word "within"."""
    return float(reason.split("within ")[1].split(":")[0])


def sample(batch: int, length: int) -> Tensor:
    """(B, T) token ids, the same at every call."""
    return torch.randint(0, VOCAB, (batch, length), generator=torch.Generator().manual_seed(3))


def assert_near(got: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Largest difference at most `tolerance`, relative to the expected values where these are above 1."""
    got, expected = got.detach(), expected.detach()
    off = ((got - expected).abs() / expected.abs().clamp_min(1)).max() if expected.numel() else torch.tensor(0.0)
    assert off <= tolerance, f"{what}: off by {float(off):.3g}, allowed {tolerance:g}"
