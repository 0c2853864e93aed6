"""A mistake in one line, with the flags of the command that was given where Python has names.

Errors name a setting in backticks, as Python spells it: `top_k`, or with a value `accelerator='gpu'`. Here alone they
become what was typed, or could be: --top-k, --accelerator gpu. A name that is no flag of the command stays as it is:
`kernel` is a key in the file of a sweep.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from cyclopts import App, CycloptsError, UnknownCommandError, UnknownOptionError, UnusedCliTokensError
from pydantic import ValidationError

from extrapo.cli.brief import ALL
from extrapo.cli.following import program
from extrapo.errors import UserError, complaint
from extrapo.location import redacted

#: A word that is none, and the one that was meant, in cyclopts' messages and in ours.
MEANT = re.compile(
    r"""(?:unknown [\w -]+?:? |invalid value )(?:"(?P<double>[^"]+)"|'(?P<single>[^']+)'|(?P<bare>[^\s"']+?))"""
    r"""(?:[.;:,](?=\s)| for ).*"""
    r"""did you mean (?:'(?P<quoted>[^']+)'|"?(?P<right>[^\s"'?,]+))""",
    re.IGNORECASE,
)
#: Flags of every command.
EVERYWHERE = ("--help", ALL, "--version")
#: How alike two flags are, from 0 to 1, of which one may be meant where the other was typed.
NEAR = 0.7
#: A setting in a message, and its value.
SETTING = re.compile(r"`(?P<name>[a-z]\w*)(?:=(?P<value>[^`]*))?`")


def explained(mistake: CycloptsError | ValidationError | UserError, app: App, arguments: Sequence[str]) -> str:
    """What went wrong when `app` was called with these arguments, and the line that would have been right, where a word
    of it is nearly one.
    """
    message = reason(mistake, app, arguments)
    words = corrected(message, arguments)
    if words is None:
        return message
    stop = "" if message.endswith((".", "?")) else "."
    return f"{message}{stop} Right would be: {shlex.join([*program(), *words])}"


def corrected(message: str, arguments: Sequence[str]) -> list[str] | None:
    """The arguments with the word that was meant, passwords left out; None where nobody knows."""
    found = MEANT.search(message)
    if found is None:
        return None
    wrong = found["double"] or found["single"] or found["bare"]
    word = re.compile(rf"(?<![\w-]){re.escape(wrong)}(?![\w-])")
    at = [number for number, one in enumerate(arguments) if word.search(one)]
    if len(at) != 1:
        return None
    right = found["quoted"] or found["right"]
    words = [word.sub(lambda _: right, one) if number == at[0] else one for number, one in enumerate(arguments)]
    return [redacted(one) if "://" in one else one for one in words]


def reason(mistake: CycloptsError | ValidationError | UserError, app: App, arguments: Sequence[str]) -> str:
    """What went wrong."""
    if isinstance(mistake, UnknownOptionError):
        return unknown_flag(mistake.token.keyword or mistake.token.value, flags(app, arguments))
    if isinstance(mistake, UnknownCommandError) and (mistake.unused_tokens or [""])[0].startswith("-"):
        return unknown_flag(str((mistake.unused_tokens or [""])[0]), {})
    if isinstance(mistake, UnusedCliTokensError) and mistake.unused_tokens:
        return unused(mistake.unused_tokens, flags(app, arguments))
    if isinstance(mistake, CycloptsError):
        cause = mistake.__cause__
        if not isinstance(cause, ValidationError):
            return str(mistake)
        name = mistake.argument.name if mistake.argument else ""
        message = of_settings(cause, name.removeprefix("--").replace("-", "_") if name.startswith("--") else None)
    elif isinstance(mistake, ValidationError):
        message = of_settings(mistake)
    else:
        message = str(mistake)
    return in_flags(message, flags(app, arguments))


def unknown_flag(typed: str, known: Mapping[str, Sequence[str]]) -> str:
    """What is said of a flag that a command has not: the one that was meant, where one is near."""
    # What stands behind a point or an equals sign is an option's name, or a value.
    name = re.split(r"[.=]", typed, maxsplit=1)[0]
    there = [flag for names in known.values() for flag in names if flag.startswith("--")]
    near = get_close_matches(name, [*there, *EVERYWHERE], n=1, cutoff=NEAR)
    meant = f"Did you mean {near[0]}{typed[len(name) :]}?" if near else "Those that there are: --help."
    return f"Unknown option: {typed}. {meant}"


def unused(words: Sequence[str], known: Mapping[str, Sequence[str]]) -> str:
    """What is said of words that belong to no flag: the flag that was meant, where `name=value` was typed."""
    name, equals, value = words[0].partition("=")
    there = [flag for names in known.values() for flag in names if flag.startswith("--")]
    near = get_close_matches(f"--{name.replace('_', '-')}", there, n=1, cutoff=NEAR) if equals else []
    meant = f"Did you mean {near[0]}={value}?" if near else "Settings are flags, which --help lists."
    return f"Invalid value '{words[0]}': it belongs to no flag. {meant}"


def flags(app: App, arguments: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The flags of the command that these arguments call, by the names that they have in Python."""
    command = app.parse_commands(arguments)[1][-1]
    if command.default_command is None:
        # A group of commands, none of which was named.
        return {}
    return {argument.field_info.name: argument.names for argument in command.assemble_argument_collection()}


def in_flags(message: str, flags: Mapping[str, Sequence[str]]) -> str:
    """The message with flags in the place of settings, as far as there are such flags."""

    def flag(setting: re.Match[str]) -> str:
        names = [name for name in flags.get(setting["name"], ()) if name.startswith("--")]
        if not names:
            return setting[0]
        value = None if setting["value"] is None else literal(setting["value"])
        negative = f"--no-{names[0].removeprefix('--')}"
        if value is False and negative in names:
            return negative
        return names[0] if value is None or value is True else f"{names[0]} {shlex.quote(str(value))}"

    return SETTING.sub(flag, message)


def literal(text: str) -> Any:
    """The value that Python reads in a text; the text where it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def of_settings(mistake: ValidationError, setting: str | None = None) -> str:
    """pydantic's findings in one line, of one setting or of those that it names itself."""
    parts = []
    # A list of which no value is sound is also too short.
    short = [error for error in mistake.errors() if error["type"] == "too_short"]
    for error in [error for error in mistake.errors() if error not in short] or short:
        name = setting or (error["loc"][0] if error["loc"] else None)
        parts.append(complaint(error) if name is None else f"`{name}`: {complaint(error)}")
    return "; ".join(dict.fromkeys(parts))
