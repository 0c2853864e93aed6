"""extrapo export: a trained model as a folder that transformers opens."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from extrapo.cli.flags import Json, Store, StoreFlags, Written
from extrapo.location import Location


def export(
    run: Annotated[str, Parameter(help="A run (id, the start of it, name, or `last`), or the path of a checkpoint.")],
    /,
    *,
    output: Annotated[Written | None, Parameter(help="Folder to make [export, in the run's own].")] = None,
    store: Store = StoreFlags(),  # noqa: B008
    json: Json = False,
) -> int:
    """Write a trained model and its tokenizer as transformers reads them (`AutoModelForCausalLM`, `AutoTokenizer`)."""
    from extrapo.run.find import check_known
    from extrapo.terminal import Output

    check_known([run], Location.of(store))
    terminal = Output(json=json)
    terminal.waiting("loading PyTorch and transformers ...")
    from extrapo.export import export as write
    from extrapo.run.load import load

    loaded = load(run, root=store.root, tracking_uri=store.tracking_uri)
    folder = write(loaded, output or loaded.checkpoint.parent / "export")
    terminal.say(f"folder: {folder}")
    terminal.say(f"open:   AutoModelForCausalLM.from_pretrained({str(folder)!r}, trust_remote_code=True)")
    terminal.document({"folder": str(folder)})
    return 0
