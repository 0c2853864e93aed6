"""Text to batches: read corpora (documents), tokenizer, shards (token ids on disk), loader in this order."""

from extrapo.data.corpora import catalogue
from extrapo.data.loader import BatchLoader
from extrapo.data.shards import Corpus, prepare
from extrapo.data.tokenizer import Tokenizer

__all__ = ["BatchLoader", "Corpus", "Tokenizer", "catalogue", "prepare"]
