"""Policy as a test: which way imports point, and where each library may be imported."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import extrapo
from extrapo import cli

SOURCE = Path(extrapo.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

#: Each may import those before it. A new module takes its place here.
ORDER = [
    "errors",
    "cores",
    "words",
    "harmless",
    "silence",
    "children",
    "interruption",
    "files",
    "kept",
    "help_pages",
    "reading",
    "registry",
    "options",
    "config",
    "location",
    "kernels",
    "encodings",
    "known",
    "attention",
    "pruned",
    "loss",
    "packing",
    "block",
    "gpt",
    "flops",
    "sharding",
    "data",
    "evaluation",
    "training",
    "kernel_contract",
    "testing",
    "bench",
    "catalogue",
    "figures",
    "tracking",
    "report",
    "run",
    "export",
    "harness",
    "notebook",
    "sweep",
    "doctor",
    "terminal",
    "cli",
    "__main__",
]

#: Where a library may be imported: files, or folders that end in "/". Empty is anywhere.
LIBRARIES: dict[str, tuple[str, ...]] = {
    "numpy": (),
    "torch": (),
    "pydantic": (),
    "pydantic_core": ("tracking/sound.py",),
    "yaml": (),
    "filelock": (),
    "platformdirs": (),
    "triton": ("attention/gpu/",),
    "fla": ("attention/gpu/path.py",),
    "lightning": ("training.py", "run/", "tracking/", "terminal/", "bench/work.py"),
    "torchmetrics": ("evaluation/metric.py",),
    "mlflow": ("tracking/",),
    "IPython": ("notebook.py",),
    "pandas": ("run/frames.py", "tracking/frames.py"),
    "sqlalchemy": ("tracking/", "sweep/storage.py"),
    "alembic": ("tracking/access.py",),
    "optuna": ("sweep/",),
    "psutil": ("tracking/", "sweep/process.py", "doctor/environment.py"),
    "packaging": ("doctor/versions.py",),
    "matplotlib": ("figures/",),
    "plotext": ("terminal/",),
    "rich": ("terminal/", "cli/brief.py"),
    "cyclopts": ("cli/",),
    "tokenizers": ("data/tokenizer.py", "data/vocabularies.py", "export/tokenizer.py"),
    "pyarrow": ("data/sources/parquet.py",),
    "datasets": ("data/sources/huggingface.py",),
    "huggingface_hub": ("data/gpt2.py",),
    "transformers": ("export/",),
    "lm_eval": ("harness/",),
    "pytest": ("testing.py", "kernel_contract.py"),
}


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def place(file: Path) -> str:
    return file.relative_to(SOURCE).as_posix()


def imports(tree: ast.AST) -> Iterator[str]:
    """The dotted names that are imported below a node; `from extrapo import gpt` is extrapo.gpt."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            if node.module == "extrapo":
                yield from (f"extrapo.{alias.name}" for alias in node.names)
            else:
                yield node.module


def own(file: Path) -> set[str]:
    """The dotted names within extrapo that a file imports, also inside functions."""
    found = {name.removeprefix("extrapo.") for name in imports(parsed(file)) if name.startswith("extrapo.")}
    return found - {"__version__"}


def test_imports_point_one_way() -> None:
    for file in FILES:
        piece = place(file).split("/")[0].removesuffix(".py")
        if piece == "__init__":
            continue
        assert piece in ORDER, f"give '{piece}' its place in ORDER"
        for imported in {name.split(".")[0] for name in own(file)} - {piece}:
            assert imported in ORDER, f"give '{imported}' its place in ORDER"
            assert ORDER.index(imported) < ORDER.index(piece), f"{place(file)} must not import {imported}"


def test_the_package_itself_imports_nothing() -> None:
    tree = parsed(SOURCE / "__init__.py")
    top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert {name.split(".")[0] for node in top for name in imports(node)} <= sys.stdlib_module_names


def test_data_knows_no_model() -> None:
    model = set(ORDER[ORDER.index("kernels") : ORDER.index("data")])
    for file in (SOURCE / "data").rglob("*.py"):
        assert not {name.split(".")[0] for name in own(file)} & model, place(file)


#: Beside the schemes: the list of them, names of compositions, one encoding per layer, and what family each is of.
LISTS = {"__init__", "named", "per_layer", "family"}


def test_a_scheme_imports_the_core_and_no_other_scheme() -> None:
    for file in (SOURCE / "encodings").glob("*.py"):
        others = {name for name in own(file) if name.split(".")[0] == "encodings"}
        assert file.stem in LISTS or all(name.startswith("encodings.core") for name in others), place(file)


def test_the_core_of_encodings_imports_no_scheme() -> None:
    for file in (SOURCE / "encodings/core").glob("*.py"):
        others = {name for name in own(file) if name.split(".")[0] == "encodings"}
        assert all(name.startswith("encodings.core") for name in others), place(file)


def test_libraries_stay_in_their_places() -> None:
    for file in FILES:
        for library in {name.split(".")[0] for name in imports(parsed(file))} - {"extrapo", *sys.stdlib_module_names}:
            assert library in LIBRARIES, f"give '{library}' its place in LIBRARIES"
            allowed = LIBRARIES[library]
            assert not allowed or place(file).startswith(allowed), f"{library} in {place(file)}"


