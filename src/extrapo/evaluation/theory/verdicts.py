"""The four claims of 2601.06113 for one encoding: whether each holds, and why; tails decide, not finite lengths.

    normalisation       sum of e^b is finite                        entropy             H_L stays bounded
    ldcp_logit          E[A(n)] >= -C at all distances              ldcp_content        the mean of the content stays
    sensitivity         dA/dq changes with the distance             sensitivity_input   db/dx does

`yes`, `no`; `local`, up to a distance; `conditional`, on parameters in force or on C; `undecided` at finite lengths.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from extrapo.encodings.core.bias import Bias, NoBias
from extrapo.encodings.core.distance import DistanceBias
from extrapo.evaluation.theory import content, tails
from extrapo.evaluation.theory.built import FEW, Layer, at_longest, drawn_line, is_static, static_line
from extrapo.evaluation.theory.coherence import measured
from extrapo.evaluation.theory.ldcp import LEVEL, local_distance
from extrapo.evaluation.theory.normalisation import ln_z, slopes
from extrapo.evaluation.theory.sensitivity import sensitivity
from extrapo.evaluation.theory.weights import is_softmax
from extrapo.kernels.base import Kernel

Holds = Literal["yes", "no", "local", "conditional", "undecided"]
CLAIMS = ("normalisation", "entropy", "ldcp_logit", "ldcp_content", "sensitivity", "sensitivity_input")

#: Slopes of ln Z against ln L over the last doubling: below, it has converged; above, it grows as a power.
FLAT, GROWING = 0.02, 0.5
#: Beyond any power that a parameter would give.
FASTER = 1e3
#: What counts as deterministic among coherences that were estimated from draws.
ALIKE = 0.9
#: An oscillating bias that is bounded has no exponent, but one next to 0 between two places.
BOUNDED = 0.1
#: Keys of the line of logits, where the encoding is defined there; a line that is drawn begins with the second.
KEYS = (65_536, 4_096, 1_024, 256)
#: Tokens over which turns are looked at.
TURNS = (2_048, 512, 128)


class Verdict(NamedTuple):
    """Whether a claim holds, and why in a line."""

    holds: Holds
    why: str


def verdicts(layer: Layer) -> dict[str, Verdict]:
    """What holds of an encoding."""
    bias = small_bias(layer)
    kernel = kernel_of(layer, bias)
    static = is_static(layer)
    made = static_line if static else drawn_line
    line = at_longest(lambda keys: made(layer, keys), KEYS if static else KEYS[1:])
    normalised = normalisation(layer, bias, kernel, line)
    gradients = sensitivity(layer)
    by_query = Verdict("no", "dA/dq is the key times the same factor at every distance")
    if gradients.of_query():
        by_query = Verdict("yes", "dA/dq changes with the distance")
    by_input = Verdict("no", "the input's own part in the bias is the same at every distance, or none")
    if gradients.of_input():
        by_input = Verdict("yes", "db/dx_i changes with the distance, by the tokens' own positions or gates")
    return {
        "normalisation": normalised,
        "entropy": entropy(normalised),
        "ldcp_logit": logit_correlation(kernel, line),
        "ldcp_content": content_correlation(layer),
        "sensitivity": by_query,
        "sensitivity_input": by_input,
    }


def small_bias(layer: Layer) -> Bias:
    """The bias of a few drawn tokens."""
    x, context = layer.input(FEW)
    encoding = layer.encoding
    nothing = torch.zeros(1, encoding.heads, FEW, encoding.head_dim)
    return encoding.encode(nothing, nothing, nothing, x=x, context=context).bias


def kernel_of(layer: Layer, bias: Bias) -> DistanceBias | None:
    """The kernel that is all that an encoding adds to its logits; None where there is no such one."""
    kernel = tails.kernel_within(bias)
    if kernel is None or kernel is bias:
        return kernel
    rows = slice(0, bias.shape[2])
    # A network of the logits owns what it makes of them: there the kernel is no more than one of its inputs.
    nothing = torch.zeros(1, bias.shape[1], FEW, layer.encoding.head_dim)
    logits = bias.score_rows(nothing, nothing, 1.0, rows).expand(1, bias.shape[1], -1, -1)
    seen = torch.ones(logits.shape[-2:]).tril().bool()
    values = [one.double().expand_as(logits)[..., seen] for one in (logits, bias.added(rows), kernel.added(rows))]
    return kernel if all(torch.allclose(one, values[-1], atol=1e-4) for one in values) else None


def normalisation(layer: Layer, bias: Bias, kernel: DistanceBias | None, line: Tensor) -> Verdict:
    """Whether the sum over all distances is finite."""
    seen = bias.visibility()
    if seen is not None:
        return Verdict("yes", f"no more than {seen.window + seen.sinks:,} keys are seen")
    if not is_softmax(bias):
        return Verdict("yes", "the weights are shares of one whole by construction, no softmax")
    if kernel is not None:
        return by_kernel(layer, kernel)
    if isinstance(bias, NoBias):
        return Verdict("no", "nothing is added: Z grows as L for bounded contents")
    slope = slopes(ln_z(line), [line.size(-1)])[:, 0]
    if bool((slope < FLAT).all()):
        return Verdict(
            "yes", f"d ln Z / d ln L is {float(slope.max()):.2g} at {line.size(-1):,} keys of neutral content"
        )
    if bool((slope > GROWING).all()):
        return Verdict(
            "no", f"d ln Z / d ln L is {float(slope.min()):.2g} at {line.size(-1):,} keys of neutral content"
        )
    return Verdict(
        "undecided", f"d ln Z / d ln L is {float(slope.min()):.2g} to {float(slope.max()):.2g} over the heads"
    )


def by_kernel(layer: Layer, kernel: DistanceBias) -> Verdict:
    """By the form of the kernel far out."""
    power = tails.kernel_exponent(kernel)
    finite = tails.finite(power)
    says = next((one.summable for one in layer.encoding.modules() if isinstance(one, Kernel)), "unknown")
    clock = "" if kernel.consecutive() else ", while the positions go on growing"
    if bool((power >= FASTER).all()):
        return Verdict("yes", f"the bias falls faster than any power{clock}")
    if bool((power < 1e-3).all()) or says == "never":
        return Verdict("no", "the bias is bounded below")
    ends = [f"{float(end):.3g}" for end in (power.min(), power.max())]
    falls = f"weights fall as n^-p, p = {' to '.join(dict.fromkeys(ends))}"
    if says.startswith("always") and bool(finite.all()):
        return Verdict("yes", f"{falls}{clock}")
    return Verdict("conditional", f"needs {says}: {falls}, finite in {int(finite.sum())} of {len(finite)} heads{clock}")


def entropy(normalised: Verdict) -> Verdict:
    """Of logits that are bounded above, entropy is bounded where the sum is finite, but for tails next to 1/n."""
    if normalised.holds == "no":
        return Verdict("no", "H_L >= ln Z_L - max a, and Z grows")
    return normalised


def logit_correlation(kernel: DistanceBias | None, line: Tensor) -> Verdict:
    """Whether the mean logit stays above -C at all distances, C = LEVEL."""
    found = [local_distance(head) for head in gauged(line)]
    reached = [n for n in found if n is not None]
    falls = kernel is not None and bool((tails.kernel_exponent(kernel).abs() >= BOUNDED).all())
    if not reached and falls:
        return Verdict("local", f"N({LEVEL:g}) over {line.size(-1):,} tokens: the bias goes on falling")
    if not reached:
        return Verdict("yes", f"no logit is {LEVEL:g} below the nearest within {line.size(-1):,} tokens")
    spread = f"{min(reached):,} to {max(reached):,}" if len(set(found)) > 1 and len(reached) > 1 else f"{reached[0]:,}"
    if None in found:
        spread += f", or over {line.size(-1):,},"
    if kernel is not None and bool((tails.kernel_exponent(kernel).abs() < BOUNDED).all()):
        depth = gauged(line).amin(-1)
        deep = f"{float(-depth.min()):.3g} within {line.size(-1):,} tokens"
        return Verdict("conditional", f"needs C of at least the depth, {deep}; N({LEVEL:g}) = {spread}")
    return Verdict("local", f"N({LEVEL:g}) = {spread} tokens")


def gauged(line: Tensor) -> Tensor:
    """The line with its nearest visible logit at 0."""
    first = line.isfinite().int().argmax(-1, keepdim=True)
    nearest = line.gather(-1, first)
    # What a query does not give to itself says nothing of distance.
    return torch.where(line.isneginf() & (torch.arange(line.size(-1)) < first), 0.0, line - nearest)


def content_correlation(layer: Layer) -> Verdict:
    """Whether the mean content logit stays where a distance is long."""
    turned = at_longest(lambda length: content.turns(layer, length), TURNS)
    if turned is not None:
        step = measured(turned.queries, turned.keys, [1])
        kept = step.value / step.size
        lost = int((kept < 1 - 1e-6).any(0).sum())
        if lost:
            return Verdict(
                "no", f"turns that tokens or draws decide add up: {lost} of {kept.size(-1)} planes lose phase"
            )
    size = content.far_size(layer)
    if bool((size[:, -1] < 0.5 * size[:, 0]).all()):
        small = size.mean(0) < 0.5 * size[:, 0].mean()
        at = content.FAR[int(small.int().argmax())]
        return Verdict("local", f"the content's size is below half of that at distance 1 by {at:,} tokens")
    if turned is not None:
        return Verdict("yes", "turns of every text alike: the logit oscillates, its coherence is 1")
    left = content.content(layer)
    phase = (left.coherence / left.size.clamp_min(1e-12)).mean(0)
    if float(phase[-1]) < ALIKE:
        return Verdict(
            "no", f"coherence {float(phase[-1]):.2f} at {content.DISTANCES[-1]:,} tokens, at an undiminished size"
        )
    return Verdict("yes", "the content has the same size at all distances, whatever the text")
