"""A setting is one flag with one help text and one default, whichever command has it."""

from __future__ import annotations

import pytest

from extrapo.cli import app, run
from extrapo.cli.flags import MATTER_FIRST, SECTIONS
from extrapo.config import EncodingFormSettings, MeasurementSettings, RunConfig, Settings, StoreSettings


def test_every_setting_has_its_section() -> None:
    names = [name for groups in SECTIONS.values() for group in groups for name in group.model_fields]
    assert sorted(names) == sorted(RunConfig.model_fields)


def test_what_matters_fits_the_first_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "--help"]) == 0
    screen = "\n".join(capsys.readouterr().out.splitlines()[:40])
    assert all(f"--{name.replace('_', '-')} " in screen for name in (*MATTER_FIRST, "config", "resume", "json"))


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
