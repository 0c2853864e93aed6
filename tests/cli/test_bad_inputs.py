"""Bad inputs of every kind: exit code 2, one line that names what is wrong, nothing written, and at once."""

from __future__ import annotations

import os
import pickle
import shlex
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extrapo.cli import run
from extrapo.config import GPTConfig, RunConfig
from extrapo.errors import UserError
from extrapo.reading import read_yaml
from extrapo.training import LanguageModel

#: A run of a second, which each case spoils in one place.
GOOD = {
    "data": "text:good.txt",
    "tokenizer": "byte",
    "layers": 1,
    "heads": 2,
    "dim": 16,
    "seq_len": 32,
    "steps": 1,
    "lengths": [32],
    "eval_tokens": 256,
    "heatmaps": 0,
    "accelerator": "cpu",
}
SWEEP = {"name": "s", "space": {"seed": [0]}, "fixed": GOOD, "objective": "ppl@1T"}

#: Flags of `fit`, and what the line says of them.
FLAGS = [
    ("--seed 4294967296", "--seed: must be less than 4294967296"),
    ("--seed -1", "--seed"),
    ("--seed 1.5", "--seed"),
    ("--vocab-size 99999999999999999999", "--vocab-size"),
    ("--vocab-size 256", "--vocab-size"),
    ("--dim 1000000000", "--dim"),
    ("--dim 0", "--dim"),
    ("--layers 100000000", "--layers"),
    ("--layers 1e3", "--layers"),
    ("--layers 10000 --dim 20000", "billion weights"),
    ("--heads 3", "3 heads do not divide"),
    ("--encoding rope+", "'rope+' has a part without a name"),
    ("--encoding 'rope:2,nope:0'", "COUNT at least 1"),
    ("--encoding rope --encoding-options.nosuch 1", "no option 'nosuch'"),
    ("--encoding rope --kernel log", "leave --kernel out"),
    ("--tokenizer file:device", "device is a pipe or a device"),
    ("--tokenizer file:base.yaml", "base.yaml is not a tokenizer file"),
    ("--tokenizer file:empty.json", "empty.json is not a tokenizer file: it has no 'name'"),
    ("--tokenizer gpt2:empty", "are not in empty"),
    ("--data text:dangling", "dangling is a link to nowhere, which is not there"),
    ("--data jsonl:pipe", "is a pipe or a device"),
    ("--data parquet:good.txt", "is not a parquet table"),
    ("--data bin:empty", "holds no token files"),
    ("--data stories:tiny-stories-like,wrods=5", "did you mean 'words'"),
    ("--data stories:tiny-stories-like,words=-5", "words, not '-5'"),
    ("--data 'stdlib:nan,text:good.txt:1'", "the weight of 'stdlib'"),
    ("--devices 4096", "too many for"),
    ("--protocol disjoint --stride 5", "takes no --stride"),
    ("--config dangling", "dangling: No such file"),
    ("--config device", "device is a pipe or a device"),
    ("--root good.txt/x", "good.txt is a file, so "),
    ("--heads 99999999", "--heads"),
    ("--kv-heads 3", "3 key-value heads"),
    ("--seq-len 1", "--seq-len"),
    ("--seq-len 99999999999999999999", "--seq-len"),
    ("--steps 0", "--steps"),
    ("--steps -5", "--steps"),
    ("--batch-size 1000000000", "tokens"),
    ("--batch-size 0", "--batch-size"),
    ("--lr inf", "--lr: must be a finite number"),
    ("--lr nan", "--lr"),
    ("--lr 0", "--lr"),
    ("--lr -1e-3", "--lr"),
    ("--clip inf", "--clip: must be a finite number"),
    ("--clip -1", "--clip"),
    ("--weight-decay nan", "--weight-decay"),
    ("--logit-scale inf", "--logit-scale: must be a finite number"),
    ("--dropout 1", "--dropout"),
    ("--dropout nan", "--dropout"),
    ("--warmup -1", "--warmup"),
    ("--val-every 0", "--val-every"),
    ("--log-every 0", "--log-every"),
    ("--heatmaps 1000000000000", "--heatmaps"),
    ("--eval-tokens 0", "--eval-tokens"),
    ("--lengths 99999999", "shorter than one window"),
    ("--lengths ''", "--lengths"),
    ("--lengths", "--lengths"),
    ("--lengths 32,,64", "--lengths"),
    ("--lengths nan", "--lengths"),
    ("--stride 0", "--stride"),
    ("--norm batchnorm", "--norm"),
    ("--mlp relu", "--mlp"),
    ("--tokenizer ''", "--tokenizer"),
    ("--tokenizer gpt2:nosuch", "nosuch"),
    ("--tokenizer gpt2:~nosuchuser/x", "~nosuchuser"),
    ("--encoding ''", "--encoding"),
    ("--encoding nosuch", "unknown encoding 'nosuch'"),
    ("--encoding nosuch --print-config", "unknown encoding 'nosuch'"),
    ("--encoding rope+", "encoding"),
    ("--encoding rope:0", "rope"),
    ("--encoding rope --encoding-options.base nan", "must be a finite number"),
    ("--encoding rope --encoding-options.base inf", "must be a finite number"),
    ("--encoding rope --encoding-options.base six", "base must be"),
    ("--encoding rope --encoding-options.base 99999999999999999999", "64 bits"),
    ("--encoding rope --encoding-options.x.y.z 3", "no option 'x'"),
    (f"--encoding rope --encoding-options{'.x' * 40} 3", "nested"),
    (f"--encoding rope --encoding-options.base {'[' * 9000}{']' * 9000}", "base"),
    ("--encoding rope --encoding-options.base [[NaN]]", "must be a finite number"),
    ("--kernel ''", "--kernel: must not be empty"),
    ("--kernel nosuch", "nosuch"),
    ("--encoding rope --swap-options.base 3", "say which with --swap-to"),
    ("--swap-lr 1e-3", "say which with --swap-to"),
    ("--swap-optimizer fresh", "say which with --swap-to"),
    ("--swap-to nosuch", "--swap-step"),
    ("--swap-to nosuch --steps 9", "nosuch"),
    ("--swap-to nope --swap-step 5", "--swap-step 5"),
    ("--impl nosuch", "nosuch"),
    ("--impl ''", "--impl"),
    ("--protocol nosuch", "nosuch"),
    ("--strategy ddp_spawn", "unknown strategy 'ddp_spawn'"),
    ("--strategy ddp_notebook", "unknown strategy"),
    ("--strategy ''", "--strategy"),
    ("--devices 100000", "--devices"),
    ("--devices -1", "--devices must be at least 1"),
    ("--devices two", "--devices"),
    ("--nodes 0", "--nodes"),
    ("--nodes 2", "--nodes 2"),
    ("--precision 16-mixed", "--precision 16-mixed needs a GPU"),
    ("--accelerator tpu", "--accelerator"),
    ("--tracking-uri http://[::1", "Invalid IPv6 URL"),
    ("--tracking-uri http://127.0.0.1:99999", "Port out of range"),
    ("--tracking-uri http://", "is expected"),
    ("--tracking-uri nosuch://x", "is expected"),
    ("--tracking-uri ''", "--tracking-uri"),
    ("--tracking-uri http://127.0.0.1:9", "no MLflow server answers"),
    (f"--root {'x' * 300}", "at most 255 bytes"),
    ("--root ''", "--root: must not be empty"),
    ("--root good.txt", "is a file"),
    ("--root good.txt/runs", "is a file"),
    ("--root ~nosuchuser/x", "~nosuchuser"),
    ("--root /dev/null/x", "/dev/null is a file, so /dev/null/x cannot be a folder; give another --root"),
    ("--root pipe/x", "pipe is a file, so "),
    ("--root taken", "mlflow.db is no database of SQLite"),
    ("--root others", "mlflow.db is the database of something else"),
    ("--root cut", "mlflow.db is damaged"),
    ("--tracking-uri sqlite://", "is a database in memory"),
    ("--tracking-uri sqlite:///", "is a database in memory"),
    ("--tracking-uri sqlite+pysqlite:///:memory:", "is a database in memory"),
    ("--tracking-uri sqlite:///pipe", "pipe is a pipe or a device"),
    ("--tracking-uri sqlite:////dev/null", "/dev/null is a pipe or a device"),
    ("--tracking-uri sqlite:///good.txt", "good.txt is no database of SQLite"),
    ("--tracking-uri sqlite:///good.txt/x.db", "good.txt is a file, not a folder"),
    ("--tracking-uri sqlite+pysqlite:///others/mlflow.db", "is the database of something else"),
    ("--root 'who?'", "give a --root without one"),
    ("--data ''", "--data: must not be empty"),
    ("--data text:", "needs a file or a folder"),
    ("--data text:~nosuchuser/x", "~nosuchuser"),
    ("--data text:nosuch.txt", "nosuch.txt"),
    (f"--data text:{'x' * 300}", "at most 255 bytes"),
    ("--data text:pipe", "is a pipe or a device"),
    ("--data text:/dev/zero", "is a pipe or a device"),
    ("--data text:binary.txt", "not UTF-8"),
    ("--data text:blank.txt", "no text"),
    ("--data text:short.txt", "tokens"),
    ("--data text:loop.txt", "loop.txt"),
    ("--data text:empty", "no text"),
    ("--data nosuch:x", "unknown corpus 'nosuch'"),
    ("--data stdlib:x", "takes no path"),
    ("--name ''", "--name: must not be empty"),
    ("--name '\u200b \u2060'", "--name: must not be empty"),
    ("--experiment '\u200d'", "--experiment: must not be empty"),
    ("--name 'a\nb'", "--name: must have no line breaks"),
    ("--name 'a\u202eb'", "--name: must have no line breaks"),
    ("--name 'a\u2028b'", "--name: must have no line breaks"),
    ("--name 'a\x1b[31mb'", "--name: must have no line breaks"),
    (f"--name {'x' * 5000}", "--name"),
    ("--experiment ''", "--experiment"),
    ("--experiment 'a\tb'", "--experiment"),
    ("--config", "--config"),
    ("--config ''", "is a folder"),
    ("--config empty", "is a folder"),
    ("--config nosuch.yaml", "nosuch.yaml"),
    ("--config pipe", "is a pipe or a device"),
    ("--config /dev/zero", "is a pipe or a device"),
    ("--config binary.txt", "not valid YAML"),
    (f"--config {'x' * 300}", "at most 255 bytes"),
    ("--config ~nosuchuser/x", "~nosuchuser"),
    ("--resume ''", "no runs in"),
    ("--nosuch 3", "--nosuch"),
    ("extra", "extra"),
    ("--layers", "--layers"),
    ("--layers 1 --layers 2", "--layers"),
]

