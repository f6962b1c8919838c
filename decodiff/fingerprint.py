"""What a rule's code is: a hash that changes when the code that a stage runs changes, and not for comments or docstrings."""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parent
# Declarations: what they give a stage reaches it as settings, which the workflow watches by their values. So a new setting or
# a further data set in the registry makes nothing again.
DECLARATIONS = frozenset({"decodiff.config", "decodiff.settings", "decodiff.data.registry", "decodiff.errors"})


def _file(module: str) -> Path:
    """The file of one of this package's modules; there is none for a package and for what is no module."""
    return PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")


@functools.cache
def _parsed(module: str) -> tuple[str, frozenset[str]]:
    """A module's code without docstrings, as text, and the modules of this package that it imports anywhere."""
    tree = ast.parse(_file(module).read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            # a docstring, if it is a string; `...` does nothing either
            body[0] = ast.copy_location(ast.Pass(), body[0])
    return ast.dump(tree), frozenset(name for name in found if name.startswith("decodiff.") and _file(name).is_file())


def modules_behind(roots: tuple[str, ...], apart: frozenset[str] = frozenset()) -> list[str]:
    """The modules that importing ``roots`` can run, sorted, they themselves included; not those ``apart`` or behind them."""
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += _parsed(module)[1] - apart
    return sorted(seen)


@functools.cache
def code_hash(*roots: str, apart: tuple[str, ...] = (), files: tuple[str, ...] = ()) -> str:
    """SHA-256 of the code behind modules, and of further files of the package that it reads.

    Args:
        roots: dotted names of modules of this package.
        apart: modules that are imported and do not matter, besides `DECLARATIONS`.
        files: paths within the package; of a folder all files.

    Raises:
        FileNotFoundError: a module or file does not exist.
    """
    digest = hashlib.sha256()
    for root in roots:
        if not _file(root).is_file():
            raise FileNotFoundError(f"no module {root}")
    for module in modules_behind(roots, DECLARATIONS | set(apart)):
        digest.update(f"{module}\n{_parsed(module)[0]}\n".encode())
    for name in files:
        path = PACKAGE / name
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(PACKAGE)}\n".encode() + file.read_bytes())
    return digest.hexdigest()
