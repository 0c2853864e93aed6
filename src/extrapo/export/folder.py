"""A run as a folder that transformers opens, whole or not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from extrapo.errors import UserError
from extrapo.export.model import ExtrapoConfig, ExtrapoForCausalLM
from extrapo.export.tokenizer import for_transformers
from extrapo.files import check_writable, write_text
from extrapo.reading import path_of
from extrapo.run.load import LoadedRun

#: What opens the folder with `trust_remote_code=True`, and no other import.
CODE = '''"""The code of this model is in the package extrapo, which must be installed."""

from extrapo.export.model import ExtrapoConfig, ExtrapoForCausalLM

__all__ = ["ExtrapoConfig", "ExtrapoForCausalLM"]
'''


def export(run: LoadedRun, folder: str | Path) -> Path:
    """Write the model and the tokenizer of a run; returns the folder.

    Args:
        run: see `extrapo.load`.
        folder: where to; made.

    Raises:
        UserError: there is something already.
    """
    folder = path_of(folder)
    check_writable(folder / "config.json")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"'{folder}' is there already; name another folder by `output`")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        _write(run, partial)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _write(run: LoadedRun, folder: Path) -> None:
    tokenizer = for_transformers(run.tokenizer)
    places = {name: f"modeling_extrapo.{cls.__name__}" for name, cls in CLASSES.items()}
    shape = run.model.config.model_dump(mode="json")
    dtype = run.model.unembedding.weight.dtype
    name = str(dtype).removeprefix("torch.")
    config = ExtrapoConfig(shape, auto_map=places, bos_token_id=run.tokenizer.separator, dtype=name)
    model = ExtrapoForCausalLM(config).to(dtype)
    model.gpt.load_state_dict(run.model.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_text(folder / "modeling_extrapo.py", CODE)


CLASSES = {"AutoConfig": ExtrapoConfig, "AutoModelForCausalLM": ExtrapoForCausalLM}
