"""A small real text, a cache of its own, and the smallest run that goes through everything."""

from __future__ import annotations

import logging
import shutil
import signal
import sqlite3
import sysconfig
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch
from sqlalchemy import Engine, event

from extrapo.config import RunConfig
from extrapo.tracking import database
from processes import start_none, watch

# PyTorch's compiler tells whoever listens on the root logger all that it does, and pytest listens: minutes of it.
logging.getLogger("torch.__trace").propagate = False

#: Fixtures of tests that call a compiler.
COMPILES = {"cpp_compiler", "asked_anew"}


def pytest_configure(config: pytest.Config) -> None:
    # No process that a test starts outlives the run, however that ends.
    config.add_cleanup(watch())
    start_none(False)
    # Behind a shell's `&` and nohup these two are ignored; tests send them, to themselves and to what they start.
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    # Fixtures included: who waits for the default tests does not wait for a compiler, or for a process that imports.
    start_none(not {"slow", "chaos"} & {mark.name for mark in item.iter_markers()})
    try:
        return (yield)
    finally:
        start_none(False)


# Before what `-m` leaves out is chosen.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # The contract itself marks nothing: it runs in projects that know no such mark. Here the long cases of an
        # encoding are slow, and those of its other modes, of which there are many, belong to `make chaos`.
        if item.name.endswith("[slow]"):
            item.add_marker(getattr(getattr(item, "cls", None), "long_cases", "slow"))
        if COMPILES & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    # The long ones first, so that no worker is left alone with one at the end; the contract's are many and short.
    items.sort(key=lambda item: ("slow" not in item.keywords, item.name.endswith("[slow]")))
    if torch.cuda.is_available():
        return
    for item in items:
        # Not `keywords`, in which a folder of that name is too.
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Token shards of the tests stay out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXTRAPO_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """MLflow's tables take over a second: in this process each new database has a copy of the first one's."""
    first, make = tmp_path_factory.mktemp("database") / "mlflow.db", database.make_tables

    def copy(path: Path) -> None:
        if not first.exists():
            make(first)
        shutil.copyfile(first, path)

    def do_not_wait(connection: object, _: object) -> None:
        # None of them has to outlive the power.
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", do_not_wait)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "make_tables", copy)
        yield
    event.remove(Engine, "connect", do_not_wait)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a few modules of the standard library."""
    folder = tmp_path_factory.mktemp("text")
    library = Path(sysconfig.get_paths()["stdlib"])
    for name in ("argparse", "ast", "bisect", "calendar", "csv", "datetime", "difflib", "heapq", "textwrap"):
        (folder / f"{name}.py").write_bytes((library / f"{name}.py").read_bytes())
    return folder


@pytest.fixture
def small(text: Path, tmp_path: Path) -> RunConfig:
    """A run of seconds: 1 layer, 16 wide, 6 steps of 4 x 32 bytes."""
    return RunConfig(
        layers=1,
        heads=2,
        dim=16,
        data=f"text:{text}",
        tokenizer="byte",
        seq_len=32,
        steps=6,
        batch_size=4,
        val_every=2,
        val_tokens=256,
        log_every=1,
        eval_tokens=1024,
        heatmaps=0,
        accelerator="cpu",
        root=str(tmp_path / "runs"),
    )
