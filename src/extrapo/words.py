"""Numbers of things, as people read them."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """`1 layer`, `2 layers`, `5,000 layers`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
