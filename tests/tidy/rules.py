"""The rules of the house that a linter does not know, each a function from a file to its findings.

Imports run one way. A module may import from its own layer and from those below it:

    protocol <- behaviours <- leaves (errors, codec, ...) <- parts of a peer (engine, log_writer, machine_actor, ...)
             <- peer <- supervisor <- api <- client <- the package itself <- testing <- cli
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from tests.tidy.source import Finding, Source

FILE_LINES = 400
FUNCTION_LINES = 60
NAME_WORDS = 3

LAYERS = (
    ("raft_actors.protocol",),
    ("raft_actors.behaviours",),
    tuple(
        f"raft_actors.{leaf}"
        for leaf in (
            "error_base",
            "errors",
            "callbacks",
            "names",
            "plain_codec",
            "codec",
            "config",
            "futures",
            "breathing",
            "state_files",
            "state_sharing",
            "state_encoding",
            "state_images",
            "state_machine",
            "machines",
        )
    ),
    ("raft_actors.*",),  # the parts of a peer: whatever is not named here
    ("raft_actors.peer", "raft_actors.opening", "raft_actors.recovering"),
    ("raft_actors.supervisor",),
    (
        "raft_actors.api",
        "raft_actors.administration",
        "raft_actors.changing",
        "raft_actors.forwarding",
        "raft_actors.leadership",
        "raft_actors.saving",
    ),
    (
        "raft_actors.client",
        "raft_actors.client_peers",
        "raft_actors.client_tries",
        "raft_actors.on_behalf",
        "raft_actors.serving",
        "raft_actors.node",
        "raft_actors.metrics",
    ),
    ("raft_actors",),
    ("raft_actors.testing", "raft_actors.bench"),
    ("raft_actors.cli", "raft_actors.__main__", "raft_actors.examples"),
)
PURE = ("raft_actors.protocol", "raft_actors.behaviours")
IMPURE = frozenset(
    [
        "pykka",
        "threading",
        "queue",
        "time",
        "random",
        "socket",
        "os",
        "logging",
        "asyncio",
        "selectors",
        "subprocess",
        "signal",
        "secrets",
        "uuid",
        "datetime",
        "pathlib",
        "lmdb",
        "rocksdict",
        "cloudpickle",
        "pickle",
        "storage_adapters",
    ]
)

# Written so that no pattern matches itself.
FORBIDDEN = {
    r"\b(TO[D]O|FIX[M]E|X[X]X|HAC[K])\b": "finish it, or leave it out and say so in the docs",
    r"/wor[k]/|/tm[p]/w\b|/roo[t]/|/hom[e]/": "a path of somebody's machine",
    r"py[p]i[.-]|python[h]osted|artifactor[y]": "a package host",
    r"(?i)\bclaud[e]\b|anthropi[c]|chat[g]pt|\bas an A[I]\b|language mode[l]": "how the text came about",
    r"(?i)\bissues? sho[w]\b|\bsessio[n] of work\b|\bhelper sessio[n]\b|\bthe brie[f]\b": "how work was organised",
}


def _within(module: str, names: Iterable[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


def layer(module: str) -> int | None:
    """Return the number of the layer of a module, counted from the bottom, or ``None`` if it is not one of ours."""
    if module == "raft_actors":
        return LAYERS.index(("raft_actors",))
    if not module.startswith("raft_actors."):
        return None
    for number, names in enumerate(LAYERS):
        if names != ("raft_actors",) and _within(module, names):
            return number
    return LAYERS.index(("raft_actors.*",))


def imports_run_one_way(source: Source) -> Iterator[Finding]:
    """A module imports only from its own layer and from lower ones."""
    own = layer(source.module)
    for each in source.imports():
        other = layer(each.module)
        if own is not None and other is not None and other > own:
            yield Finding(source.path, each.line, f"{source.module} must not import {each.module}, a layer above it")
        if source.folder == "storage_adapters" and other is not None:
            yield Finding(source.path, each.line, "storage_adapters must not import raft_actors")
        if source.folder != "benchmarks" and _within(each.module, ["benchmarks"]):
            yield Finding(source.path, each.line, "nothing imports the benchmarks")
        if source.in_packages and _within(each.module, ["tests"]):
            yield Finding(source.path, each.line, "the packages must not import tests")


def the_core_is_pure(source: Source) -> Iterator[Finding]:
    """``protocol`` and ``behaviours`` know no thread, clock, dice, file, network or codec."""
    if _within(source.module, PURE):
        for each in source.imports():
            if each.module.split(".")[0] in IMPURE:
                yield Finding(source.path, each.line, f"{source.module} is pure and must not import {each.module}")


def files_are_short(source: Source) -> Iterator[Finding]:
    """A file has one idea, and at most 400 lines."""
    lines = source.text.count("\n")
    if lines > FILE_LINES:
        yield Finding(source.path, 1, f"{lines} lines, more than {FILE_LINES}")


def functions_are_short(source: Source) -> Iterator[Finding]:
    """A function has at most 60 lines."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield source.finding(node, f"{node.name} has {lines} lines, more than {FUNCTION_LINES}")


