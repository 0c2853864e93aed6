"""Where text comes from, a kind of corpus per file. To add one: a file with a class, and its import here."""

from extrapo.data.sources import huggingface, jsonl, named, parquet, stdlib, stories, text, wikitext
from extrapo.data.sources.base import SOURCES, SPLITS, Part, Source, Split, open_source

__all__ = [
    "SOURCES",
    "SPLITS",
    "TOKEN_FILES",
    "Part",
    "Source",
    "Split",
    "catalogue",
    "huggingface",
    "jsonl",
    "kinds",
    "named",
    "open_source",
    "parquet",
    "stdlib",
    "stories",
    "text",
    "wikitext",
    "written",
]


#: The kind of corpus that is no text any more.
TOKEN_FILES = "bin"


def kinds() -> list[str]:
    """The names of all kinds of corpora."""
    return sorted([*SOURCES.names(), TOKEN_FILES])


def written() -> list[str]:
    """The same as they are written where something must follow: `text:PATH`."""
    needs = {name: "PATH" if name == TOKEN_FILES else SOURCES.get(name).needs for name in kinds()}
    return [f"{name}:{what}" if what else name for name, what in needs.items()]


def catalogue() -> list[dict[str, str]]:
    """One {"name", "summary"} per kind of corpus."""
    tokens = "bin:PATH, token files of nanoGPT or llm.c, a file or a folder; the tokenizer that made them must be named"
    return [{"name": name, "summary": tokens if name == TOKEN_FILES else SOURCES.get(name).summary} for name in kinds()]
