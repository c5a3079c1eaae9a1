"""``python -m tests.mutants FILE ...``: small changes of our own code that no test of its rules notices.

A *mutant* is a file with one comparison turned, one operand dropped, one ``if`` never taken, one argument left out.
Each is tested in a process of its own, in random but fixed order, until the first test fails. One that lives is
printed: either nothing follows from the change, or a test is missing. It takes seconds for each, and hours for all:

    python -m tests.mutants --part 1/2 --seconds 1200 raft_actors/behaviours/voting.py raft_actors/behaviours/reads.py

``--tests PATH ...`` runs other tests. Exit status: 0 all died, 1 some live.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.util
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

TESTS = ("tests/protocol", "tests/behaviours", "tests/paper", "tests/regressions", "tests/scenarios")
PATIENCE = 120.0
"""Seconds after which a mutant that hangs is ended, and counts as dead."""
ANYTHING_ELSE: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
}
"""Operators, and what takes their place."""


class Mutant(NamedTuple):
    """A file with one change.

    Attributes:
        path: the file, from the top of the checkout.
        line: where.
        change: what.
        source: all of it.
    """

    path: str
    line: int
    change: str
    source: str


Change = tuple[str, Callable[[], object]]
"""What it is, and what makes it."""


def changes(node: ast.AST) -> Iterator[Change]:
    """Everything that can be done to one node."""
    match node:
        case ast.Compare():
            for place, operator in enumerate(node.ops):
                yield _turned(operator, lambda new, place=place: node.ops.__setitem__(place, new))
        case ast.BoolOp():
            yield _turned(node.op, lambda new: setattr(node, "op", new))
            for place, value in enumerate(node.values):
                yield f"without: {ast.unparse(value)}", lambda place=place: node.values.pop(place)
        case ast.BinOp() if type(node.op) in ANYTHING_ELSE:
            yield _turned(node.op, lambda new: setattr(node, "op", new))
        case ast.UnaryOp(op=ast.Not()):
            yield "without not", lambda: setattr(node, "operand", ast.UnaryOp(ast.Not(), node.operand))
        case ast.Constant(value=bool()):
            yield f"{not node.value}", lambda: setattr(node, "value", not node.value)
        case ast.Constant(value=int()):
            yield f"{node.value + 1}", lambda: setattr(node, "value", node.value + 1)
        case ast.If(orelse=[]):
            yield f"never: {ast.unparse(node.test)}", lambda: setattr(node, "test", ast.Constant(False))
        case ast.IfExp():
            for always in (True, False):
                yield f"always {always}", lambda always=always: setattr(node, "test", ast.Constant(always))
        case ast.Call(func=ast.Name(id="min" | "max" as name)):
            yield "min for max, or max for min", lambda: setattr(node.func, "id", "max" if name == "min" else "min")
            yield from _left_out(node)
        case ast.Call():
            yield from _left_out(node)


def _turned(operator: ast.AST, put: Callable[[Any], object]) -> Change:
    new = ANYTHING_ELSE[type(operator)]
    return f"{new.__name__} for {type(operator).__name__}", lambda: put(new())


def _left_out(call: ast.Call) -> Iterator[Change]:
    for place, keyword in enumerate(call.keywords):
        if keyword.arg is not None:
            yield f"without {keyword.arg}=", lambda place=place: call.keywords.pop(place)


def mutants(path: str, source: str) -> Iterator[Mutant]:
    """Every mutant of a file."""
    count = sum(1 for node in ast.walk(ast.parse(source)) for _ in changes(node))
    for number in range(count):
        tree = ast.parse(source)
        every = ((node, change) for node in ast.walk(tree) for change in changes(node))
        node, (what, make) = next(one for place, one in enumerate(every) if place == number)
        make()
        yield Mutant(path, getattr(node, "lineno", 0), what, ast.unparse(ast.fix_missing_locations(tree)))


class _Source(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets one module be a mutant."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._module = mutant.path.removesuffix(".py").replace("/", ".")

    def find_spec(self, name: str, path: object, target: object = None) -> Any:
        """As importlib wants it."""
        place = str(Path(self._mutant.path).resolve())
        return importlib.util.spec_from_file_location(name, place, loader=self) if name == self._module else None

    def exec_module(self, module: ModuleType) -> None:
        """As importlib wants it."""
        exec(compile(self._mutant.source, self._mutant.path, "exec"), module.__dict__)


def lives(mutant: Mutant, tests: Sequence[str]) -> bool:
    """Whether no test fails; in a process of its own, which has imported nothing of ours yet."""
    child = multiprocessing.get_context("fork").Process(target=_try, args=(mutant, tests))
    child.start()
    child.join(PATIENCE)
    if child.exitcode is None:
        child.kill()
        child.join()
    return child.exitcode == 0


def _try(mutant: Mutant, tests: Sequence[str]) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.meta_path.insert(0, _Source(mutant))
    os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests])))


def main(words: Sequence[str]) -> int:
    """Try them, and print those that live."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--tests", nargs="+", default=TESTS, metavar="PATH")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="the K-th of N parts of the mutants")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no more after that")
    args = parser.parse_args(words)
    part, parts = map(int, args.part.split("/"))
    every = [mutant for path in args.files for mutant in mutants(path, Path(path).read_text())]
    random.Random(1).shuffle(every)
    until, tried, living = time.monotonic() + args.seconds, 0, 0
    for mutant in every[part - 1 :: parts]:
        if time.monotonic() >= until:
            break
        tried += 1
        if lives(mutant, args.tests):
            living += 1
            print(f"{mutant.path}:{mutant.line}: {mutant.change}", flush=True)
    print(f"{tried} of {len(every)} mutants, {living} live")
    return 1 if living else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