#: Documents of YAML for `fit`, and what the line says of them.
DOCUMENTS = [
    ("encoding_options: {1: 2}", "encoding_options: the name of an option is text, not 1"),
    ("encoding_options: {null: 2}", "the name of an option is text"),
    ("steps: 1:30", "'1:30' is a number of base 60 or 8"),
    ("seed: 010", "'010' is a number of base 60 or 8"),
    ("encoding_options: &a {base: *a}", "*a contains itself"),
    ("encoding_options: " + "{a: " * 2000 + "1" + "}" * 2000, "nested more than 32 deep"),
    ("encoding_options: {a: {b: {c: {d: {e: {f: {g: {h: {i: {j: 1}}}}}}}}}}", "nested at most 8 deep"),
    ("encoding_options: {base: .nan}", "must be a finite number"),
    ("encoding_options: {base: .inf}", "must be a finite number"),
    ("encoding_options: {base: 2001-01-01}", "the value of an option is a number"),
    ("encoding_options: {base: !!binary aGk=}", "the value of an option is a number"),
    ("encoding_options: [1]", "encoding_options"),
    (
        "encoding_options:\n  a0: &a0 [x, x]\n"
        + "".join(f"  a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(9)),
        "more than 50,000 values",
    ),
    ("steps: 2\nsteps: 3", "the key 'steps' stands twice, line 2"),
    ("seq-len: 64\nseq_len: 64", "the key 'seq_len' stands twice"),
    ("steps: [", "not valid YAML"),
    ("steps: *nobody", "not valid YAML"),
    ("steps: !!python/object/apply:os.system ['touch planted']", "not valid YAML"),
    ("steps: !!int six", "not valid YAML"),
    ("steps: !!timestamp six", "not valid YAML"),
    ("steps: !!bool six", "not valid YAML"),
    ("steps: 2001-99-99", "not valid YAML"),
    ("? [1, 2]\n: 3", "not valid YAML"),
    ("a: 1\n---\nb: 2", "not valid YAML"),
    ("\x00", "not valid YAML"),
    ("steps: " + "9" * 5000, "not valid YAML"),
    ("steps: 9" + "9" * 30, "steps: must be"),
    ("steps: true", "steps: must be"),
    ("steps: 1.5", "steps: must be"),
    ("steps: null", "steps: must be"),
    ("lr: .inf", "lr: must be a finite number"),
    ("lr: .nan", "lr: must be"),
    ("lengths: {a: 1}", "lengths"),
    ("lengths: []", "lengths"),
    ("lengths: [[32]]", "lengths"),
    ("name: [a]", "name: must be a valid string"),
    ('name: "a\\nb"', "name: must have no line breaks"),
    ("root: ''", "root: must not be empty"),
    ("stepps: 3", "did you mean 'steps'"),
    ("3: 4", "unknown setting '3'"),
    ("- steps", "a mapping of settings is expected, not a list"),
    ("just text", "a mapping of settings is expected, not a str"),
    ("x: " + "y" * (1 << 20), "larger than 1 MiB"),
]

#: What is changed in the file of a sweep, and what the line says of it.
SWEEPS: list[tuple[dict[str, Any], str]] = [
    ({"space": {"seed": {"from": 0, "to": 10**12}}}, "cells is more than could run"),
    ({"space": {"seed": {"from": 0, "to": float("inf")}}}, "space.seed"),
    ({"space": {"lr": {"from": float("nan"), "to": 1.0, "step": 0.1}}}, "space.lr"),
    ({"space": {"seed": {"from": 0, "to": 10**400}}}, "space.seed"),
    ({"space": {"lr": {"from": 0.0, "to": 1.0, "step": 1e-300}}}, "cells is more than could run"),
    ({"space": {"seed": {"from": 0, "to": 9, "step": 0}}}, "space.seed.step: must be greater than 0, not 0"),
    ({"space": {"lr": {"from": 0.0, "to": 1.0, "step": -0.1}}}, "space.lr.step: must be greater than 0, not -0.1"),
    ({"space": {"seed": {"from": 0, "to": 9, "step": "two"}}}, "space.seed.step: must be a finite number, not 'two'"),
    ({"space": {"seed": {"from": 0, "to": 9, "step": True}}}, "space.seed.step: must be a finite number, not True"),
    ({"space": {"lr": {"from": float("nan"), "to": 1.0}}}, "space.lr.from: must be a finite number, not nan"),
    ({"space": {"lr": {"from": 0.1, "to": 10**400}}}, "space.lr.to: must be a finite number, not 1000"),
    ({"space": {"lr": {"from": 0.1, "to": 1e300}}}, "space.lr.to: must be less than or equal to"),
    ({"space": {"seed": {"from": 0, "step": 1}}}, "space.seed.to: is missing"),
    ({"space": {"seed": {"from": 0, "to": 9, "log": "perhaps"}}}, "space.seed.log"),
    ({"space": {"seed": "x"}}, "seed: must be a valid integer, not 'x'"),
    ({"space": {"seed": {"from": 3, "to": 0}}}, "a range goes up"),
    ({"space": {"seed": {"from": 0, "to": 1999}}}, "--yes"),
    ({"space": {"seed": [0, 0]}}, "listed twice"),
    ({"space": {"seed": []}}, "empty grid"),
    ({"space": {}}, "empty grid"),
    ({"space": [1]}, "space"),
    ({"space": {"lr": [float("nan")]}}, "lr: must be a finite number"),
    ({"space": {"encoding_options.base": [float("inf")]}}, "must be a finite number"),
    ({"space": {"seed": [2**40]}}, "seed: must be less than"),
    ({"fixed": {**GOOD, "encoding_options": [1]}}, "encoding_options: a mapping of options is expected"),
    (
        {"fixed": {**GOOD, "encoding_options.a": 1}, "space": {"encoding_options.a.b": [1]}},
        "'a' is given a value, and options of its own",
    ),
    ({"fixed": {**GOOD, "lr": float("inf")}}, "lr: must be a finite number"),
    ({"fixed": {**GOOD, "precision": "16-mixed"}}, "needs a GPU"),
    ({"fixed": {**GOOD, "devices": 4096}}, "too many for"),
    ({"fixed": {**GOOD, "strategy": "ddp_spawn"}}, "unknown strategy"),
    ({"fixed": [1]}, "fixed"),
    ({"objective": "ppl@" + "9" * 30 + "T"}, "unknown objective"),
    ({"objective": []}, "objective"),
    ({"objective": "ppl@0T"}, "unknown objective"),
    ({"name": "a\nb"}, "make a name"),
    ({"name": "../out"}, "make a name"),
    ({"mode": "search"}, "a search needs 'trials'"),
    ({"mode": "search", "trials": 10**12}, "trials"),
    ({"mode": "search", "trials": 1, "sampler": {"name": "tpe", "nosuch": 1}}, "sampler"),
    ({"mode": "search", "trials": 1, "sampler": {"name": ["tpe"]}}, "sampler"),
    ({"conditions": {"seed": {"nosuch": [1]}}}, "nosuch"),
    ({"extra": 1}, "extra"),
    ({"fixed": {**GOOD, "init": "nosuch"}}, "init: no runs in"),
    ({"space": {"init": ["nosuch.ckpt"]}}, "init: no checkpoint at 'nosuch.ckpt'"),
    ({"space": {"init": ["good.ckpt"]}}, "config.yaml"),
    ({"name": "\u043ene"}, "make a name"),
    ({"name": ".."}, "make a name"),
    ({"name": "\x1b[2J"}, "make a name"),
    ({"name": 3}, "name: must be a valid string"),
    ({"space": {"root": ["a", "b"]}}, "'root' is not a setting of a sweep"),
    ({"space": {"tracking_uri": ["http://x"]}}, "'tracking_uri' is not a setting of a sweep"),
    ({"space": {"seed": [{"a": 1}]}}, "a value is a single one"),
    ({"space": {"": [1]}}, "unknown setting ''"),
    ({"space": {"seed": None}}, "seed: must be a valid integer, not None"),
    ({"fixed": {**GOOD, "seed": 3}}, "'seed' is both in the space and fixed"),
    ({"objective": {"a": 1}}, "objective: must be a valid list"),
    ({"mode": "nosuch"}, "mode: must be 'grid' or 'search'"),
    ({"mode": "search", "trials": 1.5}, "trials: must be a valid integer"),
    ({"mode": "search", "trials": 1, "pruner": {"name": "median", "x": 1}}, "unexpected keyword argument 'x'"),
    ({"mode": "search", "trials": 1, "space": {"lr": {"from": 0, "to": 1, "log": True}}}, "starts above 0"),
    ({"trials": 3}, "leave 'trials' out"),
]

#: Other command lines, and what the line says.
COMMANDS = [
    ("data verify ''", "unknown prepared corpus ''"),
    ("data show ''", "unknown corpus ''"),
    ("data prepare ''", "unknown corpus ''"),
    ("compare ''", "no runs in"),
    ("compare --experiment ''", "--experiment: must not be empty"),
    ("report ''", "no runs in"),
    ("show ''", "'' is neither an encoding"),
    ("list ''", "Choose from"),
    ("sweep ''", "is a folder"),
    ("fit --config base.yaml ''", "is a folder"),
    ("fit '' --steps 3", "'': it belongs to no flag"),
    ("evaluate good.ckpt --data ''", "--data: must not be empty"),
    ("theory good.ckpt --data ''", "--data: must not be empty"),
    ("probe good.ckpt --items ''", "--items"),
    ("show good.ckpt --explore --picture sentence", "the page shows all of a run: leave --picture out"),
    ("fit --hlp", "Did you mean --help?"),
    ("fit --help-al", "Did you mean --help-all?"),
    ("fit --nosuchflag 3", "Unknown option: --nosuchflag. Those that there are: --help"),
    ("--verison", "Did you mean --version?"),
    ("data prepare text:good.txt --tokenizer file:few.json", "'padded' is a number from 257"),
    ("data prepare text:good.txt --tokenizer file:much.json", "'padded' is a number from 257"),
    ("theory rope --lengths 99999999999", "--lengths: at most 4,194,304 tokens"),
    ("list runs --root nosuch", "no runs in"),
    ("list runs --root taken", "is no database of SQLite"),
    ("list runs --root bare", "no runs in"),
    ("list runs --root others", "is the database of something else"),
    ("list runs --tracking-uri sqlite:///nosuch.db", "no runs in nosuch.db"),
    ("list runs --tracking-uri sqlite:///pipe", "no runs in pipe"),
    ("list runs --tracking-uri sqlite://", "is a database in memory"),
    ("report x --tracking-uri sqlite:///others/mlflow.db", "is the database of something else"),
    ("ui --tracking-uri sqlite:///nosuch.db", "no runs in nosuch.db"),
    ("deliver --tracking-uri sqlite:///nosuch.db", "no runs in nosuch.db"),
    ("sweep good.yaml --summary --storage sqlite:///nosuch.db", "no sweep in nosuch.db"),
    ("sweep good.yaml --rerun 0 --storage sqlite:///nosuch.db", "no sweep in nosuch.db"),
    ("sweep good.yaml --storage sqlite:///:memory:", "is expected"),
    ("sweep good.yaml --storage sqlite:///good.txt/x.db", "good.txt is a file, not a folder"),
    ("compare --output good.txt/x.png", "is a file, so"),
    ("compare --output ''", "--output: it must not be empty"),
    ("report x --output ''", "--output: it must not be empty"),
    ("export x --output ''", "--output: it must not be empty"),
    ("report x --output ~nosuchuser/x", "~nosuchuser"),
    ("data show ~nosuchuser/x", "~nosuchuser"),
    ("data prepare text:good.txt --output ~nosuchuser/x", "~nosuchuser"),
    ("data prepare text:good.txt --workers 99999999999", "--workers"),
    ("data prepare text:good.txt --limit-tokens 99999999999999999999", "--limit-tokens"),
    ("data prepare stories:tiny-stories-like,words=99999999999999999999", "at most 12 digits"),
    ("theory rope --heads 99999999999", "--heads"),
    ("theory rope --texts 3", "'rope' is an encoding, not a trained run: leave --texts out"),
    ("theory rope --data text:good.txt --device cpu", "leave --data and --device out"),
    ("theory --all --lengths 5", "each encoding is judged as it is shipped: leave --lengths out"),
    ("theory --all --heads 4", "leave --heads out"),
    ("theory good.ckpt --kernel log", "is a trained run, not an encoding: leave --kernel out"),
    ("show last --root nosuch", "error: no runs in"),
    ("theory last --root nosuch", "error: no runs in"),
    ("show rope --layer 0", "'rope' is an encoding, not a trained run: leave --layer out"),
    ("show good.ckpt --heads 4", "is a trained run, not an encoding: leave --heads out"),
    ("show good.ckpt --layer 99", "without --picture all layers are drawn: leave --layer out"),
    ("show good.ckpt --picture sentence --length 9", "leave --length out"),
    ("list encodings --output x.png", "there is no picture"),
    ("list nosuch", "nosuch"),
    ("sweep good.yaml --storage sqlite:///empty", "empty is a folder"),
    ("sweep good.yaml --storage sqlite:///device", "is a pipe or a device"),
    ("sweep good.yaml --storage sqlite:///good.txt", "good.txt is no database of SQLite"),
    ("sweep good.yaml --storage sqlite:///good.txt --summary", "good.txt is no database of SQLite"),
    ("sweep dangling", "dangling: No such file"),
    ("sweep device", "is a pipe or a device"),
    ("sweep base.yaml", "unknown key 'accelerator'"),
    ("sweep good.yaml --sbatch x=1", "--sbatch goes with --slurm"),
    ("sweep good.yaml --gpus-per-trial 99", "this machine has 0"),
    ("sweep good.yaml --rerun 5", "no sweep in"),
    ("theory rope --lengths", "--lengths: needs at least 1"),
    ("theory rope --lengths 0", "--lengths: must be greater than or equal to 1, not '0'"),
    ("theory rope --train-length 0", "--train-length"),
    ("theory", "name an encoding or a run, or give --all"),
    ("theory rope --all", "'rope' or --all, not both"),
    ("show rope --picture sentence", "not a trained run: leave --picture out"),
    ("show rope --layer -1", "--layer"),
    ("show rope --head-dim 0", "--head-dim"),
    ("probe nosuch.ckpt --task nosuch", "unknown probe 'nosuch'"),
    ("probe nosuch.ckpt --keys 0", "--keys"),
    ("probe nosuch.ckpt --places 0", "--places"),
    ("probe nosuch.ckpt --batch-tokens 0", "--batch-tokens"),
    ("evaluate nosuch.ckpt --skip 2", "--skip: must be less than 1, not '2'"),
    ("evaluate nosuch.ckpt --device tpu", "--device must be auto, cpu or cuda"),
    ("evaluate nosuch.ckpt --kernel log", "are those of another --encoding"),
    ("evaluate good.txt", "has no config.yaml beside it"),
    ("report", "name runs, or a --sweep"),
    ("report a --output pipe", "pipe' is a file"),
    ("compare --table html", "Choose from"),
    ("data prepare text:good.txt --output pipe/x", "is a file, so"),
    ("data prepare text:good.txt --vocab-size 3", "--vocab-size"),
    ("data prepare text:good.txt --pad-vocab 0", "--pad-vocab"),
    ("data verify ../x", "unknown prepared corpus '../x'"),
    ("deliver --root good.txt", "no runs in"),
    ("doctor --root ''", "--root: must not be empty"),
    ("bench --dtype int8", "--dtype"),
    ("bench --decode 0", "--decode"),
    ("bench --tokens 0", "--tokens"),
    ("sweep text.yaml --dry-run", "nosuch.txt"),
    ("sweep short.yaml --dry-run", "too few for the length"),
    ("sweep good.yaml --workers 1000000000", "--workers"),
    ("sweep good.yaml --workers 0", "--workers"),
    ("sweep good.yaml --retries -1", "--retries"),
    ("sweep good.yaml --storage ''", "--storage"),
    ("sweep good.yaml --storage mysql://x", "is expected"),
    ("sweep good.yaml --dry-run --summary", "two commands"),
    ("sweep good.yaml --tracking-uri http://[", "Invalid IPv6 URL"),
    ("sweep pipe", "is a pipe or a device"),
    ("sweep empty", "is a folder"),
    ("sweep binary.txt", "not valid YAML"),
    ("ui --port 70000", "--port"),
    ("ui --port 0", "--port"),
    ("ui --port -1", "--port"),
    ("ui --run nosuch", "no runs in"),
    ("ui --root ''", "--root"),
    ("generate nosuch.ckpt --temperature nan", "--temperature"),
    ("generate nosuch.ckpt --temperature inf", "--temperature"),
    ("generate nosuch.ckpt --temperature -1", "--temperature"),
    ("generate nosuch.ckpt --seed 99999999999999999999", "--seed"),
    ("generate nosuch.ckpt --seed -1", "--seed"),
    ("generate nosuch.ckpt --top-p nan", "--top-p"),
    ("generate nosuch.ckpt --top-p 2", "--top-p"),
    ("generate nosuch.ckpt --tokens 0", "--tokens"),
    ("generate nosuch.ckpt", "no checkpoint at 'nosuch.ckpt'"),
    ("generate pipe", "no runs in"),
    ("show rope --output .", "is a folder"),
    ("show rope --output empty", "is a folder"),
    ("show rope --output good.txt/x.png", "is a file"),
    ("show rope --output x.xyz", "is no picture"),
    ("show rope --output x", "is no picture"),
    ("show rope --length 1000000", "--length"),
    ("show rope --heads 0", "--heads"),
    ("show nosuch", "neither an encoding"),
    ("bench --output .", "is a folder"),
    ("bench --output x.xyz", "is no picture"),
    ("bench --lengths 100000000", "GiB"),
    ("bench --lengths 9999999999999999999999", "--lengths"),
    ("bench --seconds nan", "--seconds"),
    ("bench --seconds -1", "--seconds"),
    ("bench --heads 0", "--heads"),
    ("bench --encodings", "--encodings"),
    ("bench --encodings ''", "encoding"),
    ("bench --impls nosuch", "nosuch"),
    ("probe nosuch.ckpt --seed -1", "--seed"),
    ("probe nosuch.ckpt --lengths nan", "--lengths"),
    ("probe nosuch.ckpt --items 0", "--items"),
    ("compare --metric nosuch", "--metric"),
    ("compare --output x.xyz", "--output"),
    ("list nosuch", "nosuch"),
]


def spoilt_checkpoints() -> dict[str, Any]:
    """What stands in a checkpoint that none can be loaded from."""
    shape = GPTConfig(layers=1, heads=2, dim=16, vocab_size=257).model_dump()
    weights = {"hyper_parameters": {"model": shape}, "state_dict": {}}
    huge = shape | {"layers": 100_000_000}
    return {
        "list.ckpt": [1, 2],
        "number.ckpt": 3,
        "nothing.ckpt": {},
        "stateless.ckpt": weights,
        "huge.ckpt": {"hyper_parameters": {"model": huge, "lr": 1e-3}, "state_dict": {}},
        "odd.ckpt": {"hyper_parameters": [1], "state_dict": 3},
        "named.ckpt": {"hyper_parameters": {"model": shape | {"encoding": "nosuch"}}, "state_dict": {}},
    }


CHECKPOINTS = [*spoilt_checkpoints(), "cut.ckpt", "void.ckpt", "text.ckpt", "code.ckpt"]

#: What `config.yaml` beside a checkpoint may hold that is no configuration.
BESIDE = ["", "- a", "steps: [", "just text", "stepps: 3", "steps: six", "\x00", "steps: 1\nsteps: 2"]


class Planted:
    """What a checkpoint would run if it were trusted."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("planted",)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good and bad files."""
    folder = tmp_path_factory.mktemp("spoilt")
    (folder / "good.txt").write_text("".join(f"The number {i} comes before {i + 1}.\n\n" for i in range(2000)))
    (folder / "binary.txt").write_bytes(bytes(range(256)) * 8)
    (folder / "blank.txt").write_text("\n \n")
    (folder / "short.txt").write_text("Hardly a text.")
    (folder / "loop.txt").symlink_to(folder / "loop.txt")
    (folder / "empty").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "empty.json").write_text("{}")
    (folder / "few.json").write_text('{"name": "byte", "padded": -1}')
    (folder / "much.json").write_text('{"name": "byte", "padded": 1e30}')
    for name in ("taken", "others", "cut", "bare"):
        (folder / name).mkdir()
    (folder / "taken" / "mlflow.db").write_text("no database")
    (folder / "bare" / "mlflow.db").touch()
    with closing(sqlite3.connect(folder / "others" / "mlflow.db")) as database:
        database.execute("CREATE TABLE trials (number INTEGER)")
        database.execute("INSERT INTO trials VALUES (1)")
        database.commit()
    whole = (folder / "others" / "mlflow.db").read_bytes()
    (folder / "cut" / "mlflow.db").write_bytes(whole[:100] + bytes(len(whole) - 100))
    for name, fixed in {"good": {}, "text": {"data": "text:nosuch.txt"}, "short": {"data": "text:short.txt"}}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**SWEEP, "fixed": {**GOOD, **fixed}}))
    (folder / "base.yaml").write_text(yaml.safe_dump(GOOD))
    shape = GPTConfig(layers=1, heads=2, dim=16, vocab_size=257, train_length=32, encoding="alibi").model_dump()
    model = LanguageModel(shape)
    torch.save({"hyper_parameters": {"model": shape}, "state_dict": model.state_dict()}, folder / "good.ckpt")
    for name, content in spoilt_checkpoints().items():
        torch.save(content, folder / name)
    (folder / "cut.ckpt").write_bytes((folder / "huge.ckpt").read_bytes()[:300])
    (folder / "void.ckpt").write_bytes(b"")
    (folder / "text.ckpt").write_text("weights")
    (folder / "code.ckpt").write_bytes(pickle.dumps(Planted()))
    return folder


