"""A checkpoint is whole, or the old one stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from extrapo.errors import MachineError
from extrapo.run.checkpoints import AtomicCheckpointIO


def test_a_refused_write_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"a": torch.ones(3)}, path)
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot write the checkpoint"):
        writer.save_checkpoint({"a": torch.ones(3)}, tmp_path / "file" / "last.ckpt")
    monkeypatch.setattr(os, "replace", lambda a, b: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(MachineError, match="No space left on device; what was there is kept"):
        writer.save_checkpoint({"a": torch.zeros(3)}, path)
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.ones(3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "last.ckpt"]


def test_a_folder_that_was_deleted_is_not_made_again(tmp_path: Path) -> None:
    """Somebody may have moved it, with all else that belongs to the run."""
    with pytest.raises(MachineError, match="deleted or moved"):
        AtomicCheckpointIO().save_checkpoint({"a": torch.ones(3)}, tmp_path / "gone" / "last.ckpt")
    assert not list(tmp_path.iterdir())
