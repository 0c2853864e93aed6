"""Imported by a process whose children will compile: they find PyTorch's compiler loaded, which takes seconds."""

from __future__ import annotations

from extrapo.attention.cpu.private import load_compiler

load_compiler()
