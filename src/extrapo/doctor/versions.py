"""The libraries that are installed, and the range of versions that extrapo was tested with."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from extrapo.doctor.check import Check

#: Extras that are of use to those who develop extrapo alone.
FOR_DEVELOPERS = {"dev", "docs"}


def checks() -> Iterator[Check]:
    """A line for each library that is needed, and one for each extra.

    Ranges are those of the package's own requirements; without its metadata, as in a copy that was never installed,
    there is nothing to compare with.
    """
    try:
        requirements = [Requirement(line) for line in metadata.requires("extrapo") or ()]
        extras = metadata.metadata("extrapo").get_all("Provides-Extra") or ()
    except metadata.PackageNotFoundError:
        yield Check("library", "extrapo", "note", "is not installed, only run: no versions to compare with")
        return
    for requirement in requirements:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield needed(requirement)
    for extra in extras:
        if extra not in FOR_DEVELOPERS:
            yield optional(extra, [r for r in requirements if r.marker and r.marker.evaluate({"extra": extra})])


def needed(requirement: Requirement) -> Check:
    """A library without which extrapo does not work."""
    version = installed(requirement.name)
    if version is None:
        return Check("library", requirement.name, "broken", f"is missing: pip install '{bare(requirement)}'")
    if not requirement.specifier.contains(version, prereleases=True):
        return Check("library", requirement.name, "note", f"{version} lies outside of {requirement.specifier}")
    return Check("library", requirement.name, "ok", version)


def optional(extra: str, requirements: list[Requirement]) -> Check:
    """What an extra brings."""
    found = {requirement: installed(requirement.name) for requirement in requirements}
    missing = [requirement.name for requirement, version in found.items() if version is None]
    if missing:
        return Check("extra", extra, "absent", f"{', '.join(missing)} missing: pip install 'extrapo[{extra}]'")
    outside = [
        f"{requirement.name} {version} lies outside of {requirement.specifier}"
        for requirement, version in found.items()
        if version is not None and not requirement.specifier.contains(version, prereleases=True)
    ]
    if outside:
        return Check("extra", extra, "note", "; ".join(outside))
    return Check("extra", extra, "ok", ", ".join(f"{requirement.name} {found[requirement]}" for requirement in found))


def installed(name: str) -> str | None:
    """The version of a library; None where there is none."""
    try:
        return metadata.version(canonicalize_name(name))
    except metadata.PackageNotFoundError:
        return None


def bare(requirement: Requirement) -> str:
    """A requirement as pip takes it, without its condition."""
    return f"{requirement.name}{requirement.specifier}"
