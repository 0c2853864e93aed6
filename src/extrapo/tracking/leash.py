"""A program that ends with its parent, however that ends: run as a script, with the program's own words behind it.

The parent holds the other end of standard input, which the system closes when the parent is gone, killed as well. This
process leads a group of its own, and takes it along.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def take_along() -> None:
    """Until nobody holds the other end; then the end of the group."""
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Run the program and end as it does."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    threading.Thread(target=take_along, daemon=True).start()
    sys.exit(child.wait())


if __name__ == "__main__":
    main()