@contextmanager
def at_once(seconds: float = 20.0) -> Iterator[None]:
    """What takes longer waits for something."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"still not told after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def refused(
    spoilt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[list[str]], str]:
    """Runs a command that is a mistake; the one line that is said."""

    def refuse(arguments: list[str]) -> str:
        monkeypatch.chdir(spoilt)
        before = sorted(spoilt.rglob("*"))
        with at_once():
            code = run(arguments)
        said = capsys.readouterr().err
        line = said.splitlines()[-1] if said else ""
        assert code == 2, said
        assert line.startswith("extrapo: error: ")
        assert said.count("extrapo: error: ") == 1
        assert "Traceback" not in said
        assert sorted(spoilt.rglob("*")) == before
        return line

    return refuse


def short(value: object) -> str:
    """A name for a case that fits a line."""
    return ascii(value)[1:61] if isinstance(value, str) else ascii(value)[:60]


@pytest.mark.parametrize(("flags", "cause"), FLAGS, ids=short)
def test_flags(flags: str, cause: str, refused: Callable[[list[str]], str]) -> None:
    base = [] if flags.startswith(("--config", "--resume")) else ["--config", "base.yaml"]
    assert cause in refused(["fit", *base, *shlex.split(flags)])


@pytest.mark.parametrize(("document", "cause"), DOCUMENTS, ids=short)
def test_documents(document: str, cause: str, refused: Callable[[list[str]], str], spoilt: Path) -> None:
    (spoilt / "case.yaml").write_text(document)
    line = refused(["fit", "--config", "base.yaml", "case.yaml"])
    assert cause in line
    assert "case.yaml" in line


@pytest.mark.parametrize(("change", "cause"), SWEEPS, ids=short)
def test_sweeps(change: dict[str, Any], cause: str, refused: Callable[[list[str]], str], spoilt: Path) -> None:
    (spoilt / "case.yaml").write_text(yaml.safe_dump({**SWEEP, **change}))
    assert cause in refused(["sweep", "case.yaml"])


@pytest.mark.parametrize(("line", "cause"), COMMANDS, ids=short)
def test_commands(line: str, cause: str, refused: Callable[[list[str]], str]) -> None:
    assert cause in refused(shlex.split(line))


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(name: str, refused: Callable[[list[str]], str]) -> None:
    assert name in refused(["generate", name])


@pytest.mark.parametrize("content", BESIDE, ids=short)
def test_what_lies_beside_a_checkpoint(content: str, refused: Callable[[list[str]], str], spoilt: Path) -> None:
    (spoilt / "config.yaml").write_text(content)
    assert "config.yaml" in refused(["evaluate", "good.ckpt"])


def test_there_are_enough() -> None:
    assert sum(map(len, (FLAGS, DOCUMENTS, SWEEPS, COMMANDS, CHECKPOINTS, BESIDE))) >= 120


@pytest.mark.parametrize("flag", ["--data=text:", "--root=", "--name=", "--tracking-uri=http://127.0.0.1/"])
def test_bytes_that_are_no_text(flag: str, refused: Callable[[list[str]], str]) -> None:
    assert "udcff" in refused(["fit", "--config", "base.yaml", f"{flag}\udcff"])


@pytest.mark.parametrize("line", ["fit --config base.yaml", "data list", "data verify", "data prepare text:good.txt"])
@pytest.mark.parametrize("cache", ["good.txt", "good.txt/x", "/dev/null", "~nosuchuser/x"])
def test_a_cache_that_is_no_folder(
    line: str, cache: str, refused: Callable[[list[str]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXTRAPO_CACHE", cache)
    said = refused(line.split())
    assert ("~nosuchuser" if "~" in cache else "set EXTRAPO_CACHE to a folder") in said


def test_no_password_is_said(refused: Callable[[list[str]], str]) -> None:
    for address in ("http://me:se/cr@t@127.0.0.1:9", "http://me:secret@[::1", "nosuch://me:secret@x"):
        line = refused(["fit", "--config", "base.yaml", "--tracking-uri", address])
        assert "cr@t" not in line
        assert "secret" not in line


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@given(document=st.text(max_size=200) | plain.map(yaml.safe_dump))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_document_is_read_or_refused(document: str, tmp_path: Path) -> None:
    path = tmp_path / "case.yaml"
    path.write_bytes(document.encode("utf-8", "surrogatepass"))
    try:
        read_yaml(path)
    except UserError as mistake:
        if str(path) not in str(mistake):
            raise


@given(value=plain, name=st.sampled_from(sorted(RunConfig.model_fields)))
@settings(max_examples=300, deadline=None)
def test_any_value_of_a_setting_is_taken_or_refused(value: Any, name: str) -> None:
    """What is taken can be written down, and is the same when it is read again."""
    try:
        config = RunConfig(**{name: value})
        resolved = config.resolved()
    except ValueError:  # pydantic's and ours
        return
    written = yaml.safe_dump(resolved.model_dump(mode="json"), allow_unicode=True)
    written.encode()
    assert RunConfig(**yaml.safe_load(written)).resolved() == resolved


@given(change=st.dictionaries(st.sampled_from(["space", "fixed", "objective", "mode", "trials", "conditions"]), plain))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sweep_is_read_or_refused(change: dict[str, Any], tmp_path: Path) -> None:
    from extrapo.sweep.spec import read_spec

    path = tmp_path / "case.yaml"
    path.write_text(yaml.safe_dump({**SWEEP, **change}))
    try:
        spec = read_spec(path)
        for cell in spec.samples():
            spec.settings(cell)
    except UserError:
        return
