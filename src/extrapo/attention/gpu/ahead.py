"""Ahead of time: the machine code of a kernel, for a card that need not be there, and what it says of itself."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from extrapo.attention.gpu.kernels import functions
from extrapo.attention.gpu.tuning import Blocks, blocks, padded

NAMES = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32"}

#: Pointers to what is as wide as q, k and v; all others are to float32.
OF_TOKENS = {"Q", "K", "V", "Out", "Grad", "DQ", "DK", "DV"}
FLOATS = re.compile(r"Lse|Delta|AllF\d+r?|G\d+")


@dataclass(frozen=True)
class MachineCode:
    """What a kernel came to.

    Args:
        assembly: the instructions, as NVIDIA's disassembler writes them.
        registers: of each thread.
        shared: bytes of shared memory of a block.
        blocks: the sizes that it was compiled for.
    """

    assembly: str
    registers: int
    shared: int
    blocks: Blocks

    def count(self, pattern: str) -> int:
        """How many instructions begin so."""
        return len(re.findall(rf"\b(?:{pattern})", self.assembly))

    @property
    def spills(self) -> int:
        """Loads and stores of registers that there was no room for."""
        return self.count(r"STL|LDL")


def compile_ahead(
    name: str, trained: str, levels: int, kernel: str, *, width: int, dtype: torch.dtype, capability: int
) -> MachineCode:
    """The machine code of one kernel.

    Args:
        name, trained, levels: see `kernels.source`.
        kernel: `forward`, `of_queries` or `of_keys`.
        width: of heads and values.
        dtype: of q, k and v.
        capability: 80 of sm_80.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function, sizes = functions(name, trained, levels)[kernel], blocks(kernel, width, dtype, capability // 10)
    constants: dict[str, Any] = {"M": sizes.queries, "N": sizes.keys, "WIDTH": width, "VALUES": width, "group": 1}
    constants |= {"D": padded(width), "E": padded(width), "PRECISION": "ieee"}
    types = {
        argument: "constexpr" if argument in constants else type_of(argument, dtype) for argument in function.arg_names
    }
    places = {argument: n for n, argument in enumerate(function.arg_names)}
    # As at run time: whole lines of memory, and sizes that 16 divides.
    aligned = {(places[one],): [["tt.divisibility", 16]] for one, kind in types.items() if kind[0] in "*i"}
    values = {(places[one],): value for one, value in constants.items() if one in places}
    source = ASTSource(function, signature=types, constexprs=values, attrs=aligned)
    options = {"num_warps": sizes.warps, "num_stages": sizes.stages}
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(made.asm["cubin"])
        used, assembly = tool("cuobjdump", "-res-usage", str(file)), tool("nvdisasm", "-c", str(file))
    registers = re.search(r"REG:(\d+)", used)
    assert registers is not None, used
    return MachineCode(assembly, int(registers[1]), made.metadata.shared, sizes)


def type_of(argument: str, dtype: torch.dtype) -> str:
    """Of a kernel's argument, as Triton calls it."""
    if argument in OF_TOKENS:
        return NAMES[dtype]
    return "*fp32" if FLOATS.fullmatch(argument) else "fp32" if argument == "scale" else "i32"


def tool(name: str, *arguments: str) -> str:
    """What one of NVIDIA's tools says, which come with Triton."""
    from triton.backends import nvidia

    program = Path(nvidia.__path__[0]) / "bin" / name
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=True).stdout
