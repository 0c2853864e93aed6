"""A report as Markdown with its pictures beside it, and its tables as LaTeX."""

from __future__ import annotations

from extrapo.report.content import Block, Commands, Document, Picture, Table, Words
from extrapo.report.formats import escaped
from extrapo.report.formats import latex as latex_table
from extrapo.report.formats import markdown as markdown_table

#: Beside the file.
PICTURES = "pictures"


def markdown(document: Document) -> str:
    """All of it; pictures are in the folder PICTURES."""
    parts = [f"# {document.title}"]
    for section in document.sections:
        parts += [f"## {section.title}", *map(markdown_block, section.blocks)]
    return "\n\n".join(parts) + "\n"


def markdown_block(one: Block) -> str:
    """One block of it."""
    match one:
        case Words(text):
            return text
        case Commands(lines):
            return "\n".join(["```bash", *lines, "```"])
        case Table(_, rows, caption):
            return f"{markdown_table(rows)}\n{caption}"
        case Picture(name, data, caption):
            return f"![{caption.replace(']', ')')}]({PICTURES}/{name}.{next(iter(data))})\n\n{caption}"


def latex(document: Document) -> str:
    """The tables and the pictures as floats, for a paper that loads booktabs and graphicx."""
    parts = [r"% \usepackage{booktabs,graphicx}"]
    for one in document.blocks():
        if isinstance(one, Table):
            body = latex_table(one.rows).rstrip()
            parts.append(floating("table", one.name, one.caption, body))
        elif isinstance(one, Picture):
            kind = next(kind for kind in ("pdf", "png", *one.files) if kind in one.files)
            body = rf"\includegraphics[width=\linewidth]{{{PICTURES}/{one.name}.{kind}}}"
            parts.append(floating("figure", one.name, one.caption, body))
    return "\n\n".join(parts) + "\n"


def floating(kind: str, name: str, caption: str, body: str) -> str:
    """A float with its caption and its label."""
    lines = [rf"\begin{{{kind}}}", r"\centering", body, rf"\caption{{{escaped(caption)}}}", rf"\label{{{kind}:{name}}}"]
    return "\n".join([*lines, rf"\end{{{kind}}}"])