def test_the_command_line_imports_the_rest_inside_its_commands() -> None:
    light_of_ours = {f"extrapo.{part}" for part in ("__version__", "config", "errors", "location")}
    for file in (SOURCE / "cli").rglob("*.py"):
        top = [node for node in parsed(file).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        for name in (name for node in top for name in imports(node)):
            light = name.split(".")[0] in {*sys.stdlib_module_names, "cyclopts", "pydantic"}
            ours = name in light_of_ours or name.startswith("extrapo.cli")
            assert light or ours, f"{place(file)} imports {name} at once"


def flags() -> set[str]:
    commands = [cli.app[command] for command in cli.COMMANDS]
    # A group has commands of its own, beside those that ask for help.
    groups = [command for command in commands if command.default_command is None]
    commands = [command for command in commands if command not in groups]
    commands += [group[name] for group in groups for name in group if not name.startswith("-")]
    collections = [command.assemble_argument_collection() for command in commands]
    return {name for collection in collections for argument in collection for name in argument.names}


def test_errors_name_no_flag() -> None:
    """Python has names; the command line makes flags of them, in cli/mistakes.py."""
    ours = flags()
    for file in FILES:
        if place(file).startswith("cli/"):
            continue
        for error in (node for node in ast.walk(parsed(file)) if isinstance(node, ast.Raise)):
            text = " ".join(str(node.value) for node in ast.walk(error) if isinstance(node, ast.Constant))
            assert not set(re.findall(r"--[a-z-]+", text)) & ours, f"{place(file)}: {text}"


@pytest.mark.parametrize("file", FILES, ids=place)
def test_a_file_says_what_it_is_and_is_short(file: Path) -> None:
    text = file.read_text()
    assert text.startswith('"""')
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 400


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (
            "gpt, encodings, attention, kernels, loss",
            "mlflow optuna matplotlib rich cyclopts lightning torchmetrics torch._dynamo",
        ),
        # torchmetrics and lightning load matplotlib and rich of their own accord.
        ("training, evaluation, testing", "mlflow optuna cyclopts plotext tokenizers"),
    ],
)
def test_the_core_loads_without_the_rest(modules: str, absent: str) -> None:
    code = f"from extrapo import {modules}; import sys; print(*set({absent.split()}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.split()


def dotted(file: Path) -> str:
    return ".".join(("extrapo", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def within(tree: ast.AST, modules: Mapping[str, Path]) -> Iterator[str]:
    """The modules of the package that are imported below a node, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            # A name of a module is the module.
            yield from (found for found in (name, name.rpartition(".")[0]) if found in modules)


def graph() -> dict[str, set[str]]:
    """module -> the modules of the package that it imports; a package that names its part is that part."""
    modules = {dotted(file): file for file in FILES if file.parent != SOURCE or file.name != "__init__.py"}
    edges: dict[str, set[str]] = {}
    for name, file in modules.items():
        found = set(within(parsed(file), modules)) - {name}
        parts = {other.rpartition(".")[0] for other in found}
        edges[name] = {other for other in found if other not in parts or not name.startswith(f"{other}.")}
    return edges


def test_no_circle_anywhere() -> None:
    try:
        tuple(TopologicalSorter(graph()).static_order())
    except CycleError as cause:
        pytest.fail(" -> ".join(cause.args[1]))


def test_attention_is_small_without_its_wings() -> None:
    files = sorted((SOURCE / "attention").glob("*.py"))
    assert len(files) <= 9
    assert sum(len(file.read_text().splitlines()) for file in files) <= 800
    edges, modules = graph(), {dotted(file) for file in files}

    def floors(name: str) -> int:
        return 1 + max((floors(other) for other in edges[name] & modules), default=0)

    assert max(map(floors, modules)) <= 5


def test_private_api_of_pytorch_stands_in_one_file_of_a_folder() -> None:
    """Names with an underscore, what PyTorch calls experimental, and symbols of its libraries."""
    names = r"torch(\.\w+)*\._[a-zA-Z]|torch\.fx\.experimental|from torch[\w.]* import _"
    libraries = r"torch\.(__file__|__path__)|libtorch|torch/lib|torch_shm"
    private = re.compile(f"{names}|{libraries}")
    found = {place(file) for file in FILES if private.search(file.read_text())}
    assert found <= {"attention/cpu/private.py", "attention/recorded/private.py"}


def test_every_folder_and_file_has_its_line_in_the_reading_order() -> None:
    listed = extrapo.__doc__ or ""
    for path in sorted(SOURCE.iterdir()):
        name = f"{path.name}/" if path.is_dir() else path.name
        if not name.startswith("_") and name != "py.typed":
            assert name in listed, name
    for folder in ("encodings/core", "sweep"):
        listed = ast.get_docstring(parsed(SOURCE / folder / "__init__.py")) or ""
        for file in (SOURCE / folder).glob("[!_]*.py"):
            assert file.name in listed, f"{folder}/{file.name}"
