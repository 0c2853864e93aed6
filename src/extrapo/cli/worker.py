"""extrapo worker: a further rank of a sweep's trial, started by the first; nothing for people."""

from __future__ import annotations


def worker() -> int:
    """Train as a further rank of a sweep's trial."""
    from extrapo.sweep.worker import follow

    follow()
    return 0
