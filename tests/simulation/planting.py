"""Plants a defect: replaces a function by its qualified name, wherever it is known, for the time of a ``with``.

``from``-imports copy a function into the namespace of the importing module; such copies are replaced, too. Where the
name itself means such a copy (``behaviours.candidate:has_quorum``), only that one is: the defect is in what its module
does with it. A name that is gone fails loudly: a defect that can no longer be planted proves nothing.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock


@contextmanager
def planted(name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """Replace ``package.module:Class.function`` by ``make(original)``."""
    module_name, _, path = name.partition(":")
    owner: Any = importlib.import_module(module_name)
    *parents, last = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = owner.__dict__[last]  # a KeyError if the name is gone
    function = original.__func__ if isinstance(original, staticmethod | classmethod) else original
    replacement = make(function)
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(owner, last, replacement))
        if not parents and original.__module__ == module_name:
            for holder, copy in copies(original):
                stack.enter_context(mock.patch.object(holder, copy, replacement))
        yield


def copies(original: object) -> list[tuple[Any, str]]:
    """Every module of ours that holds ``original`` under some name."""
    return [
        (module, name)
        for module_name, module in sorted(sys.modules.items())
        if module_name.startswith(("raft_actors", "storage_adapters"))
        for name, value in sorted(vars(module).items())
        if value is original and module is not None
    ]
