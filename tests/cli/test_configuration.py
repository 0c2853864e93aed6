"""Where a run's settings come from: files in their order, then flags."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from extrapo.cli import run
from extrapo.cli.configuration import merged
from extrapo.config import RunConfig


def test_flags_win_over_files_and_later_files_over_earlier(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("layers: 3\nseq-len: 64\nencoding: rope\nencoding_options: {base: 100, fraction: 0.5}")
    second.write_text("seq_len: 128\nsteps: 7\nencoding_options: {base: 200}")
    config = merged([first, second], RunConfig(steps=9))
    assert (config.layers, config.seq_len, config.steps) == (3, 128, 9)
    assert config.encoding_options == {"base": 200, "fraction": 0.5}
    listed = tmp_path / "c.yaml"
    listed.write_text("encoding: [rope]")
    assert merged([first, listed], RunConfig()).encoding_options == {"base": 100, "fraction": 0.5}
    assert merged([first], RunConfig(encoding="alibi")).encoding_options == {}
    assert merged([first], RunConfig(encoding="rope")).encoding_options == {"base": 100, "fraction": 0.5}


def test_a_list_in_a_file_is_an_encoding_per_layer(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("encoding: [rope+window:3, nope:1]\nswap_to: [nope]")
    config = merged([file], RunConfig())
    assert (config.encoding, config.swap_to) == ("rope+window:3,nope:1", "nope")


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("layers: six", "layers: must be a valid integer, not 'six'"),
        ("swap-to: [3]", "swap_to: must be a valid string, not [3]"),
        ("batch_size: 0", "batch_size: must be greater than or equal to 1, not 0"),
        ("lengths: [64, none]", "lengths.1: must be a valid integer, not 'none'"),
    ],
)
def test_a_mistake_in_a_file_names_the_file_and_the_key(
    tmp_path: Path, one_line: Callable[[], str], content: str, cause: str
) -> None:
    (tmp_path / "a.yaml").write_text(content)
    assert run(["fit", "--config", str(tmp_path / "a.yaml"), "--steps", "3"]) == 2
    assert f"{tmp_path / 'a.yaml'}: {cause}" in one_line()


def test_print_config_is_what_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "fit --encoding rope --encoding-options.base 5e5 --lengths 64,128 --no-tied --print-config"
    assert run(arguments.split()) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    config = RunConfig(**printed).resolved()
    assert config.encoding_options == {"base": 500_000.0}
    assert (config.lengths, config.tied) == ((64, 128), False)
    assert config.model_dump(mode="json") == printed


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "conf").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_parses(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "--config", str(path), "--print-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["layers"] >= 1
