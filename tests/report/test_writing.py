"""One document as a page, as Markdown and as LaTeX: everything is in each, and nothing means something else there."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from extrapo.report import Commands, Document, Picture, Section, Table, Words, latex, markdown, page

ROWS = [{"runs": "a <b> & c_d", "64": "1.50 ± 0.10", "128": "-"}, {"runs": "e|f", "64": "2", "128": "3.25"}]
PICTURE = Picture("curves", {"svg": b"<svg/>", "pdf": b"%PDF"}, "curves of 100% & more", is_line=True)
DOCUMENT = Document(
    "x < y",
    [
        Section("Question", [Words("Why <script>alert(1)</script>?")]),
        Section(
            "Result", [Table("perplexity", ROWS, "by length ± spread"), PICTURE, Commands(["extrapo fit --seed 1"])]
        ),
    ],
)


class Reader(HTMLParser):
    """What a browser would make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_page_runs_nothing_and_fetches_nothing() -> None:
    text = page(DOCUMENT)
    reader = Reader()
    reader.feed(text)
    assert "script" not in reader.tags
    assert "Why <script>alert(1)</script>?" in reader.words
    assert "a <b> & c_d" in reader.words
    assert set(re.findall(r'src="(\w+):', text)) == {"data"}
    assert not re.search(r"https?:", text)
    assert "<!--" not in text
    assert text.count("<figure>") == 1


def test_numbers_stand_to_the_right() -> None:
    assert '<td class="number">1.50 ± 0.10</td><td class="number">-</td>' in page(DOCUMENT)
    assert "<td>e|f</td>" in page(DOCUMENT)


def test_markdown_has_all_of_it() -> None:
    text = markdown(DOCUMENT)
    assert "| e\\|f | 2 | 3.25 |" in text
    assert "(pictures/curves.svg)" in text
    assert "```bash\nextrapo fit --seed 1\n```" in text


@pytest.mark.parametrize(
    "words", [r"a <b> \& c\_d", r"\toprule", r"1.50 $\pm$ 0.10", r"{pictures/curves.pdf}", r"100\% \& more"]
)
def test_latex_has_the_tables_and_the_pictures(words: str) -> None:
    assert words in latex(DOCUMENT)
    assert latex(DOCUMENT).count(r"\begin{table}") == latex(DOCUMENT).count(r"\end{table}") == 1
