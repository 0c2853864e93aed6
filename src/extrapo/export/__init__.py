"""A trained model for transformers: `import extrapo.export` makes AutoModelForCausalLM know it.

model         the model as transformers calls it, decoding with a cache
tokenizer     its tokenizer as transformers has them
folder        the files of both, which `from_pretrained` opens

Needs `pip install "extrapo[hf]"`.
"""

from __future__ import annotations

from extrapo.errors import UserError

try:
    import transformers  # noqa: F401
except ImportError as cause:
    raise UserError('export needs transformers: pip install "extrapo[hf]"') from cause

from extrapo.export.folder import export
from extrapo.export.model import ExtrapoConfig, ExtrapoForCausalLM

__all__ = ["ExtrapoConfig", "ExtrapoForCausalLM", "export"]
