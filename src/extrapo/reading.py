"""What people name is read with care: regular files only, no bigger than is meant; YAML that has one meaning."""

from __future__ import annotations

import os
import stat
from difflib import get_close_matches
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extrapo.errors import UserError

if TYPE_CHECKING:
    from yaml import MappingNode, Node

#: Bytes of the largest file of settings.
LARGEST = 1 << 20
#: How deep settings are nested at most, and how many they are when every alias is written out.
DEEPEST, MOST = 32, 50_000
#: Folders, and files of each, that are looked through for a name like one.
FOLDERS = 200
#: Bytes of the longest name of a file, on every file system in use.
LONGEST_NAME = 255


def path_of(written: str | Path) -> Path:
    """A path as a person writes it, with `~` expanded; it need not be there.

    Raises:
        UserError: no system could have such a file.
    """
    try:
        path = Path(written).expanduser()
        if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
            raise UserError(f"{shortened(written)}: a name in a path has at most {LONGEST_NAME} bytes")
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return path  # who opens it says so
    except UserError:
        raise
    except UnicodeEncodeError as cause:
        raise UserError(f"{str(written)!a}: the file system has no such characters") from cause
    except (OSError, ValueError, RuntimeError) as cause:
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause).rstrip(".")
        raise UserError(f"{shortened(written)}: {reason}") from cause
    return path


def shortened(written: object) -> str:
    """What was written, cut where nobody would read on."""
    text = str(written)
    return text if len(text) <= 80 else f"{text[:60]}..."


def check_regular(path: Path) -> None:
    """Whether a path is a file that ends: a pipe or a device would be waited for, or read, for ever.

    Raises:
        UserError: it is something else.
        OSError: it is not there, or may not be seen.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise UserError(f"{path} is a folder; a file is expected")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is a pipe or a device; a file is expected")


def read_yaml(path: Path) -> Any:
    """What a YAML file says: plain values, lists and mappings.

    Raises:
        UserError: no such file, or no YAML of one meaning; the message names the file and the line.
    """
    import yaml

    try:
        check_regular(path)
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} is larger than 1 MiB, too large for settings")
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_loader())
    except OSError as cause:
        found = _near(path) if isinstance(cause, FileNotFoundError | NotADirectoryError) else []
        near = f"; near: {', '.join(map(str, found))}" if found else ""
        raise UserError(f"{path}: {cause.strerror}{near}") from cause
    except UserError:
        raise
    except yaml.MarkedYAMLError as cause:
        place = f", line {cause.problem_mark.line + 1}" if cause.problem_mark else ""
        raise UserError(f"{path}: not valid YAML: {cause.problem or cause.context}{place}") from cause
    except Exception as cause:
        # What a tag promises and a value does not keep ends in whatever Python raises of it.
        raise UserError(f"{path}: not valid YAML: {' '.join(str(cause).split())}") from cause


def _near(path: Path) -> list[Path]:
    """The settings that may be meant by a path at which nothing is: those with a name like it, in its folder or in one
    of this, as `sweeps/kernels.yaml` for `kernels`.
    """
    try:
        folders = [path.parent, *(Path(one.name) for one in islice(os.scandir(), FOLDERS) if one.is_dir())]
        files = list(dict.fromkeys(file for folder in folders for file in islice(folder.glob("*.y*ml"), FOLDERS)))
    except OSError:
        return []
    names = get_close_matches(path.stem, {file.stem for file in files}, n=2)
    return [file for file in files if file.stem in names and file != path][:3]


@cache
def _loader() -> Any:
    """PyYAML's safe loader, without the documents that have no end or no single meaning; libyaml takes a text apart in
    a fifth of the time where PyYAML has it, and Python puts it together and looks at every value.
    """
    import yaml
    from yaml.composer import Composer, ComposerError
    from yaml.constructor import ConstructorError

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(Composer, base):  # type: ignore[misc]
        def __init__(self, stream: str) -> None:
            base.__init__(self, stream)
            Composer.__init__(self)
            self._depth = self._count = 0
            #: Values below each anchor, all aliases written out; an anchor that is still open is not in it.
            self._sizes: dict[str, int] = {}

        def compose_node(self, parent: Node | None, index: Any) -> Node | None:
            event: Any = self.peek_event()
            alias, before = isinstance(event, yaml.AliasEvent), self._count
            if alias and event.anchor in self.anchors and event.anchor not in self._sizes:
                raise ComposerError(None, None, f"*{event.anchor} contains itself", event.start_mark)
            self._count += self._sizes.get(event.anchor, 1) if alias else 1
            self._depth += 1
            if self._depth > DEEPEST:
                raise ComposerError(None, None, f"nested more than {DEEPEST} deep", event.start_mark)
            if self._count > MOST:
                raise ComposerError(None, None, f"more than {MOST:,} values", event.start_mark)
            node: Node | None = super().compose_node(parent, index)
            self._depth -= 1
            if event.anchor and not alias:
                self._sizes[event.anchor] = self._count - before
            return node

        def compose_mapping_node(self, anchor: Any) -> MappingNode:
            node = super().compose_mapping_node(anchor)
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if (key.tag, key.value) in seen:
                        raise ComposerError(None, None, f"the key '{key.value}' stands twice", key.start_mark)
                    seen.add((key.tag, key.value))
            return node

        def construct_number(self, node: Any) -> Any:
            if (":" in node.value) or (node.value.lstrip("+-")[:1] == "0" and node.value.lstrip("+-")[1:2].isdigit()):
                problem = f"'{node.value}' is a number of base 60 or 8 in YAML; write it in base 10, or in quotes"
                raise ConstructorError(None, None, problem, node.start_mark)
            kind = node.tag.rpartition(":")[2]
            return getattr(self, f"construct_yaml_{kind}")(node)

    for kind in ("int", "float"):
        Loader.add_constructor(f"tag:yaml.org,2002:{kind}", Loader.construct_number)
    return Loader
