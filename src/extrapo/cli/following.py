"""The line that a user types next, with the flags that find the same runs again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from extrapo.config import StoreSettings
from extrapo.location import redacted


def following(words: Sequence[str], store: StoreSettings) -> str:
    """A command on the runs of this store, to be pasted; a password in an address is left for the user to fill in."""
    parts = ["extrapo", *words]
    if store.tracking_uri is not None:
        parts += ["--tracking-uri", redacted(store.tracking_uri)]
    if store.root != StoreSettings.model_fields["root"].default:
        parts += ["--root", store.root]
    return shlex.join(parts)
