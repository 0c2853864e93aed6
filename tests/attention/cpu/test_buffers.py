"""Buffers: kept between calls, by worker, slot and dtype, and no more than the limit; a worker's tiles in them."""

from __future__ import annotations

import threading

import torch

from extrapo.attention.cpu.buffers import LARGEST_BUFFER, TileBuffers, buffer


def test_the_same_memory_again() -> None:
    like = torch.zeros(())
    first = buffer(like, (4, 8), 0, "a")
    assert first.shape == (4, 8)
    assert buffer(like, (2, 3), 0, "a").data_ptr() == first.data_ptr()
    assert buffer(like, (2, 3), 1, "a").data_ptr() != first.data_ptr()
    assert buffer(like, (2, 3), 0, "b").data_ptr() != first.data_ptr()
    assert buffer(like.double(), (2, 3), 0, "a").dtype == torch.float64


def test_it_grows() -> None:
    like = torch.zeros(())
    small, large = buffer(like, (3,), 0, "growing"), buffer(like, (300,), 0, "growing")
    assert small.shape == (3,)
    assert large.shape == (300,)
    assert buffer(like, (200,), 0, "growing").data_ptr() == large.data_ptr()


def test_large_blocks_are_not_kept() -> None:
    like = torch.zeros((), dtype=torch.uint8)
    kept = buffer(like, (8,), 0, "large")
    assert buffer(like, (LARGEST_BUFFER + 1,), 0, "large").numel() == LARGEST_BUFFER + 1
    assert buffer(like, (8,), 0, "large").data_ptr() == kept.data_ptr()


def test_each_calling_thread_has_its_own() -> None:
    like, found = torch.zeros(()), []
    mine = buffer(like, (5,), 0, "mine")
    other = threading.Thread(target=lambda: found.append(buffer(like, (5,), 0, "mine")))
    other.start()
    other.join()
    assert found[0].data_ptr() != mine.data_ptr()


def test_tiles_are_made_in_one_memory() -> None:
    """Of 2 texts with 3 heads, the last 5 of 7 tokens: scores of a tile, over the keys up to its last row."""
    q, k = torch.randn(6, 5, 4), torch.randn(6, 7, 4)
    tiles = TileBuffers(q, k, k, 0.5, 3, 2, 1, 0)
    for rows in (slice(3, 5), slice(1, 3), slice(0, 1)):
        past = slice(0, 2 + rows.stop)
        assert tiles.past(rows) == past
        scores = tiles.scores(rows)
        torch.testing.assert_close(scores.flatten(0, 1), 0.5 * q[:, rows] @ k[:, past].mT)
        assert scores.shape == (2, 3, rows.stop - rows.start, past.stop)
        assert scores.data_ptr() == tiles.tile(0, rows).data_ptr()
