"""Every registered encoding, with each of its modes, compositions, and layers that differ, under the contract."""

from __future__ import annotations

from typing import Any

from extrapo import encodings, kernels
from extrapo.encodings.accumulated import ANGLES
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
    ("shaw", {"clip": 5, "values": True}, None),
    ("transformer-xl", {"clamp_len": 7}, None),
    ("t5", {"bucketing": "clip"}, None),
    ("t5", {"buckets": 8, "max_distance": 20, "sqrt_width": True}, None),
    ("sandwich", {"first": 0, "width": 32}, None),
    ("mep", {"merge": "logit", "parametrised": True}, None),
    ("fire", {"threshold": 8.0, "activation": "leaky-relu"}, None),
    ("bam", {"shape": "linspace", "ssmax": "inside"}, None),
    ("bam", {"shape": "normal", "ssmax": "outside", "learn_location": True}, None),
    ("relative-proj", {"length": 9, "curves": 3}, None),
    ("kerple-weight", {"constraint": "clamp"}, None),
    ("kerple-weight+kerple-power", {}, None),
    *[("accumulated-rotation", {"angles": angles}, None) for angles in ANGLES],
    *[
        ("accumulated-rotation", {"angles": angles, "values": True}, None)
        for angles in ("random", "random-indep", "lf")
    ],
    ("rope+accumulated-rotation", {}, None),
    ("accumulated-rotation+cable", {"accumulated-rotation": {"values": True}}, None),
    ("randomized-kerple-log", {}, None),
    ("randomized-alibi", {}, None),
    ("randomized-alibi", {"alibi": {"kernel": "log"}}, None),
    ("randomized-alibi", {"randomized": {"mode": "offset"}}, None),
    ("randomized-transformer-xl", {}, None),
    ("randomized-rope", {"randomized": {"evaluation": "sampled"}}, None),
    ("bipe-rope", {"bipe": {"separators": [3], "rows": 5}}, None),
    ("path", {"chunk": 5, "conv": 0, "rank": None, "qk_norm": True}, None),
    ("path+k-cable", {}, None),
    ("path+grape-ap", {}, None),
    ("rope+path", {}, None),
    ("fox", {"t_min": 2.0, "t_max": 512.0, "gate_scale": "s", "input": "head"}, None),
    ("fox", {"gate": "fixed", "t_min": 2.0, "t_max": 512.0}, None),
    ("grape-a-qk", {"qk_norm": False}, None),
    ("rope+grape-a-qk", {}, None),
    ("contextual", {"increments": "exp", "gate": "learned", "kernel_order": "before_gate"}, "cauchy-log"),
    ("contextual", {"increments": "const", "gate": "softplus"}, "log"),
    ("rope+fox", {}, None),
    ("rope", {"learned": True, "fraction": 0.5}, None),
    ("p-rope", {"p": 0.0}, None),
    ("yarn", {"mscale": False, "original_length": 8}, None),
    ("longrope", {"n_hat": 3, "factors": [1.0, 1.5, 2.0, 8.0], "layout": "interleaved"}, None),
    ("dynamic-ntk", {"original_length": 8, "factor": 2.0}, None),
    ("dynamic-yarn", {"original_length": 8}, None),
    ("dynamic-yarn", {"original_length": 8, "length": "pass"}, None),
    ("dynamic-longrope", {"original_length": 8}, None),
    ("dynamic-longrope", {"original_length": 8, "short_factors": [1.0, 1.1, 1.2, 1.3]}, None),
    ("yarn", {"truncate": False, "attention_factor": 1.2}, None),
    ("dynamic-ntk+alibi", {"dynamic-ntk": {"original_length": 8}}, None),
    ("xpos", {"scale_base": 8.0, "layout": "interleaved"}, None),
    ("pope", {"start": "uniform"}, None),
    ("pope+k-cable", {}, None),
    ("carope", {"c0": True, "linear_bias": False}, None),
    ("selective-rope", {"skip_conv": True, "gate": True}, None),
    ("selective-rope", {"phase_bias": True, "tau": "rfa", "rank": 3, "gate": True}, None),
    ("grape-m-ctx", {"gate": "softplus", "norm": "before", "per_head": True}, None),
    ("grape-m-ctx", {"norm": None}, None),
    ("rerope", {"window": 5}, None),
    ("self-extend", {"group": 2, "window": 6}, None),
    ("self-extend+k-cable", {}, None),
    ("randomized-rerope", {"rerope": {"window": 9}}, None),
    *[("adaptive", {"alpha_mode": mode, "sqrt": False, "temperature": False}, None) for mode in ("log", "ema")],
    ("adaptive", {"theta": 0.1}, None),
    ("cope", {"npos": 4, "bias_scale": "one", "gate_scale": "one"}, None),
    ("dape-v2", {"hidden": "open", "host": "cable"}, None),
    ("dape", {"host": "none"}, None),
    ("rope+dape", {}, None),
    ("stick-breaking", {"attend_current": True, "remainder": "value"}, None),
    ("stick-breaking+alibi", {}, None),
    ("tape", {"mixing": "heads"}, None),
    *[(name, {"window": 6}, None) for name in ("window", "sinks", "lm-infinite", "streaming-llm")],
    ("cable+ssmax", {}, None),
    ("window+cope", {"window": {"window": 6}}, None),
    ("window+randomized-alibi", {"window": {"window": 6}}, None),
    ("stick-breaking+randomized-transformer-xl", {}, None),
    ("rope+window:3,nope:1", {"window": {"window": 6}}, None),
    ("k-cable:1,nope:1", {}, None),
    ("tape:1,nope:1", {}, None),
    *[
        ("accumulated-rotation:1,accumulated-rotation+alibi:1", {"accumulated-rotation": {"angles": angles}}, None)
        for angles in ("pmlp", "lf")
    ],
    *[("cable", {}, kernel) for kernel in kernels.names() if kernel != "linear"],
]


def contract(name: str, options: dict[str, Any], kernel: str | None, *, variant: bool = False) -> None:
    words = [name, kernel or "", *(f"{k}_{v}" for k, v in options.items())]
    title = "Test_" + "_".join("".join(c if c.isalnum() else "_" for c in word) for word in words if word)
    members = {"encoding": name, "options": options, "kernel": kernel, "__module__": __name__}
    if variant:
        members["long_cases"] = "chaos"
    globals()[title] = type(title, (EncodingContract,), members)


for registered in encodings.names():
    contract(registered, {}, None)
for one, chosen, form in VARIANTS:
    contract(one, chosen, form, variant=True)
