"""Decide whether a history of appends to, and reads of, one list is linearizable: exact, and in n log n.

Rule: appended values are unique, so a read says the whole order before it. If there is any order that explains the
history, it goes through fixed *levels*, because all reads must be prefixes of the longest one ``x1 .. xk``::

    0: reads of []   1: append x1   2: reads of [x1]   3: append x2  ..  2k: reads of [x1 .. xk]   2k+1: never read

Certain appends that no read shows come last: had one been before a read, that read would show it. (Where nothing was
read, anything goes.) An unknown append that no read shows did not happen; one that is shown did. Within a level any
order will do. So the history is linearizable if, and only if,

1. no read holds a value twice, or one that was not appended;
2. all reads are prefixes of the longest;
3. no operation of a higher level returned before one of a lower level was called.

Each rule that is broken gives at most four operations that show it. Reads are cut to the values that matter there: a
list seen through a few of its values is a list too, so the cut history fails by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raft_actors.testing.history import Finding, Operation, describe, freeze

__all__ = ["find_violation"]


@dataclass(frozen=True, slots=True)
class _List:
    """The history of one list, sorted."""

    appends: dict[Any, Operation]
    failed: dict[Any, Operation]
    reads: list[Operation]
    longest: Sequence[Any]
    whole: Operation | None


def find_violation(operations: Iterable[Operation]) -> Finding | None:
    """Find operations on one list that no order explains.

    Args:
        operations: all operations of one key, checked.

    Returns:
        What was found, or ``None`` if the history is linearizable.

    Raises:
        ValueError: one value was appended twice by operations that may have had effect.
    """
    history = _sorted(operations)
    return find_phantom(history) or find_fork(history) or find_disorder(history)


def _sorted(operations: Iterable[Operation]) -> _List:
    appends: dict[Any, Operation] = {}
    failed: dict[Any, Operation] = {}
    reads: list[Operation] = []
    for op in operations:
        if op.op == "read":
            if op.status == "ok":
                reads.append(op)
            continue
        value = freeze(op.value)
        if op.status == "fail":
            failed[value] = op
        elif value in appends:
            raise ValueError(f"value: {op.value!r} is appended twice to key {op.key!r}; the values must be unique")
        else:
            appends[value] = op
    whole = max(reads, key=lambda op: len(op.output), default=None)
    return _List(appends, failed, reads, list(whole.output) if whole else [], whole)


def find_phantom(history: _List) -> Finding | None:
    """Rule 1, for the longest read and for those that are no prefix of it (a prefix is as good as the whole)."""
    suspects = [history.whole] if history.whole else []
    for read in suspects + [read for read in history.reads if not _is_prefix(read, history)]:
        values = [freeze(value) for value in read.output]
        known: set[Any] = set()
        for value, shown in zip(values, read.output, strict=True):
            if value in known:
                return _finding(f"{shown!r} was read twice in one list", [history.appends[value], read], [value])
            if value not in history.appends:
                writers = [history.failed[value]] if value in history.failed else []
                why = "although its append certainly failed" if writers else "but never appended"
                return _finding(f"{shown!r} was read {why}", [*writers, read], [value])
            known.add(value)
    return None


def _is_prefix(read: Operation, history: _List) -> bool:
    return history.longest[: len(read.output)] == list(read.output)


def find_fork(history: _List) -> Finding | None:
    """Rule 2; if one of the two reads is wrong by itself, then that."""
    whole = history.whole
    for read in history.reads:
        if whole is None or _is_prefix(read, history):
            continue
        for alone in (read, whole):
            finding = find_disorder(replace(history, reads=[alone], longest=alone.output, whole=alone))
            if finding is not None:
                return finding
        mine, other = next((a, b) for a, b in zip(read.output, whole.output, strict=False) if a != b)
        values = [freeze(mine), freeze(other)]
        appends = [history.appends[value] for value in values]
        return _finding("two reads disagree on the order of the list", [*appends, whole, read], values)
    return None


def find_disorder(history: _List) -> Finding | None:
    """Rule 3, from the highest level down, remembering who of the levels above returned first."""
    if not history.reads:
        return None
    longest = [freeze(value) for value in history.longest]
    levels: list[list[Operation]] = [[] for _ in range(2 * len(longest) + 2)]
    for index, value in enumerate(longest):
        levels[2 * index + 1].append(history.appends[value])
    for read in history.reads:
        levels[2 * len(read.output)].append(read)
    shown = set(longest)
    levels[-1] = [op for value, op in history.appends.items() if value not in shown and op.status == "ok"]
    first, first_ret = None, math.inf
    for level in reversed(levels):
        for op in level:
            if first is not None and first_ret < op.call:
                return _explain_disorder(op, first, history, longest)
        for op in level:
            ret = _ret(op)
            if ret < first_ret:
                first, first_ret = op, ret
    return None


def _ret(op: Operation) -> float:
    return math.inf if op.ret is None or op.status == "unknown" else op.ret


def _explain_disorder(later: Operation, earlier: Operation, history: _List, longest: Sequence[Any]) -> Finding:
    """Say what is wrong when ``earlier`` returned before ``later`` was called, but belongs after it."""
    if later.op == "append" and earlier.op == "append":
        values = [freeze(later.value), freeze(earlier.value)]
        place = longest.index(values[0]) + 1
        if values[1] in longest:
            place = max(place, longest.index(values[1]) + 1)
        witness = min((r for r in history.reads if len(r.output) >= place), key=lambda r: len(r.output))
        reason = f"{earlier.value!r} was acknowledged before the append of {later.value!r} began, but is not before it"
        return _finding(reason, [earlier, later, witness], values)
    if later.op == "append":
        reason = f"{later.value!r} was read before its append began"
        return _finding(reason, [earlier, later], [freeze(later.value)])
    if earlier.op == "append":
        missing = "a later read lacks it" if freeze(earlier.value) in longest else "no read shows it"
        reason = f"{earlier.value!r} was acknowledged, but {missing}"
        return _finding(reason, [earlier, later], [freeze(earlier.value)])
    value = longest[len(later.output)]
    reason = "a read went back to an older state"
    return _finding(reason, [history.appends[value], earlier, later], [value])


def _finding(reason: str, operations: Sequence[Operation], values: Sequence[Any]) -> Finding:
    """Cut the reads to the values that matter, and mark in their labels where something was left out."""
    cut, labels = [], []
    for op in operations:
        if op.op == "append":
            cut.append(op)
            labels.append(describe(op))
            continue
        kept = [value for value in op.output if freeze(value) in values]
        cut.append(replace(op, output=kept))
        labels.append(_read_label(op, kept, values))
    return Finding(reason, cut, labels)


def _read_label(op: Operation, kept: Sequence[Any], values: Sequence[Any]) -> str:
    if len(kept) == len(op.output):
        return describe(op)
    parts: list[str] = []
    for value in op.output:
        part = repr(value) if freeze(value) in values else ".."
        if part != ".." or parts[-1:] != [".."]:
            parts.append(part)
    return f"read -> [{', '.join(parts)}] (of {len(op.output)})"
