"""What works on this machine, and why the rest does not; for people and for programs.

check         one finding
environment   Python, the processor, its cores and its memory
versions      the libraries, those of extras, and the range that each was tested in
devices       what PyTorch can compute on, and compilers
backends      which back ends of attention serve here
caches        what lies on disk, and how much of it
stores        whether runs and sweeps can be read where they are recorded

Nothing is changed; only a back end that compiles keeps its trial of the compiler, as in any run.
"""

from __future__ import annotations

from collections.abc import Iterator

from extrapo.doctor import backends, caches, devices, environment, stores, versions
from extrapo.doctor.check import Check
from extrapo.location import Location

__all__ = ["Check", "examine"]


def examine(location: Location, storage: str | None = None) -> Iterator[Check]:
    """All checks, as they are made.

    Args:
        location: where runs are recorded.
        storage: the database of sweeps; None is the one in the root.

    Raises:
        UserError: an address that can be none.
    """
    yield from environment.checks()
    yield from versions.checks()
    yield from devices.checks()
    yield from backends.checks()
    yield from caches.checks()
    yield from stores.checks(location, storage)
