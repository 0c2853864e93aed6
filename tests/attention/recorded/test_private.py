"""The private names are what PyTorch's public ones come down to."""

from __future__ import annotations

import torch

from extrapo.attention.recorded.private import constant


def test_the_mark_of_a_constant_is_the_one_that_pytorch_sets() -> None:
    def ours() -> int:
        return 3

    def theirs() -> int:
        return 3

    torch.compiler.assume_constant_result(theirs)  # type: ignore[no-untyped-call]
    assert vars(constant(ours)) == vars(theirs) != {}
    assert torch.compile(lambda x: x + ours(), backend="eager", fullgraph=True)(torch.ones(1)).item() == 4
