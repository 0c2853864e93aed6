"""A report as one self-contained page: no script, no network, pictures within."""

from __future__ import annotations

import re
from base64 import b64encode
from html import escape
from importlib.resources import files

from extrapo.report.content import Block, Commands, Document, Picture, Table, Words

KINDS = {"svg": "image/svg+xml", "png": "image/png"}
NUMBER = re.compile(r"[-+]?[\d,.]+(e[-+]?\d+)?%?( ± [\d,.]+| to [-+]?[\d,.]+%?)?")


def page(document: Document) -> str:
    """The page."""
    sections = [
        f'<section id="part-{number}"><h2>{escape(section.title)}</h2>{"".join(map(block, section.blocks))}</section>'
        for number, section in enumerate(document.sections)
    ]
    links = [
        f'<a href="#part-{number}">{escape(section.title)}</a>' for number, section in enumerate(document.sections)
    ]
    text = (files("extrapo.report") / "page.html").read_text("utf-8")
    parts = {"title": escape(document.title), "nav": "".join(links), "body": "\n".join(sections)}
    return re.sub(r"<!--(title|nav|body)-->", lambda found: parts[found[1]], text)


def block(one: Block) -> str:
    """One block of it."""
    match one:
        case Words(text):
            return f"<p>{escape(text)}</p>"
        case Commands(lines):
            return f"<pre>{escape(chr(10).join(lines))}</pre>"
        case Table():
            return table(one)
        case Picture(_, data, caption, is_line):
            kind = next(kind for kind in data if kind in KINDS)
            address = f"data:{KINDS[kind]};base64,{b64encode(data[kind]).decode()}"
            style = ' class="line"' if is_line else ""
            shown = f'<img{style} src="{address}" alt="{escape(caption)}">'
            return f"<figure>{shown}<figcaption>{escape(caption)}</figcaption></figure>"


def table(one: Table) -> str:
    """Numbers to the right, words to the left."""
    names = list(one.rows[0])
    right = {
        name
        for name in names
        if all(row[name] == "-" or NUMBER.fullmatch(row[name]) for row in one.rows)
        and any(row[name] != "-" for row in one.rows)
    }
    style = {name: ' class="number"' if name in right else "" for name in names}
    head = "".join(f"<th{style[name]}>{escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td{style[name]}>{escape(row[name])}</td>" for name in names) + "</tr>" for row in one.rows
    )
    caption = f"<caption>{escape(one.caption)}</caption>"
    return f'<div class="wide"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
