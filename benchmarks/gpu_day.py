"""The day there is a GPU: what could not be known without one, in ten minutes, kept after every part.

    python benchmarks/gpu_day.py [--out gpu_day.json] [--smoke]

Each part runs whatever becomes of the others; what fails leaves its error in its place. `--smoke` is all of it on a
CPU, with texts and models of nothing, in a quarter of a minute: Triton's interpreter runs the kernels where there is
one (TRITON_INTERPRET=1 in the environment, or it starts itself again), PyTorch's operations where there is none.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import sysconfig
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo import GPT, GPTConfig, RunConfig, encodings
from extrapo.attention import attend, backend, choose
from extrapo.bench.machine import this_machine
from extrapo.files import write_text
from extrapo.loss import mean_nll
from extrapo.run.fit import fit

SCHEMES = ("alibi", "cable", "cable-weighted", "fox", "t5", "k-cable", "kerple-log", "adaptive", "sinks+k-cable")
TRAINED = ("nope", "rope", "alibi", "cable", "k-cable", "adaptive", "path")

#: Products of bfloat16 a second, by what a card's name contains.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 181e12, "4090": 165e12}


class Day:
    """What all parts share.

    Args:
        smoke: on a CPU, with texts and models of nothing.
    """

    def __init__(self, smoke: bool) -> None:
        self.smoke = smoke
        self.device = torch.device("cpu" if smoke else "cuda")
        self.heads, self.width = (1, 8) if smoke else (12, 64)

    def bias(self, name: str, length: int, batch: int, dtype: torch.dtype, *, wide: bool = False) -> dict[str, Any]:
        """A layer's q, k, v and bias, the same numbers in every dtype; in float64 where `wide`."""
        torch.manual_seed(0)
        dim = self.heads * self.width
        layer = encodings.create(name, heads=self.heads, head_dim=self.width, dim=dim).to(self.device)
        x = torch.randn(batch, length, dim, device=self.device)
        qkv = torch.randn(3, batch, self.heads, length, self.width, device=self.device).to(dtype)
        if wide:
            layer, x, qkv = layer.double(), x.double(), qkv.double()
        leaves = [qkv.requires_grad_(), x.requires_grad_(), *(p for p in layer.parameters() if p.requires_grad)]
        return {"layer": layer, "x": x, "qkv": qkv, "leaves": leaves}

    def attend(self, case: dict[str, Any], impl: str) -> Tensor:
        """Attention of such a case."""
        encoded = case["layer"].encode(*case["qkv"], x=case["x"])
        return attend(encoded.q, encoded.k, encoded.v, encoded.bias, scale=self.width**-0.5, impl=impl)

    def impl(self, case: dict[str, Any]) -> str:
        """The generated kernels, or what `auto` takes where they do not serve."""
        encoded = case["layer"].encode(*case["qkv"], x=case["x"])
        served = backend("triton").serves(encoded.bias, encoded.q, encoded.k)
        return "triton" if served else choose(encoded.bias, encoded.q, encoded.k).impl

    def seconds(self, work: Callable[[], Any], times: int = 10) -> float:
        """The median of some, after two that warm up."""
        times = 1 if self.smoke else times
        taken = []
        for n in range(times + 2 - self.smoke):
            self.wait()
            began = time.perf_counter()
            work()
            self.wait()
            taken.append((time.perf_counter() - began) if n >= 2 - self.smoke else math.nan)
        return sorted(one for one in taken if one == one)[times // 2]

    def wait(self) -> None:
        """Until the device is done."""
        if not self.smoke:
            torch.cuda.synchronize()


def machine(day: Day) -> Any:
    """What all else was measured on."""
    found = this_machine()
    if not day.smoke:
        card = torch.cuda.get_device_properties(0)
        found |= {"card": card.name, "capability": [card.major, card.minor], "memory": card.total_memory}
    return found


def parity(day: Day) -> Any:
    """The largest error over the largest value, against float64; and ten runs, which agree to the bit or race."""
    rows = []
    # A clock, parameters of the head, a window; planes that turn.
    for name in SCHEMES[-2:] if day.smoke else (*SCHEMES, "path"):
        for dtype in (torch.float32, torch.bfloat16):
            length = 18 if day.smoke else 1000
            expected = outcome(day, day.bias(name, length, 1, dtype, wide=True), "reference")
            case = day.bias(name, length, 1, dtype)
            impl = day.impl(case)
            runs = [outcome(day, case, impl) for _ in range(2 if day.smoke else 10)]
            off = [largest_error(a, b) for a, b in zip(runs[0], expected, strict=True)]
            same = all(torch.equal(a, b) for run in runs[1:] for a, b in zip(run, runs[0], strict=True))
            rows.append({"encoding": name, "dtype": str(dtype), "impl": impl, "errors": off, "same_to_the_bit": same})
    return rows


def largest_error(found: Tensor, expected: Tensor) -> float:
    """Over the largest value."""
    return float((found.double() - expected).abs().max() / expected.abs().max().clamp_min(1e-9))


def outcome(day: Day, case: dict[str, Any], impl: str) -> list[Tensor]:
    """The output and the gradients of q, k, v, the input and all parameters."""
    out = day.attend(case, impl)
    receive = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).bfloat16().to(out)
    grads = torch.autograd.grad(out, case["leaves"], receive, allow_unused=True)
    return [out.detach(), *(g for g in grads if g is not None)]


