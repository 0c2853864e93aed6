"""What came of some runs, fit to attach to a paper: one page of HTML, Markdown and LaTeX tables of the same content.

content       what a report is made of: sections of text, tables, pictures and commands
formats       a table as Markdown, LaTeX or CSV
settings      what tells the runs apart, what they share, and the command that makes each again
subject       runs that differ in their seed alone
results       the parts of a report that numbers and pictures are in
gather        all parts, in their order
html          a report as one self-contained page; page.html is its template
plain         the same as Markdown, and its tables as LaTeX
"""

from __future__ import annotations

from extrapo.report.content import Commands, Document, Picture, Section, Table, Words
from extrapo.report.gather import report_of, report_of_run
from extrapo.report.html import page
from extrapo.report.plain import latex, markdown
from extrapo.report.subject import Subject

__all__ = [
    "Commands",
    "Document",
    "Picture",
    "Section",
    "Subject",
    "Table",
    "Words",
    "latex",
    "markdown",
    "page",
    "report_of",
    "report_of_run",
]
