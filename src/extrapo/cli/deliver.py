"""extrapo deliver: what runs could not record, because their store was away, is recorded now."""

from __future__ import annotations

from extrapo.cli.flags import Json, Store, StoreFlags
from extrapo.location import Location


def deliver(
    *,
    store: Store = StoreFlags(),  # noqa: B008
    json: Json = False,
) -> int:
    """Send what runs of a root could not record, because the tracking store was away; nothing is recorded twice."""
    from extrapo.terminal import Output
    from extrapo.tracking import deliver_left
    from extrapo.tracking.outbox import undelivered

    output = Output(json=json)
    location = Location.of(store)
    delivered = deliver_left(location, output.say)
    for run_id, records in delivered.items():
        output.say(f"run {run_id[:8]}: {records} records delivered")
    left = undelivered(location)
    if not delivered and not left:
        output.say("nothing is left to deliver")
    output.document({"delivered": delivered, "left": [folder.name for folder in left]})
    return 1 if left else 0
