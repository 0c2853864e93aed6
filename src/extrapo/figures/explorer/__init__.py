"""The bias explorer: one HTML file in which to point at a pair of tokens and read what attention does with it.

pack        numbers in few characters: half precision, deflated, base64
page        the page of a run's looks; it is made of page.html, page.css and page.js, which lie beside it
"""

from __future__ import annotations

from extrapo.figures.explorer.page import explorer_page

__all__ = ["explorer_page"]
