"""Text to batches: read corpora (documents), tokenizer, store (token shards), loader in this order."""

from extrapo.data.corpora import catalogue
from extrapo.data.loader import BatchLoader
from extrapo.data.store import Corpus, prepare, prepared
from extrapo.data.tokenizer import Tokenizer

__all__ = ["BatchLoader", "Corpus", "Tokenizer", "catalogue", "prepare", "prepared"]
