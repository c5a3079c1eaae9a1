"""A Python file as the rules of the house see it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
PACKAGES = ("raft_actors", "storage_adapters")
FOLDERS = (*PACKAGES, "tests", "benchmarks")


@dataclass(frozen=True)
class Finding:
    """A place where a rule is broken."""

    path: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


@dataclass(frozen=True)
class Import:
    """One imported module; ``lazy`` if it is not imported when the file is."""

    module: str
    line: int
    lazy: bool


@dataclass(frozen=True)
class Source:
    """A file by its path relative to the top of the repository."""

    path: str
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def folder(self) -> str:
        return self.path.split("/")[0]

    @property
    def in_packages(self) -> bool:
        return self.folder in PACKAGES

    @property
    def module(self) -> str:
        parts = PurePosixPath(self.path).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def package(self) -> str:
        return self.module if self.path.endswith("__init__.py") else self.module.rpartition(".")[0]

    def finding(self, node: ast.AST, what: str) -> Finding:
        return Finding(self.path, getattr(node, "lineno", 1), what)

    def imports(self) -> Iterator[Import]:
        """Yield what is imported anywhere in the file; of ``from p import m`` the module ``p.m`` if there is one."""
        for node, lazy in _statements(self.tree.body, lazy=False):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(alias.name, node.lineno, lazy)
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                for alias in node.names:
                    whole = f"{base}.{alias.name}"
                    yield Import(whole if whole in modules() else base, node.lineno, lazy)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if node.level == 0:
            return node.module or ""
        up = self.package.split(".")[: len(self.package.split(".")) - node.level + 1]
        return ".".join([*up, *([node.module] if node.module else [])])


def _statements(body: list[ast.stmt], *, lazy: bool) -> Iterator[tuple[ast.stmt, bool]]:
    for node in body:
        yield node, lazy
        inner_lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _for_types_only(node)
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.ExceptHandler | ast.match_case):
                yield from _statements(part.body, lazy=inner_lazy)
        for name in ("body", "orelse", "finalbody"):
            inner = getattr(node, name, None)
            if isinstance(inner, list):
                yield from _statements(inner, lazy=inner_lazy)


def _for_types_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


@functools.cache
def sources() -> tuple[Source, ...]:
    """Return every Python file of the repository."""
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT)
            if not any(part.startswith((".", "__pycache__")) for part in relative.parts):
                found.append(Source(relative.as_posix(), path.read_text("utf-8")))
    return tuple(found)


@functools.cache
def modules() -> frozenset[str]:
    """Return the names of all modules of the repository."""
    return frozenset(source.module for source in sources())
