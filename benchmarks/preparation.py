"""`data prepare` with GPT-2's BPE beside the `tokenizers` library alone: seconds of both clocks, on as many cores.

    python benchmarks/preparation.py FOLDER GPT2_FOLDER --workers 2 --rounds 2

The library reads the same files, encodes them on its own threads, and writes the ids to one file. A text of one line
tells what of a preparation is its start. Where a machine is shared, the processor's time says more than the wall's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ALONE = """
import sys
from pathlib import Path
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

model = Tokenizer(models.BPE.from_file(f"{sys.argv[2]}/encoder.json", f"{sys.argv[2]}/vocab.bpe"))
model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
texts, tokens = [path.read_text() for path in sorted(Path(sys.argv[1]).glob("*.txt"))], 0
with open(sys.argv[3], "wb") as file:
    for start in range(0, len(texts), 40):
        for one in model.encode_batch_fast(texts[start : start + 40]):
            tokens += len(one.ids)
            file.write(np.array(one.ids, "<u2").tobytes())
print('{"tokens": %d}' % tokens)
"""


def timed(command: list[str], **environment: str) -> dict[str, float]:
    """Seconds of the wall's clock and of the processors', children included, and the tokens that it reports."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    wall, cpu = time.monotonic(), spent()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, **environment})
    tokens = json.loads(done.stdout)["tokens"]
    return {"wall": time.monotonic() - wall, "cpu": spent() - cpu, "tokens": tokens}


def prepared(folder: Path, gpt2: str, workers: int) -> dict[str, float]:
    """Of `extrapo data prepare`, into an empty cache."""
    command = [sys.executable, "-m", "extrapo", "data", "prepare", f"text:{folder}", "--tokenizer", f"gpt2:{gpt2}"]
    with tempfile.TemporaryDirectory() as cache:
        return timed([*command, "--workers", str(workers), "--json"], EXTRAPO_CACHE=cache)


def main() -> None:
    """Print a line of JSON per measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="text files, *.txt")
    parser.add_argument("gpt2", help="the folder of encoder.json and vocab.bpe")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        line = Path(scratch, "line")
        line.mkdir()
        for number in range(2):
            (line / f"{number}.txt").write_text(f"one line {number}")
        print("start", json.dumps(prepared(line, given.gpt2, given.workers)), flush=True)
        for _ in range(given.rounds):
            alone = [sys.executable, "-c", ALONE, str(given.folder), given.gpt2, f"{scratch}/ids"]
            print("tokenizers", json.dumps(timed(alone, RAYON_NUM_THREADS=str(given.workers))), flush=True)
            print("prepare", json.dumps(prepared(given.folder, given.gpt2, given.workers)), flush=True)


if __name__ == "__main__":
    main()
