"""Text to batches. Read in this order:

document.py      a text and its annotations; sources/ are where texts come from, a kind of corpus per file
scan.py          a hash of every document, kept; split.py says which of them are held out
tokenizer.py     text to ids and back; vocabularies.py the tokenizers that a setting names,
                 gpt2.py the files of one of them
encoding.py      documents to arrays of ids, on all cores; writer.py appends them to shards, with a journal
manifest.py      what lies in a folder of shards; store.py where such folders are, and their names
preparation.py   from text to shards; opening.py from a spec to a corpus
token_files.py   token files of others, as they are
corpus.py        a corpus as it is used; tokens.py its ids; mixture.py several as one, by weight
order.py         which window comes when; loader.py batches of them, which resume exactly; ahead.py the next of them
held_out.py      the validation split alone, for an evaluation
stories/         long stories told here from a seed
report.py        what is known of prepared corpora; progress.py somebody who watches
"""

from extrapo.data.corpus import Corpus
from extrapo.data.held_out import HeldOut, held_out
from extrapo.data.loader import BatchLoader
from extrapo.data.opening import prepare
from extrapo.data.sources import catalogue
from extrapo.data.tokenizer import Tokenizer

__all__ = ["BatchLoader", "Corpus", "HeldOut", "Tokenizer", "catalogue", "held_out", "prepare"]
