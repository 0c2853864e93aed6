"""Jobs are encoded by several threads at once, and come back in their order."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest

from extrapo.data.encoding import PARALLELISM, Job, Stretch, encode_all
from extrapo.data.tokenizer import ByteTokenizer, Ids


class Uneven(ByteTokenizer):
    """Takes longer for every other text; fails at one that says so."""

    def __init__(self) -> None:
        self.at_once = self.most = 0
        self.parallelism: set[str | None] = set()
        self.lock = threading.Lock()

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            self.parallelism.add(os.environ.get(PARALLELISM))
        time.sleep(0.02 if texts[0].endswith(("0", "2", "4", "6", "8")) else 0.001)
        with self.lock:
            self.at_once -= 1
        if "fail" in texts[0]:
            raise MemoryError(texts[0])
        return super().encode_batch(texts)


def jobs(texts: Sequence[str], taken: list[str]) -> Iterator[Job]:
    for number, text in enumerate(texts, start=1):
        taken.append(text)
        yield Job((Stretch(text, True, "train"),), 0, number)


def of_us() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("encode")]


@pytest.mark.parametrize("before", [None, "true"])
@pytest.mark.parametrize("workers", [1, 3])
def test_order_and_number(workers: int, before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PARALLELISM, raising=False)
    if before is not None:
        monkeypatch.setenv(PARALLELISM, before)
    texts, taken, tokenizer = [f"text {n}" for n in range(20)], list[str](), Uneven()
    found = []
    for job, encoded in encode_all(jobs(texts, taken), tokenizer, "<u2", workers):
        found.append(bytes(encoded["train"].ids[1:].tolist()).decode())
        assert job.stretches[0].text == found[-1]
        assert len(taken) - len(found) <= 2 * workers
    assert found == texts
    assert tokenizer.most == workers
    assert tokenizer.parallelism == {before or "false"}
    assert os.environ.get(PARALLELISM) == before
    assert not of_us()


def test_a_failure_is_told_and_nothing_goes_on() -> None:
    taken, tokenizer = list[str](), Uneven()
    texts = [*(f"text {n}" for n in range(7)), "fail", *("text" for _ in range(40))]
    found = []
    with pytest.raises(MemoryError, match="fail"):
        found += list(encode_all(jobs(texts, taken), tokenizer, "<u2", 2))
    assert len(taken) < 15
    assert not of_us()


def test_who_stops_in_the_midst_waits_for_no_more_than_has_begun() -> None:
    taken = list[str]()
    with closing(encode_all(jobs([f"text {n}" for n in range(50)], taken), Uneven(), "<u2", 2)) as results:
        next(results)
    assert len(taken) <= 6
    assert not of_us()
    assert PARALLELISM not in os.environ
