"""What a rank trains and validates on; packed rows, whose documents stand alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_runs import change

from extrapo.config import RunConfig
from extrapo.data import Corpus, prepare
from extrapo.errors import UserError
from extrapo.run.batches import ValidationBatches, training_batches
from extrapo.run.fit import fit
from extrapo.run.job import make_module
from extrapo.run.setup import World

ALONE = World("cpu", devices=1, nodes=1, rank=0)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Documents shorter than a row, so that every row has borders."""
    for number in range(60):
        (tmp_path / f"{number:02d}.txt").write_text(f"{number} squared is {number**2}"[: 8 + number % 9])
    return prepare(f"text:{tmp_path}", tokenizer="byte")


@pytest.mark.parametrize("encoding", ["cable", "rope", "t5"])
def test_the_loss_of_a_packed_row_is_that_of_its_documents_alone(
    corpus: Corpus, small: RunConfig, encoding: str
) -> None:
    config = change(small, pack=True, batch_size=2, encoding=encoding).resolved()
    module = make_module(config, ALONE, corpus.tokenizer.vocab_size).eval()
    batch = next(iter(training_batches(config, ALONE, corpus)))
    assert isinstance(batch, tuple)
    losses = []
    for row, documents in zip(*batch, strict=True):
        for document in documents.unique():
            alone = row[documents == document].unsqueeze(0)
            if alone.size(1) > 1:
                losses.append(module.token_nll(alone[:, :-1], alone[:, 1:]).flatten())
    assert len(losses) > 4
    torch.testing.assert_close(module.training_step(batch, 0), torch.cat(losses).mean())


def test_a_document_begins_with_its_separator(corpus: Corpus, small: RunConfig) -> None:
    config = change(small, pack=True).resolved()
    for batch in training_batches(config, ALONE, corpus):
        tokens, documents = batch
        assert tokens.shape == documents.shape == (4, 33)
        begins = documents.diff(dim=1) == 1
        assert torch.equal(begins, tokens[:, 1:] == corpus.tokenizer.separator)


def test_packed_rows_are_the_plain_ones(corpus: Corpus, small: RunConfig) -> None:
    plain = training_batches(change(small).resolved(), ALONE, corpus)
    packed = training_batches(change(small, pack=True).resolved(), ALONE, corpus)
    for one, other in zip(plain, packed, strict=True):
        assert isinstance(one, torch.Tensor)
        assert torch.equal(one, other[0])


def test_a_single_document_cannot_be_packed(small: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    for name, text in (("a", "a long text. " * 200), ("b", "another one. " * 200)):
        (tmp_path / "one" / f"{name}.txt").write_text(text)
    with pytest.raises(UserError, match="`pack` keeps documents apart, and the training split of 'one' is a single"):
        fit(change(small, pack=True, data=f"text:{tmp_path / 'one'}", lengths=(32,)))


def validation_loss(corpus: Corpus, config: RunConfig, ranks: int) -> float:
    """As so many ranks find it together."""
    module = make_module(config.resolved(), ALONE, corpus.tokenizer.vocab_size).eval()
    parts = [ValidationBatches(corpus.validation, 4, 28, rank, ranks) for rank in range(ranks)]
    assert len({len(part) for part in parts}) == 1
    for batch in (batch for part in parts for batch in part):
        module.validation_step(batch, 0)
    mean, tokens = module.validation.compute()
    assert int(tokens) == 28
    return float(mean)


@pytest.mark.parametrize("ranks", [2, 3, 4, 9])
def test_the_validation_loss_does_not_depend_on_the_ranks(corpus: Corpus, small: RunConfig, ranks: int) -> None:
    assert validation_loss(corpus, small, ranks) == pytest.approx(validation_loss(corpus, small, 1), rel=1e-6)
