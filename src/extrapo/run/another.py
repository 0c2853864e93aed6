"""Another encoding on trained weights: PI, YaRN and the like after RoPE, windows, factors on the query, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from extrapo import encodings
from extrapo.config import EncodingFormSettings
from extrapo.encodings.per_layer import options_by_name, pattern
from extrapo.errors import UserError
from extrapo.gpt import GPT
from extrapo.options import option_adapters
from extrapo.run.weights import encoding_in_force, listed, match, put

#: What the variants of RoPE have in common: a model that was trained with other values keeps them under any of these.
OF_ROTATION = ("base", "layout")


def with_encoding(gpt: GPT, name: str, form: EncodingFormSettings, say: Callable[[str], None]) -> GPT:
    """A model of the same weights under another encoding, on the same device and in the same precision, in
    evaluation mode.

    Args:
        gpt: a trained model.
        name: of the encoding.
        form: its options and kernel; what parts of the same name have in the trained model stays unless it is given.
        say: receives a line of what is left out, and of what is not trained.

    Raises:
        UserError: the encoding needs weights that the model does not have, or there is no such encoding.
    """
    config = gpt.config.model_copy(update=settings_of(gpt, name, form))
    other = GPT(config)
    found = match(gpt, other)
    factors = [place for place in found.new if place.part and encodings.get(place.part).query_key == "scaled"]
    missing = [place for place in found.new if place not in factors]
    if missing:
        raise UserError(
            f"encoding '{name}' needs weights that a model trained with '{encoding_in_force(gpt)}' does not have: "
            f"{listed(missing)}"
        )
    if factors:
        say(f"{name}: not trained, at their starting values: {listed(factors)}")
    if found.left_out:
        say(f"{name}: left out of the trained weights: {listed(found.left_out)}")
    put(found, other)
    trained = next(gpt.parameters())
    return other.to(trained.device, trained.dtype).eval()


def settings_of(gpt: GPT, name: str, form: EncodingFormSettings) -> dict[str, Any]:
    """The settings of a model's configuration that give it another encoding.

    What the parts that stay were trained with stays; of RoPE's variants the base and the layout as well.

    Raises:
        UserError: no such encoding, or no such options.
    """
    before = options_by_part(encoding_in_force(gpt), options_in_force(gpt))
    parts = parts_of(name)
    inherited: dict[str, dict[str, Any]] = {}
    for part in parts:
        if part in before:
            inherited[part] = before[part]
            continue
        shared = [key for key in OF_ROTATION if key in option_names(part)]
        inherited[part] = {key: own[key] for own in before.values() for key in shared if key in own}
    given = given_by_part(name, form.encoding_options)
    merged = {part: {**inherited[part], **given[part]} for part in parts}
    alone = len(parts) == 1
    return {
        "encoding": name,
        "encoding_options": merged[parts[0]] if alone else {part: own for part, own in merged.items() if own},
        "kernel": form.kernel or _kernel_kept(gpt, parts),
        "swap_to": None,
        "swap_options": {},
    }


def options_in_force(gpt: GPT) -> Mapping[str, Any]:
    """The options of a model's encoding, after its swap those of the second one."""
    return gpt.config.swap_options if gpt.phase else gpt.config.encoding_options


def parts_of(name: str) -> list[str]:
    """The parts of all layers' encodings, each once; UserError for an unknown one."""
    return list(dict.fromkeys(part for one in pattern(name) for part in encodings.split(one)))


def option_names(part: str) -> list[str]:
    """What options a registered encoding has."""
    cls: type = encodings.get(part)
    return list(option_adapters(cls))


def options_by_part(name: str, options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The options of each part of a name, those that the name itself stands for included.

    Raises:
        UserError: an option that the part does not have.
    """
    by_part: dict[str, dict[str, Any]] = {}
    for one, own in options_by_name(pattern(name), None, options).items():
        by_part |= encodings.part_options(one, None, own["options"])
    return by_part


def given_by_part(name: str, options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The options of each part of a name as far as they are given; errors as those of `options_by_part`."""
    known, given = options_by_part(name, options), {}
    for part in known:
        given[part] = dict(options if len(known) == 1 else options.get(part, {}))
    return given


def _kernel_kept(gpt: GPT, parts: Sequence[str]) -> str | None:
    """The kernel that was chosen for the trained model, where the part that has it stays."""
    if gpt.phase or gpt.config.kernel is None:
        return None
    (before, *_), after = _takers(parts_of(gpt.config.encoding)), _takers(parts)
    return gpt.config.kernel if after and after[0] == before else None


def _takers(parts: Sequence[str]) -> list[str]:
    return [part for part in parts if encodings.get(part).takes_kernel]


def forms(names: Sequence[str], form: EncodingFormSettings) -> list[EncodingFormSettings]:
    """What of the options and of the kernel is meant for each of several encodings: what it takes.

    Options that are named after a part are that part's; the others go to every encoding of one part that has such an
    option.

    Raises:
        UserError: an option, or a kernel, that none of them takes.
    """
    if len(names) == 1:
        return [form]
    chosen = [
        {key: value for key, value in form.encoding_options.items() if _takes(name, key, value)} for name in names
    ]
    kernels = [form.kernel if _takers(parts_of(name)) else None for name in names]
    for key in form.encoding_options:
        if not any(key in own for own in chosen):
            raise UserError(f"none of the encodings {', '.join(names)} has an option '{key}'")
    if form.kernel is not None and not any(kernels):
        raise UserError(f"none of the encodings {', '.join(names)} has a kernel to choose; leave `kernel` out")
    return [
        EncodingFormSettings(encoding_options=_flat(name, own), kernel=kernel)
        for name, own, kernel in zip(names, chosen, kernels, strict=True)
    ]


def _takes(name: str, key: str, value: Any) -> bool:
    """Whether an option is one of its only part's, or all options of one of its parts."""
    parts = parts_of(name)
    return key in parts if isinstance(value, Mapping) else len(parts) == 1 and key in option_names(parts[0])


def _flat(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options under the name of the only part are its own."""
    (first, *more), own = parts_of(name), dict(options)
    if not more and isinstance(own.get(first), Mapping):
        own = {**{key: value for key, value in own.items() if key != first}, **own[first]}
    return own