def own_state_is_checked_by_raises(source: Source) -> Iterator[Finding]:
    """The packages have no ``assert``: ``python -O`` would strip it."""
    if source.in_packages:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Assert):
                yield source.finding(node, "raise InvariantViolated (or what fits) instead of assert")


def only_the_command_line_prints(source: Source) -> Iterator[Finding]:
    """A library does not write to standard output."""
    if source.in_packages and not _within(source.module, ["raft_actors.cli", "raft_actors.examples"]):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                yield source.finding(node, "print belongs to the command line; log or return it")


def tests_do_not_sleep(source: Source) -> Iterator[Finding]:
    """A test waits for what it needs, never for a while."""
    if source.folder == "tests":
        for node in ast.walk(source.tree):
            attribute = isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep"
            name = (
                isinstance(node, ast.ImportFrom) and node.module == "time" and "sleep" in {a.name for a in node.names}
            )
            if attribute or name:
                yield source.finding(node, "wait for an event or with eventually, do not sleep")


def annotations_are_postponed(source: Source) -> Iterator[Finding]:
    """Every file with code starts with ``from __future__ import annotations``."""
    code = [node for node in source.tree.body if not isinstance(node, ast.Expr)]
    if code and not (isinstance(code[0], ast.ImportFrom) and code[0].module == "__future__"):
        yield source.finding(code[0], "the first statement is: from __future__ import annotations")


def public_things_have_docstrings(source: Source) -> Iterator[Finding]:
    """Modules, classes, functions and methods without an underscore say what they are for."""
    if source.in_packages:
        if ast.get_docstring(source.tree) is None:
            yield source.finding(source.tree, "the module has no docstring")
        yield from _without_docstring(source, source.tree.body)


def _without_docstring(source: Source, body: list[ast.stmt]) -> Iterator[Finding]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            decorators = {ast.unparse(each).rpartition(".")[2] for each in node.decorator_list}
            if ast.get_docstring(node) is None and not decorators & {"overload", "override", "setter", "deleter"}:
                yield source.finding(node, f"{node.name} has no docstring")
            if isinstance(node, ast.ClassDef):
                yield from _without_docstring(source, node.body)


def test_names_are_sentences(source: Source) -> Iterator[Finding]:
    """The name of a test says what holds, in at least three words."""
    if source.folder == "tests":
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
                words = [word for word in node.name.removeprefix("test").split("_") if word]
                if len(words) < NAME_WORDS:
                    yield source.finding(node, f"{node.name} is no sentence: say what holds")


def words_are_clean(source: Source) -> Iterator[Finding]:
    """No unfinished business, no trace of a machine or of how the work was organised."""
    for number, line in enumerate(source.text.splitlines(), 1):
        for pattern, why in FORBIDDEN.items():
            if found := re.search(pattern, line):
                yield Finding(source.path, number, f"{found[0]!r}: {why}")


def no_import_cycles(all_sources: Iterable[Source]) -> Iterator[Finding]:
    """Modules do not import each other in a ring when they are loaded."""
    graph = {s.module: {i.module: i.line for i in s.imports() if not i.lazy} for s in all_sources}
    paths = {s.module: s.path for s in all_sources}
    finished: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> Iterator[Finding]:
        for target, line in graph[module].items():
            if target in way:
                ring = " -> ".join([*way[way.index(target) :], target])
                yield Finding(paths[module], line, f"import cycle {ring}")
            elif target in graph and target not in finished:
                yield from visit(target, (*way, target))
        finished.add(module)

    for module in graph:
        if module not in finished:
            yield from visit(module, (module,))


RULES = (
    imports_run_one_way,
    the_core_is_pure,
    files_are_short,
    functions_are_short,
    own_state_is_checked_by_raises,
    only_the_command_line_prints,
    tests_do_not_sleep,
    annotations_are_postponed,
    public_things_have_docstrings,
    test_names_are_sentences,
    words_are_clean,
)
