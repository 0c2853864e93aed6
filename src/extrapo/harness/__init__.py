"""The models of extrapo for lm-evaluation-harness: `python -m extrapo.harness --model extrapo --model_args run=last`.

The harness has no place where a package could announce a model: `import extrapo.harness` registers it, and as a program
this goes on as `lm_eval` itself, with the same arguments. Needs `pip install "extrapo[harness]"`.
"""

from __future__ import annotations

from extrapo.errors import UserError

try:
    import lm_eval  # noqa: F401
except ImportError as cause:
    raise UserError('the harness needs lm-eval: pip install "extrapo[harness]"') from cause

from extrapo.harness.model import Extrapo

__all__ = ["Extrapo"]
