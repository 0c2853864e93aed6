"""extrapo ui: the recorded runs in MLflow's own pages, on this machine only."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from types import FrameType
from typing import Annotated

from cyclopts import Parameter

from extrapo.cli.flags import Store, StoreFlags
from extrapo.config import Port
from extrapo.location import Location

#: Seconds between two looks at whether it was asked to end.
LOOK = 0.5


def ui(
    *,
    run: Annotated[str | None, Parameter(help="A run to link to: id, the start of it, name, or `last`.")] = None,
    store: Store = StoreFlags(),  # noqa: B008
    port: Annotated[Port | None, Parameter(help="Port on 127.0.0.1 [5000, or the next free one].")] = None,
) -> int:
    """Serve the recorded runs on 127.0.0.1 and print the links to their curves and heatmaps; Ctrl-C ends it."""
    from extrapo.silence import ended
    from extrapo.terminal import Output
    from extrapo.tracking import RunStore
    from extrapo.tracking.pages import bring_up_to_date
    from extrapo.tracking.server import links, serve

    output = Output()
    asked: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        # What is raised in a callback of some library's may end there; what is noted stays.
        asked.append(number)
        raise KeyboardInterrupt

    location = Location.of(store)

    def prepare(store: RunStore) -> tuple[str, str, str | None]:
        # Without a name, the newest run says which experiment is of interest.
        (one,) = store.find_all(["last" if run is None else run])
        return one.run_id, one.experiment_id, bring_up_to_date(store, one.experiment_id)

    try:
        with ExitStack() as stack:
            # A SIGTERM ends the server as Ctrl-C does, also while a library loads: the server is not to stay behind.
            for number in (signal.SIGINT, signal.SIGTERM):
                stack.callback(signal.signal, number, signal.signal(number, end))
            output.say("starting MLflow ...")
            with output.alive("starting MLflow"):
                server = stack.enter_context(serve(location, port, prepare))
            for title, link in links(server.url, server.store, *server.prepared).items():
                output.say(f"{title:16} {link}")
            output.say("Ctrl-C ends it")
            ended()
            while not asked and server.runs(LOOK):
                continue
    except KeyboardInterrupt:
        if not asked:
            raise
    if asked:
        output.say("ended")
        return 128 + asked[-1]
    return 0