def attention(day: Day) -> Any:
    """Forward, and forward + backward, as a ratio to the stock causal attention; what others have beside it; memory."""
    rows = []
    for length in (32,) if day.smoke else (1024, 4096, 16384, 65536):
        batch = max(1, 16384 // length) if not day.smoke else 1
        shape = (3, batch, day.heads, length, day.width)
        plain = torch.randn(shape, device=day.device, dtype=torch.bfloat16, requires_grad=True)
        contenders: dict[str, Callable[[], Tensor]] = {
            "sdpa": lambda plain=plain: F.scaled_dot_product_attention(*plain, is_causal=True)
        }
        for name in SCHEMES[1:2] if day.smoke else SCHEMES:
            case = day.bias(name, length, batch, torch.bfloat16)
            impl = day.impl(case)
            contenders[f"{name} {impl}"] = lambda case=case, impl=impl: day.attend(case, impl)
            if not day.smoke and length <= 16384:
                contenders[f"{name} flex"] = lambda case=case: day.attend(case, "flex")
        if (forgetting := fla(day, shape)) is not None:
            contenders["fla forgetting"] = forgetting
        first: tuple[float, float] | None = None
        for name, run in contenders.items():
            row: dict[str, Any] = {"length": length, "batch": batch, "name": name}
            try:
                with torch.no_grad():
                    forward = day.seconds(run)
                if not day.smoke:
                    torch.cuda.reset_peak_memory_stats()
                both = day.seconds(lambda run=run: run().sum().backward())
                first = first or (forward, both)
                row |= {"forward": forward, "both": both, "ratios": [forward / first[0], both / first[1]]}
                row["peak"] = 0 if day.smoke else torch.cuda.max_memory_allocated()
            except Exception as cause:
                row["error"] = repr(cause)[:300]
            rows.append(row)
    return rows


def fla(day: Day, shape: tuple[int, ...]) -> Callable[[], Tensor] | None:
    """Forgetting attention of flash-linear-attention, where that is installed."""
    try:
        from fla.ops.forgetting_attn import parallel_forgetting_attn
    except ImportError:
        return None
    _, batch, heads, length, width = shape
    q, k, v = torch.randn(3, batch, length, heads, width, device=day.device, dtype=torch.bfloat16).requires_grad_()
    gates = F.logsigmoid(torch.randn(batch, length, heads, device=day.device)).requires_grad_()
    return lambda: parallel_forgetting_attn(q, k, v, gates)


def waits(day: Day) -> Any:
    """Whether a step of the model waits for the device: PyTorch raises where it does."""
    found = {}
    for name in SCHEMES:
        work = step(day, name, compiled=False)[0]
        work()
        if not day.smoke:
            torch.cuda.set_sync_debug_mode("error")
        try:
            work()
            found[name] = ""
        except RuntimeError as cause:
            found[name] = str(cause)[:200]
        finally:
            if not day.smoke:
                torch.cuda.set_sync_debug_mode("default")
    return found


def step(day: Day, name: str, *, compiled: bool) -> tuple[Callable[[], None], GPT, int]:
    """A training step of the 124M model in bfloat16; the model; its tokens."""
    torch.manual_seed(0)
    small = {"layers": 1, "heads": 2, "dim": 32, "vocab_size": 64}
    sizes = small if day.smoke else {"layers": 12, "heads": 12, "dim": 768, "vocab_size": 50304}
    model = GPT(GPTConfig(encoding=name, **sizes)).to(day.device)
    batch, length = (1, 16) if day.smoke else (16, 1024)
    tokens = torch.randint(0, sizes["vocab_size"], (batch, length + 1), device=day.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=not day.smoke)
    hidden = torch.compile(model.hidden) if compiled else model.hidden

    def work() -> None:
        with torch.autocast(day.device.type, torch.bfloat16):
            loss = mean_nll(hidden(tokens[:, :-1]), model.unembedding.weight, tokens[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return work, model, batch * length


def training(day: Day) -> Any:
    """Tokens a second, as a ratio to plain attention, and the share of the card's products."""
    rows, plain = [], math.nan
    name = "" if day.smoke else torch.cuda.get_device_name()
    peak = next((value for key, value in PEAKS.items() if key in name), math.nan)
    for encoding in ("nope", "k-cable") if day.smoke else TRAINED:
        row: dict[str, Any] = {"encoding": encoding}
        try:
            work, model, tokens = step(day, encoding, compiled=not day.smoke)
            rate = tokens / day.seconds(work)
            plain = rate if encoding == "nope" else plain
            products = 6 * model.num_parameters() + 6 * model.config.layers * 1024 * model.config.dim
            row |= {"tokens_per_second": rate, "ratio": rate / plain, "utilisation": rate * products / peak}
        except Exception as cause:
            row["error"] = repr(cause)[:300]
        rows.append(row)
    return rows


def run(day: Day) -> Any:
    """A real training of a minute, and its curve."""
    library = sysconfig.get_paths()["stdlib"]
    with tempfile.TemporaryDirectory() as root:
        text = Path(root, "text")
        text.mkdir()
        for name in ("argparse", "ast", "calendar", "datetime", "difflib", "textwrap"):
            Path(text, f"{name}.py").write_bytes(Path(library, f"{name}.py").read_bytes())
        shared: dict[str, Any] = {"data": f"text:{text}", "tokenizer": "byte", "heatmaps": 0}
        shared["root"] = str(Path(root, "runs"))
        small = {"layers": 1, "heads": 2, "dim": 16, "seq_len": 32, "steps": 4, "batch_size": 4}
        small |= {"val_tokens": 256, "eval_tokens": 1024}
        large = {"layers": 6, "seq_len": 512, "steps": 1000, "batch_size": 64, "val_every": 500}
        sizes = small | {"accelerator": "cpu", "val_every": 4} if day.smoke else large
        return fit(RunConfig(encoding="k-cable", **shared, **sizes)).summary()


PARTS: tuple[Callable[[Day], Any], ...] = (machine, parity, attention, waits, training, run)


def main() -> None:
    """All parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu_day.json"))
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    if not given.smoke and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device here; --smoke runs all of it on a CPU")
    if given.smoke and "TRITON_INTERPRET" not in os.environ:
        # Triton asks where it is imported, which has happened by now.
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"TRITON_INTERPRET": "1"})
    found: dict[str, Any] = {}
    day, began = Day(given.smoke), time.perf_counter()
    for part in PARTS:
        name = part.__name__
        try:
            found[name] = part(day)
        except Exception as cause:
            found[name] = {"error": repr(cause)[:500], "where": traceback.format_exc()[-1500:]}
        found["seconds"] = found.get("seconds", {}) | {name: round(time.perf_counter() - began, 1)}
        write_text(given.out, json.dumps(found, indent=1, default=str) + "\n")
        print(f"{name}: {'failed' if isinstance(found[name], dict) and 'error' in found[name] else 'done'}", flush=True)


if __name__ == "__main__":
    main()
