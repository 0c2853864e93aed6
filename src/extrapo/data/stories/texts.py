"""The texts that stories are made of: files of blocks, in which one line is one template.

A block begins with `= its head`. A line that begins with two blanks goes on with the line before it; empty lines mean
nothing.
"""

from __future__ import annotations

from importlib.resources import files

from extrapo.data.stories.grammar import Template, WordLists, parse


def blocks(name: str) -> list[tuple[str, list[str]]]:
    """(head, lines) of each block of texts/NAME.txt."""
    found: list[tuple[str, list[str]]] = []
    text = files("extrapo.data.stories").joinpath("texts", f"{name}.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("= "):
            found.append((line[2:], []))
        elif line.startswith("  "):
            found[-1][1][-1] += line[1:]
        elif line:
            found[-1][1].append(line)
    return found


def sections(name: str) -> dict[str, list[str]]:
    """Head -> lines."""
    return dict(blocks(name))


def listed(name: str, mark: str = ";") -> dict[str, tuple[str, ...]]:
    """Head -> words or phrases, between which stands `mark`."""
    return {head: tuple(part.strip() for part in " ".join(lines).split(mark)) for head, lines in blocks(name)}


LISTS = WordLists(listed("lists"))


def template(text: str) -> Template:
    """A template that may name the lists of texts/lists.txt."""
    return parse(text, LISTS)


def templates(name: str) -> dict[str, tuple[Template, ...]]:
    """Head -> a template per line."""
    return {head: tuple(map(template, lines)) for head, lines in blocks(name)}
