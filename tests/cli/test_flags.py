"""A setting is one flag with one help text and one default, whichever command has it."""

from __future__ import annotations

import pytest

from extrapo.cli import COMMANDS, app, run
from extrapo.cli.flags import MATTER_FIRST, SECTIONS
from extrapo.config import EncodingFormSettings, MeasurementSettings, RunConfig, Settings, StoreSettings


def test_every_setting_has_its_section() -> None:
    names = [name for groups in SECTIONS.values() for group in groups for name in group.model_fields]
    assert sorted(names) == sorted(RunConfig.model_fields)


def test_every_flag_of_fit_is_on_its_screen(capsys: pytest.CaptureFixture[str]) -> None:
    """What matters first is told, the rest named under its heading; all of it is told where that is asked."""
    assert run(["fit", "--help"]) == 0
    page = capsys.readouterr().out
    words, screen = page.split(), "\n".join(page.splitlines()[:30])
    assert all(f"--{name.replace('_', '-')}" in words for name in RunConfig.model_fields)
    assert all(f"--{name.replace('_', '-')} " in screen for name in (*MATTER_FIRST, "config", "resume"))
    assert "extrapo fit --help-all" in " ".join(words)
    assert run(["fit", "--help-all"]) == 0
    told = capsys.readouterr().out.split()
    for name, field in RunConfig.model_fields.items():
        assert {f"--{name.replace('_', '-')}", *(field.description or "?").split()} <= set(told)
    assert "--help-all`" not in told


def test_all_help_of_a_short_command_is_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    pages = []
    for flag in ("--help", "--help-all"):
        assert run(["evaluate", flag]) == 0
        pages.append(capsys.readouterr().out)
    assert pages[0] == pages[1]


@pytest.mark.parametrize("command", [*COMMANDS, *(f"data {one}" for one in ("prepare", "list", "show", "verify"))])
def test_help_fits_a_screen_and_begins_with_what_matters(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A heading for what few need, a default where it says something."""
    assert run([*command.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    headings = [line.strip("╭─╮ ") for line in lines if line.startswith("╭")]
    assert len(lines) <= 45
    if command != "data":
        assert next(one for one in headings if one != "Arguments") == "What matters first"
        assert set(headings) <= {"Arguments", "What matters first", *SECTIONS}
    assert "default: None" not in "".join(lines)
    assert "default: False" not in "".join(lines)


@pytest.mark.parametrize(
    ("command", "group"),
    [
        ("fit", RunConfig),
        ("evaluate", MeasurementSettings),
        ("show", EncodingFormSettings),
        *((command, StoreSettings) for command in ("doctor", "evaluate", "generate", "show", "sweep", "ui")),
    ],
)
def test_the_flags_of_a_setting_are_its_own(command: str, group: type[Settings]) -> None:
    called = app.parse_commands([command])[1][-1]
    named = {argument.name: argument for argument in called.assemble_argument_collection()}
    for name, field in group.model_fields.items():
        argument = named[f"--{name.replace('_', '-')}"]
        assert argument.parameter.help == field.description
        assert argument.field_info.default == field.get_default(call_default_factory=True)
