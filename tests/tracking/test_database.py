"""A database is there whole or not at all, whenever the process that makes it ends."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from extrapo.errors import MachineError, UserError
from extrapo.location import Location
from extrapo.tracking import RunStore, database
from processes import wait_for

OPEN = """
import sys; from pathlib import Path
import extrapo.tracking.preload
from extrapo.location import Location
from extrapo.tracking import RunStore
print("open", flush=True)
RunStore.open(Location(Path(sys.argv[1])))
"""


def test_an_empty_file_becomes_a_database_as_a_missing_one_does(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    for file in (tmp_path / "mlflow.db", tmp_path / "new" / "mlflow.db"):
        assert database.is_empty(file)
        database.check_database(file)
        database.make_database(file)
        assert not database.is_empty(file)
        database.check_database(file)


def test_damage_that_sqlite_cannot_spell_is_said(tmp_path: Path, store: RunStore) -> None:
    """It names what is damaged by the bytes that are there."""
    file, words = tmp_path / "mlflow.db", b"CREATE TABLE "
    whole = store.location.database.read_bytes()
    assert words in whole
    file.write_bytes(whole.replace(words, b"CREATE \xfaABLE "))
    with pytest.raises(UserError, match=f"{file} is damaged"):
        database.check_database(file)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="cannot write to"):
        database.make_database(tmp_path / "file" / "mlflow.db")


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_process_killed_while_it_makes_one_leaves_a_root_that_can_be_used(tmp_path: Path) -> None:
    chance, caught = random.Random(1), 0
    for attempt in range(5):
        root = tmp_path / str(attempt)
        process = subprocess.Popen([sys.executable, "-c", OPEN, str(root)], stdout=subprocess.PIPE)
        wait_for(lambda root=root: list(root.glob(f"{database.PARTIAL}*/mlflow.db")), process)
        time.sleep(chance.uniform(0, 0.6))
        caught += not (root / "mlflow.db").exists()
        process.kill()
        process.communicate()
        store = RunStore.open(Location(root))
        assert store.recorded() == []
        assert {path.name for path in root.iterdir()} == {"mlflow.db", ".mlflow.lock"}
    assert caught
