"""GPT-2's vocabulary (Radford et al., 2019): its two files, in a folder or from the Hugging Face hub."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from extrapo.errors import MachineError, UserError
from extrapo.reading import path_of

#: The pieces and the merges, as OpenAI calls them and as the hub does.
NAMES = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
REPOSITORY = "openai-community/gpt2"
REVISION = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
#: Of the hub's files; OpenAI's are the same bytes.
SHA256 = {
    "vocab.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "merges.txt": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
#: Seconds in which the hub has to answer.
PATIENCE = 10


def gpt2_files(folder: str) -> tuple[Path, Path]:
    """The pieces and the merges in a folder; without one, from the hub's cache or the hub.

    Raises:
        UserError: they are not in the folder.
        MachineError: the hub cannot be reached, or gives something else.
    """
    if not folder:
        vocabulary, merges = map(_from_hub, SHA256)
        return vocabulary, merges
    root = path_of(folder)
    for vocabulary_name, merges_name in NAMES:
        if (root / vocabulary_name).is_file() and (root / merges_name).is_file():
            return root / vocabulary_name, root / merges_name
    raise UserError(f"GPT-2's encoder.json and vocab.bpe (or vocab.json and merges.txt) are not in {root}")


def _from_hub(name: str) -> Path:
    """One of the files, downloaded where it is not in the hub's cache."""
    import huggingface_hub as hub

    try:
        kept = hub.try_to_load_from_cache(REPOSITORY, name, revision=REVISION)
        if not isinstance(kept, str):
            # Asked once, for a download that finds no network tries again for half a minute, and says so each time.
            hub.get_hf_file_metadata(hub.hf_hub_url(REPOSITORY, name, revision=REVISION), timeout=PATIENCE)
            kept = hub.hf_hub_download(REPOSITORY, name, revision=REVISION)
        content = Path(kept).read_bytes()
    # Whatever the libraries under the hub's raise.
    except Exception as cause:
        line = " ".join(str(cause).split())[:200]
        raise MachineError(
            f"GPT-2's vocabulary cannot be fetched from the Hugging Face hub ({line}); where there is no network, give "
            "its files: gpt2:FOLDER with vocab.json and merges.txt (or encoder.json and vocab.bpe)"
        ) from cause
    if sha256(content).hexdigest() != SHA256[name]:
        raise MachineError(f"{kept} is not GPT-2's {name} of the Hugging Face hub: remove it, or give gpt2:FOLDER")
    return Path(kept)
