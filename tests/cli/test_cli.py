"""The command line in this process: what it prints, and how a mistake ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from extrapo import encodings, kernels
from extrapo.cli import COMMANDS, run
from extrapo.cli.configuration import merged
from extrapo.cli.flags import SECTIONS
from extrapo.config import RunConfig


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr()
    assert said.err.startswith("extrapo: error: "), said.err
    assert said.err.count("\n") == 1, said.err
    assert "Traceback" not in said.err
    return said.err


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(command in said for command in ("fit", "evaluate", "list", "show", "ui"))
    assert run(["fit", "--help"]) == 0
    said = capsys.readouterr().out
    flags = "encoding kernel layers heads dim seq-len steps data seed devices strategy precision config resume json"
    assert all(f"--{flag}" in said for flag in flags.split())


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_help_comes_at_once(command: list[str]) -> None:
    """What takes long is what is loaded: help loads none of it."""
    heavy = {"torch", "numpy", "lightning", "mlflow", "optuna", "matplotlib", "rich.progress", "yaml", "sqlalchemy"}
    code = f"import sys; from extrapo.cli import run; run({[*command, '--help']}); print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: extrapo" in done.stdout
    assert not done.stdout.splitlines()[-1].split()


def test_every_setting_has_its_section() -> None:
    names = [name for groups in SECTIONS.values() for group in groups for name in group.model_fields]
    assert sorted(names) == sorted(RunConfig.model_fields)


@pytest.mark.parametrize("what", ["encodings", "kernels", "corpora"])
def test_list(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", what, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    known = {"encodings": encodings.names(), "kernels": kernels.names()}
    names = [row["name"] for row in rows]
    assert names == known.get(what, names)
    if what != "corpora":
        keys = {"name", "paper", "positions", "transform", "kernel", "impls", "parameters", "summary"}
        assert all(set(row) > keys for row in rows)
    assert run(["list", what]) == 0
    assert all(name in capsys.readouterr().out for name in names[:1])


def test_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "rope+k-cable", "--length", "32", "--output", str(tmp_path / "both.png")]) == 0
    said = capsys.readouterr().out
    assert "2503.08067" in said
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")
    assert run(["show", "k-cabel", "--root", str(tmp_path / "none")]) == 2
    assert "did you mean 'k-cable'" in one_line(capsys)


def test_show_layers_that_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "rope+window:3,nope:1", "--length", "32", "--output", str(tmp_path / "both.png")]) == 0
    said = capsys.readouterr().out
    assert "rope+window: " in said
    assert "nope: " in said
    assert (tmp_path / "both.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ("fit --encoding k-cabel", "did you mean 'k-cable'"),
        ("fit --encoding rope+k-cabel", "did you mean 'k-cable'"),
        ("fit --kernel cauchy", "did you mean 'cauchy-log'"),
        ("fit --encoding rope --kernel log", "no kernel to choose"),
        ("fit --heads 3 --dim 64", "3 heads do not divide the width 64"),
        ("fit --encoding rope --heads 2 --dim 30", "must be even, not 15"),
        ("fit --layers 0", "--layers: must be greater than or equal to 1"),
        ("fit --layers six", "--layers: must be a valid integer"),
        ("fit --lengths 0", "--lengths: must be"),
        ("fit --impl flex3", "flex3"),
        ("fit --devices 0", "--devices must be at least 1"),
        ("fit --nodes 2", "--nodes 2: this command is to be started on every machine"),
        ("fit --encoding rope --kernel log", "leave --kernel out"),
        ("fit --batch-size 8 --micro-batch 3", "--micro-batch 3 does not divide"),
        ("fit --swap-step 3", "say which with --swap-to"),
        ("generate missing.ckpt --tokens 0", "--tokens: must be greater than or equal to 1"),
        ("generate missing.ckpt --top-k 0", "--top-k must be at least 1"),
        ("evaluate last --root none", "or name its folder with --root"),
        ("bench --lengths 0", "--lengths: must be greater than or equal to 1"),
        ("bench --lengths 16,x", 'Invalid value for --lengths: unable to convert "x"'),
        ("bench --encodings rope+window:3,nope:1", "each is timed by itself, not in 3 layers: write rope+window"),
        ("bench --encodings rope,k-cabel", "did you mean 'k-cable'"),
        ("fit --layrs 6", "Did you mean --layers"),
        ("fti", 'Did you mean "fit"'),
        ("fit --config missing.yaml", "missing.yaml"),
        ("fit --config broken.yaml", "not valid YAML"),
        ("fit --config list.yaml", "a mapping of settings is expected"),
        ("fit --config stranger.yaml", "did you mean 'layers'"),
        ("fit --data wikitext", "unknown corpus"),
        ("fit --data text:missing", "missing"),
        ("fit --data text:empty.txt", "empty.txt"),
        ("fit --data text:short.txt --tokenizer byte", "tokens"),
        ("fit --data text:latin1.txt", "UTF-8"),
        ("fit --tokenizer bpee", "unknown tokenizer"),
        ("fit --resume abc --layers 3", "leave --layers out"),
        ("fit --resume last", "no runs in"),
        ("fit --devices 3 --batch-size 4", "does not divide among 3"),
        ("fit --precision 8", "--precision: must be"),
        ("evaluate last", "no runs in"),
        ("evaluate missing.ckpt --lengths 8,none", "--lengths: must be a valid integer"),
        ("evaluate missing.ckpt --lengths 64,128 256", "no checkpoint at 'missing.ckpt'"),
        ("evaluate missing.ckpt", "no checkpoint at 'missing.ckpt'"),
        ("ui", "no runs in"),
        ("list encoding", "encodings"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: str, cause: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.yaml").write_text("layers: [1")
    (tmp_path / "list.yaml").write_text("- layers")
    (tmp_path / "stranger.yaml").write_text("layer: 6")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "short.txt").write_text("Too short for a window.\n\nBy far.")
    (tmp_path / "latin1.txt").write_bytes("déjà vu".encode("latin-1"))
    before = sorted(path.name for path in tmp_path.iterdir())
    assert run(arguments.split()) == 2
    assert cause in one_line(capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


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
