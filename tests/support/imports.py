"""What a module imports, read from its source."""

from __future__ import annotations

import ast
import os
from typing import TYPE_CHECKING, NamedTuple

from tests.support.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator


class Import(NamedTuple):
    """One imported module; `at_top` when importing the importer imports it too."""

    importer: str
    name: str
    line: int
    at_top: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.name}"


def all_imports() -> list[Import]:
    """Every import in dso/."""
    return [found for module, source in sources() for found in imports_of(module, source)]


def sources() -> Iterator[tuple[str, str]]:
    """The name and the source of every module in dso/."""
    for directory, _, files in os.walk(os.path.join(ROOT, "dso")):
        for file in sorted(files):
            if file.endswith(".py"):
                path = os.path.join(directory, file)
                with open(path, encoding="utf-8") as stream:
                    yield _module_name(path), stream.read()


def imports_of(importer: str, source: str) -> list[Import]:
    """The imports in a module's source, but for those that only type checkers see."""
    return list(_walk(importer, ast.parse(source), at_top=True))


def _module_name(path: str) -> str:
    return os.path.relpath(path, ROOT).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _walk(importer: str, node: ast.AST, *, at_top: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(importer, alias.name, child.lineno, at_top)
        elif isinstance(child, ast.ImportFrom):
            for name in _imported_from(child):
                yield Import(importer, name, child.lineno, at_top)
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _walk(importer, child, at_top=at_top and not inside)


def _imported_from(node: ast.ImportFrom) -> list[str]:
    """`from dso.cli import cmd_up` may name a module of the package, `from dso.paths import home` does not."""
    module = "." * node.level + (node.module or "")
    if os.path.isdir(os.path.join(ROOT, *module.split("."))):
        return [f"{module}.{alias.name}" for alias in node.names]
    return [module]
