"""Text to batches: read corpora (documents), tokenizer, shards (token ids on disk), held_out (the validation split
alone) and loader in this order.
"""

from extrapo.data.corpora import catalogue
from extrapo.data.held_out import HeldOut, held_out
from extrapo.data.loader import BatchLoader
from extrapo.data.shards import Corpus, prepare
from extrapo.data.tokenizer import Tokenizer

__all__ = ["BatchLoader", "Corpus", "HeldOut", "Tokenizer", "catalogue", "held_out", "prepare"]
