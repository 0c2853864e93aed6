"""A setting is one flag with one help text and one default, whichever command has it."""

from __future__ import annotations

import pytest

from extrapo.cli import COMMANDS, app, run
from extrapo.cli.flags import MATTER_FIRST, SECTIONS
from extrapo.config import EncodingFormSettings, MeasurementSettings, RunConfig, Settings, StoreSettings


def test_every_setting_has_its_section() -> None:
    names = [name for groups in SECTIONS.values() for group in groups for name in group.model_fields]
    assert sorted(names) == sorted(RunConfig.model_fields)


def test_what_matters_fits_the_first_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "--help"]) == 0
    screen = "\n".join(capsys.readouterr().out.splitlines()[:40])
    assert all(f"--{name.replace('_', '-')} " in screen for name in (*MATTER_FIRST, "config", "resume", "json"))


@pytest.mark.parametrize("command", [*COMMANDS, *(f"data {one}" for one in ("prepare", "list", "show", "verify"))])
def test_help_fits_a_screen_and_begins_with_what_matters(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A heading for what few need, a default where it says something; `fit` has every setting of a run."""
    assert run([*command.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    headings = [line.strip("╭─╮ ") for line in lines if line.startswith("╭")]
    assert len(lines) <= (125 if command == "fit" else 45)
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
