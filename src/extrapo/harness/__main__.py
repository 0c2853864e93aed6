"""`lm_eval`, which knows the models of extrapo."""

from __future__ import annotations

import sys

from lm_eval.__main__ import cli_evaluate

from extrapo.errors import UserError

if __name__ == "__main__":
    try:
        cli_evaluate()
    except UserError as mistake:
        print(f"extrapo: error: {mistake}", file=sys.stderr)
        sys.exit(2)
