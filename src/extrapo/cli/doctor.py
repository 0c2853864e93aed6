"""extrapo doctor: what works on this machine, and why the rest does not."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from extrapo.cli.flags import Json, Store, StoreFlags
from extrapo.location import Location


def doctor(
    *,
    storage: Annotated[str | None, Parameter(help="Database of sweeps [sqlite in the root].")] = None,
    store: Store = StoreFlags(),  # noqa: B008
    json: Json = False,
) -> int:
    """Say what works on this machine and why the rest does not; 1 where something is broken."""
    from extrapo.terminal import Output

    output = Output(json=json)
    output.waiting("loading PyTorch ...")
    from extrapo.doctor import examine

    checks = list(examine(Location.of(store), storage))
    output.table(
        [{"": check.status, "what": f"{check.group}: {check.name}", "detail": check.detail} for check in checks]
    )
    broken = [check.name for check in checks if check.status == "broken"]
    output.say(f"broken: {', '.join(broken)}" if broken else "nothing is broken")
    output.document({"checks": [check.row() for check in checks]})
    return 1 if broken else 0
