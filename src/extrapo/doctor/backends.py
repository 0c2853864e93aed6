"""Which back ends of attention serve on the devices that there are, asked of biases of each kind."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from extrapo import attention
from extrapo.attention import Backend
from extrapo.doctor.check import Check
from extrapo.encodings import Encoded, create

#: One for each kind of bias: of low rank, a formula of single pairs, logits that the scheme owns.
ASKED = ("alibi", "k-cable", "cope")
#: Tokens of the text.
TEXT = 64


def checks() -> Iterator[Check]:
    """A line per back end and device."""
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        asked = list(examples(device))
        for backend in attention.BACKENDS:
            yield verdict(backend, device, asked)


@torch.no_grad()
def examples(device: str) -> Iterator[tuple[str, Encoded]]:
    """What attention is asked, in words and as tensors."""
    for name in ASKED:
        layer = create(name, heads=2, head_dim=16, dim=32).to(device).eval()
        x, q = torch.zeros(1, TEXT, 32, device=device), torch.zeros(1, 2, TEXT, 16, device=device)
        whole = layer.encode(q, q, q, x=x)
        yield name, whole
        one = q[:, :, :1]
        yield f"{name}, decoding", layer.encode(one, one, one, x=x[:, :1], state=whole.state)


def verdict(backend: Backend, device: str, asked: list[tuple[str, Encoded]]) -> Check:
    """What it serves; why it serves nothing, where it does not."""
    served, reasons = [], []
    with torch.no_grad():
        for name, encoded in asked:
            answer = backend.serves(encoded.bias, encoded.q, encoded.k)
            served += [name] if answer else []
            reasons += [] if answer else [answer.reason]
    label = f"{backend.name} on {device}"
    if served:
        return Check(
            "back end", label, "ok", "serves " + ("everything" if len(served) == len(asked) else "; ".join(served))
        )
    # What most of them say, for a single one may be special.
    return Check("back end", label, "absent", max(reasons, key=reasons.count))
