"""The main job and what happens beside the training."""

from __future__ import annotations

from extrapo.fitting.job import Result, fit

__all__ = ["Result", "fit"]
