"""Every registered encoding, with each of its modes, and compositions, under the contract."""

from __future__ import annotations

from typing import Any

from extrapo import encodings, kernels
from extrapo.testing import EncodingContract

#: Modes of an encoding that are another formula: (name, options, kernel).
VARIANTS: list[tuple[str, dict[str, Any], str | None]] = [
    ("adaptive", {"alpha_mode": "const"}, None),
    ("adaptive", {}, "cauchy-log"),
    ("alibi", {"learned": True}, None),
    ("alibi", {}, "log"),
    ("cable-weighted", {"kernel_order": "before_gate"}, "cauchy-log"),
    ("cable-weighted", {"input": "head", "linear_bias": True}, None),
    ("kerple-log", {"constraint": "clamp"}, None),
    ("kerple-power", {"constraint": "clamp"}, None),
    ("rope", {"fraction": 0.5, "layout": "interleaved"}, None),
    ("rope+k-cable", {}, None),
    ("rope+alibi", {"rope": {"base": 500_000.0}}, None),
    ("sinusoidal+cable", {}, None),
    ("learned+rope+cable-nw", {}, "sqrt"),
    *[("cable", {}, kernel) for kernel in kernels.names() if kernel != "linear"],
]


def contract(name: str, options: dict[str, Any], kernel: str | None) -> None:
    words = [name, kernel or "", *(f"{k}_{v}" for k, v in options.items())]
    title = "Test_" + "_".join("".join(c if c.isalnum() else "_" for c in word) for word in words if word)
    members = {"encoding": name, "options": options, "kernel": kernel, "__module__": __name__}
    globals()[title] = type(title, (EncodingContract,), members)


for registered in encodings.names():
    contract(registered, {}, None)
for variant in VARIANTS:
    contract(*variant)
