"""KernelContract: what every kernel owes, yours included.

    from extrapo.testing import KernelContract

    class TestMine(KernelContract):
        kernel = "mine"                       # registered by importing your module
        options = {"c": 2.0}                  # optional

A clause that a kernel cannot satisfy by its nature is named in `exempt`, with the reason, and then skipped: `zero`,
where the bias of no distance is a constant of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from extrapo import kernels
from extrapo.kernels.base import NARROWEST, WIDEST, Kernel, Positive, Width

#: More than a mixture has terms.
HEADS = 5
#: From nothing to far past any text.
FAR = (0.0, 1e-12, 1e-6, 1.0, 1e3, 1e6)


class KernelContract:
    """Inherit, set `kernel`, run pytest."""

    #: registry name.
    kernel: ClassVar[str]
    #: the kernel's own options.
    options: ClassVar[Mapping[str, Any]] = {}
    #: clauses that it cannot satisfy: clause -> why.
    exempt: ClassVar[Mapping[str, str]] = {}

    def made(self, heads: int | None = None) -> Kernel:
        """The kernel as it starts."""
        return kernels.create(self.kernel, heads=heads, **self.options)

    def moved(self, seed: int = 0, heads: int | None = None, size: float = 1.0) -> Kernel:
        """The kernel in float64, its free values moved at random."""
        torch.manual_seed(seed)
        kernel = self.made(heads).double()
        with torch.no_grad():
            for parameter in kernel.parameters():
                parameter.add_(size * torch.randn_like(parameter))
        return kernel

    # -- shapes --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_without_heads_it_takes_any_shape(self, dtype: torch.dtype) -> None:
        """And keeps shape and dtype; whole numbers are distances as well."""
        kernel = self.made()
        for shape in [(), (5,), (2, 3), (2, 4, 3, 3)]:
            bias = kernel(torch.rand(shape, dtype=dtype))
            assert (bias.shape, bias.dtype) == (shape, dtype)
        assert torch.equal(kernel(torch.arange(9)), kernel(torch.arange(9.0)))

    def test_a_head_alone_is_the_kernel_without_heads(self) -> None:
        """Each head has parameters of its own."""
        kernel = self.moved(heads=HEADS)
        z = 20 * torch.rand(2, HEADS, 4, 5, dtype=torch.float64)
        bias = kernel(z)
        assert bias.shape == z.shape
        torch.testing.assert_close(kernel(z[0]), bias[0])
        alone = self.made().double()
        alone.load_state_dict({key: of_head(kernel.state_dict()[key], own) for key, own in alone.state_dict().items()})
        torch.testing.assert_close(alone(z[:, 1]), bias[:, 1])

    def test_weights_survive_a_round_trip(self) -> None:
        """Another kernel of the kind takes all of it."""
        first, second = self.moved(1, heads=2), self.moved(2, heads=2)
        second.load_state_dict(first.state_dict())
        z = 30 * torch.rand(1, 2, 4, 4, dtype=torch.float64)
        assert torch.equal(first(z), second(z))

    # -- values and gradients ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("seed", range(8))
    def test_finite_and_never_rising_where_it_says_so(self, seed: int) -> None:
        """At any parameters, near and far."""
        kernel = self.moved(seed)
        generator = torch.Generator().manual_seed(seed)
        z = torch.cat([torch.tensor([0.0, 1e5]), 10 ** (10 * torch.rand(40, generator=generator) - 5)]).double()
        bias = kernel(z.sort().values)
        assert torch.isfinite(bias).all()
        if kernel.monotone:
            assert (bias.diff() <= 1e-12 * bias.abs().max().clamp_min(1)).all()
            assert bias.max() <= 1e-12

    def test_no_distance_is_no_bias(self) -> None:
        """phi(0) = 0 at any parameters."""
        if reason := self.exempt.get("zero"):
            pytest.skip(f"'{self.kernel}' is exempt from 'zero': {reason}")
        assert abs(self.moved(3)(torch.zeros(1, dtype=torch.float64)).item()) < 1e-12

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("heads", [None, 2])
    def test_gradients_are_finite_at_zero_and_far_away(self, dtype: torch.dtype, heads: int | None) -> None:
        """Of the distance and of every parameter."""
        kernel = self.made(heads)
        z = torch.tensor(FAR, dtype=dtype).expand(1, 2, 1, len(FAR)).clone().requires_grad_()
        bias = kernel(z)
        assert torch.isfinite(bias).all()
        for one in bias.unbind(-1):
            grads = torch.autograd.grad(one.sum(), [z, *kernel.parameters()], retain_graph=True)
            assert all(torch.isfinite(grad).all() for grad in grads)

    def test_gradients_are_those_of_the_formula(self) -> None:
        """By differences, of the distance and of what is trained."""
        kernel = self.moved(4, heads=2, size=0.3)
        z = torch.tensor([0.3, 1.4, 9.7, 20.2], dtype=torch.float64).view(1, 1, 2, 2).requires_grad_()
        values = [value.double().detach() for value in kernel.values()]
        # Thresholds and frequencies are constants.
        assert torch.autograd.gradcheck(kernel.phi, (z, *(value.requires_grad_(value.dim() != 1) for value in values)))

    def test_all_that_is_trained_passes_through_values(self) -> None:
        """`phi` is pure, and no parameter is idle."""
        kernel = self.moved(5, heads=2)
        z = 20 * torch.rand(1, 2, 3, 3, dtype=torch.float64)
        assert not kernel.phi(z, *(value.detach().to(z.dtype) for value in kernel.values())).requires_grad
        if parameters := list(kernel.parameters()):
            assert all(grad.abs().max() > 0 for grad in torch.autograd.grad(kernel(z).sum(), parameters))

    @pytest.mark.parametrize("kick", [-1e4, -30.0, 30.0, 1e4])
    def test_parameters_stay_in_range_whatever_the_optimiser_does(self, kick: float) -> None:
        """And the bias finite, where all of them have a range."""
        kernel = self.made(heads=2)
        with torch.no_grad():
            for parameter in kernel.parameters():
                parameter.add_(kick)
        held = [module for module in kernel.modules() if isinstance(module, Positive | Width)]
        for module in held:
            low, high = (module.floor, module.ceiling) if isinstance(module, Positive) else (NARROWEST, WIDEST)
            value = module()
            assert torch.isfinite(value).all()
            assert (value >= low * (1 - 1e-5)).all()
            assert (value <= high * (1 + 1e-5)).all()
        if len(held) == len(list(kernel.parameters())):
            bias = kernel(torch.tensor([0.0, 1.0, 1e3]))
            assert torch.isfinite(bias).all(), "no finite bias at the end of a range: a divisor wants a `floor`"

    # -- what it says of itself ----------------------------------------------------------------------------------

    def test_it_says_what_it_is(self) -> None:
        """Its paper, its form in a few words."""
        cls = kernels.get(self.kernel)
        assert cls.paper
        assert cls.summary


def of_head(value: Tensor, own: Tensor) -> Tensor:
    """A weight as head 1 alone has it: what is not of a head is the same for all."""
    if value.shape == own.shape:
        return value
    heads = next(axis for axis in range(value.dim()) if value.size(axis) == HEADS)
    return value.select(heads, 1).reshape(own.shape)
