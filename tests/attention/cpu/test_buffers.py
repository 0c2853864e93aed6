"""Scratch memory: kept between calls, by worker, slot and dtype, and no more than the limit."""

from __future__ import annotations

import threading

import torch

from extrapo.attention.cpu.buffers import KEPT, scratch


def test_the_same_place_again() -> None:
    like = torch.zeros(())
    first = scratch(like, (4, 8), 0, "a")
    assert first.shape == (4, 8)
    assert scratch(like, (2, 3), 0, "a").data_ptr() == first.data_ptr()
    assert scratch(like, (2, 3), 1, "a").data_ptr() != first.data_ptr()
    assert scratch(like, (2, 3), 0, "b").data_ptr() != first.data_ptr()
    assert scratch(like.double(), (2, 3), 0, "a").dtype == torch.float64


def test_it_grows() -> None:
    like = torch.zeros(())
    small, large = scratch(like, (3,), 0, "growing"), scratch(like, (300,), 0, "growing")
    assert small.shape == (3,)
    assert large.shape == (300,)
    assert scratch(like, (200,), 0, "growing").data_ptr() == large.data_ptr()


def test_large_blocks_are_not_kept() -> None:
    like = torch.zeros((), dtype=torch.uint8)
    kept = scratch(like, (8,), 0, "large")
    assert scratch(like, (KEPT + 1,), 0, "large").numel() == KEPT + 1
    assert scratch(like, (8,), 0, "large").data_ptr() == kept.data_ptr()


def test_each_calling_thread_has_its_own() -> None:
    like, found = torch.zeros(()), []
    mine = scratch(like, (5,), 0, "mine")
    other = threading.Thread(target=lambda: found.append(scratch(like, (5,), 0, "mine")))
    other.start()
    other.join()
    assert found[0].data_ptr() != mine.data_ptr()
