"""Ahead of time: the machine code of a kernel, for a card that need not be there, and what it says of itself."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from extrapo.attention.gpu import clock
from extrapo.attention.gpu.formulas import recorded
from extrapo.attention.gpu.kernels import functions
from extrapo.attention.gpu.tuning import blocks, padded

NAMES = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32"}

#: Pointers to what is as wide as q, k and v; all others are to float32.
OF_TOKENS = {"Q", "K", "V", "Out", "Grad", "DQ", "DK", "DV"}
FLOATS = re.compile(r"Lse|Delta|AllF\d+|G\d+|D?Z|AllCos|AllSin|Theta")

#: Positions of queries and keys, and their gradients, where a formula has such.
POSITIONS = re.compile(r"(AllF|G)[01]")
SUMS = {"S", "DS"}

#: What turned scores read, and add up, plane by plane.
BY_PLANES = {"Q", "K", "DQ", "DK"}

#: A label, an instruction, and where it jumps to, as NVIDIA's disassembler writes them.
LABEL, INSTRUCTION = re.compile(r"(\.L_\w+):"), re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?);")
JUMP = re.compile(r"BRA\b.*`\((\.L_\w+)\)")


@dataclass(frozen=True)
class MachineCode:
    """What a kernel came to.

    Args:
        assembly: the instructions, as NVIDIA's disassembler writes them.
        registers: of each thread.
        shared: bytes of shared memory of a block.
    """

    assembly: str
    registers: int
    shared: int

    def count(self, pattern: str) -> int:
        """How many instructions begin so."""
        return len(re.findall(rf"\b(?:{pattern})", self.assembly))

    @property
    def spills(self) -> int:
        """Loads and stores of registers that there was no room for."""
        return self.count(r"STL|LDL")

    @cached_property
    def loops(self) -> list[list[str]]:
        """The instructions of each loop, from where it begins to where it goes back there."""
        labels: dict[str, int] = {}
        instructions: list[str] = []
        for line in self.assembly.splitlines():
            if (label := LABEL.match(line)) is not None:
                labels[label[1]] = len(instructions)
            elif (found := INSTRUCTION.match(line)) is not None:
                instructions.append(found[1])
        loops = []
        for last, instruction in enumerate(instructions):
            jump = JUMP.search(instruction)
            if jump is not None and labels.get(jump[1], last + 1) <= last:
                loops.append(instructions[labels[jump[1]] : last + 1])
        return loops

    def inner_loop(self, products: str) -> list[str]:
        """The shortest loop with products in it: that of tiles of which all is seen."""
        return min((loop for loop in self.loops if any(map(re.compile(products).search, loop))), key=len)


def compile_ahead(
    name: str, trained: str, levels: int, kernel: str, *, width: int, dtype: torch.dtype, capability: int
) -> MachineCode:
    """The machine code of one kernel.

    Args:
        name, trained, levels: see `kernels.source`.
        kernel: `forward`, `of_queries`, `of_keys` or `of_distances`.
        width: of heads and values.
        dtype: of q, k and v.
        capability: 80 of sm_80.
    """
    formula = recorded(name)
    function = functions(name, trained, levels)[kernel]
    sizes = blocks(kernel, width, dtype, capability, formula.turned)
    constants: dict[str, Any] = {"M": sizes.queries, "N": sizes.keys, "WIDTH": width, "VALUES": width, "group": 1}
    constants |= {"D": padded(width), "E": padded(width), "PRECISION": "ieee"}
    # Numbers of tokens are side by side, and those of a head alone; a frequency has one plane.
    constants |= {argument: 1 for argument in function.arg_names if re.fullmatch(r"F\d+_token|each", argument)}
    types = {argument: type_of(argument, dtype, formula.wide, formula.turned) for argument in function.arg_names}
    return machine_code(function, constants, types, capability, num_warps=sizes.warps, num_stages=sizes.stages)


def compile_clock(increments: str, kernel: str, *, capability: int) -> MachineCode:
    """The machine code of `sums` or `gradients` of a clock, under a name of INCREMENTS."""
    function = clock.functions(increments)[kernel]
    types = {argument: type_of(argument, torch.float32, False, False) for argument in function.arg_names}
    return machine_code(function, {"N": clock.BLOCK}, types, capability)


def machine_code(
    function: Any, constants: dict[str, Any], types: dict[str, str], capability: int, **options: int
) -> MachineCode:
    """That of a function of Triton, with some of its arguments known."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = types | {argument: "constexpr" for argument in constants if argument in types}
    places = {argument: n for n, argument in enumerate(function.arg_names)}
    # As at run time: whole lines of memory, and sizes that 16 divides.
    aligned = {(places[one],): [["tt.divisibility", 16]] for one, kind in types.items() if kind[0] in "*i"}
    values = {(places[one],): value for one, value in constants.items() if one in places}
    source = ASTSource(function, signature=types, constexprs=values, attrs=aligned)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(made.asm["cubin"])
        used, assembly = tool("cuobjdump", "-res-usage", str(file)), tool("nvdisasm", "-c", str(file))
    registers = re.search(r"REG:(\d+)", used)
    assert registers is not None, used
    return MachineCode(assembly, int(registers[1]), made.metadata.shared)


def type_of(argument: str, dtype: torch.dtype, wide: bool, turned: bool) -> str:
    """Of a kernel's argument, as Triton calls it."""
    if turned and argument in BY_PLANES:
        return "*fp32"
    if argument in SUMS or (wide and POSITIONS.fullmatch(argument)):
        return "*fp64"
    if argument in OF_TOKENS:
        return NAMES[dtype]
    return "*fp32" if FLOATS.fullmatch(argument) else "fp32" if argument == "scale" else "i32"


def tool(name: str, *arguments: str) -> str:
    """What one of NVIDIA's tools says, which come with Triton."""
    from triton.backends import nvidia

    program = Path(nvidia.__path__[0]) / "bin" / name
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=True).stdout
